//! `sterna serve`: models behind an OpenAI-compatible API, for many agents at once.
//!
//! [`keys`] reads who may ask; [`sizes`] what an engine may use; [`open`] makes one of a model;
//! [`sockets`] lets many connect.

mod keys;
mod open;
pub(super) mod sizes;
mod sockets;

use crate::compute::ComputeArgs;
use crate::show::bad_input;
use anyhow::Context;
use sizes::SizeArgs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::JoinHandle;
use std::time::Duration;
use sterna_engine::Handle;
use sterna_server::{Options, Served};
use tokio::net::TcpListener;

/// Serve models to many agents at once, as OpenAI's API does.
///
/// A prefix that requests share, such as a system prompt, is read once for all of them, also while
/// the first of them is still being answered. All sequences are computed together in one batch per
/// step. The same request with the same seed, or at temperature 0, has the same answer whatever
/// else runs.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  sterna serve model.gguf                     at http://127.0.0.1:8000
  sterna serve model.gguf --port 11434 --alias llama3,default
  sterna serve model.gguf --kv-cache-dtype q8_0 --kv-size 4GB --parallel 256
  curl localhost:8000/v1/completions -d '{\"prompt\":\"Once upon a time\"}'

Open http://127.0.0.1:8000 in a browser for the dashboard and a playground.")]
pub struct Args {
    /// The models; each is called as its file without the ending.
    #[arg(value_name = "MODEL", required_unless_present = "model")]
    models: Vec<PathBuf>,
    /// A model, as a flag.
    #[arg(short, long, value_name = "MODEL")]
    model: Vec<PathBuf>,
    /// Other names for the model, by commas; only where there is one model.
    #[arg(long, visible_alias = "served-model-name", value_delimiter = ',', value_name = "NAME")]
    alias: Vec<String>,
    /// The address to listen at. Whoever can reach it can use it: give --api-key beyond 127.0.0.1.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The port; 0 takes a free one, which is printed.
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// A key that clients must send as `Authorization: Bearer KEY`; may be given several times.
    #[arg(long, env = "STERNA_API_KEY", hide_env_values = true, value_name = "KEY")]
    api_key: Vec<String>,
    /// A file of keys, one per line.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// A file with a Jinja chat template, instead of the model's own.
    #[arg(long, value_name = "FILE")]
    chat_template_file: Option<PathBuf>,
    /// The form in which the models call tools: hermes, mistral, llama3_json or json [default: what
    /// each model's chat template shows].
    #[arg(long, value_name = "NAME")]
    tool_call_parser: Option<String>,
    /// Refuse requests with unknown parameters, instead of listing them under `warnings`.
    #[arg(long)]
    strict: bool,
    /// How long a client may take to send a request, and to read some of its answer; then its
    /// connection is closed. Connections that wait for a next request are kept for as long.
    #[arg(long, default_value = "60s", value_name = "TIME")]
    client_timeout: String,
    #[command(flatten)]
    sizes: SizeArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// An engine that runs.
struct Engine {
    handle: Handle,
    thread: JoinHandle<()>,
}

/// Runs the command.
///
/// # Errors
/// When a model cannot be run, a setting is out of range, or the address cannot be used.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let models: Vec<&Path> = args.models.iter().chain(&args.model).map(PathBuf::as_path).collect();
    if models.len() > 1 && !args.alias.is_empty() {
        return Err(bad_input("--alias names one model, but there are several"));
    }
    let api_keys = keys::read(&args.api_key, args.api_key_file.as_deref())?;
    let body_timeout = args.client_timeout()?;
    let options = Options {
        api_keys,
        tool_call_parser: args.tool_call_parser.clone(),
        strict: args.strict,
        body_timeout,
        ..Options::default()
    };
    let sizes = args.sizes.read()?;
    let template = args.template()?;
    // A port that is taken should be said before a model is read.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("sterna-http")
        .enable_all()
        .build()
        .context("the system starts no threads for HTTP")?;
    let address = (args.host.as_str(), args.port);
    let listener = runtime.block_on(TcpListener::bind(address)).with_context(|| {
        format!("cannot listen at {}:{}; --port takes another port", args.host, args.port)
    })?;
    let (mut served, mut engines) = (Vec::new(), Vec::new());
    for path in models {
        let (mut model, engine) = open::open(path, &args.compute, &sizes)?;
        model.aliases.clone_from(&args.alias);
        model.chat_template = template.clone().or(model.chat_template);
        served.push(model);
        engines.push(engine);
    }
    sockets::allow_many();
    announce(&listener, &served, &options)?;
    let router = sterna_server::router(served, options).map_err(|e| bad_input(e.to_string()))?;
    let handles: Vec<Handle> = engines.iter().map(|engine| engine.handle.clone()).collect();
    runtime.block_on(sterna_server::serve(listener, router, body_timeout, stop(handles)));
    for engine in engines {
        // Dropped, so that the thread sees that nobody can ask any more.
        drop(engine.handle);
        engine.thread.join().map_err(|_| anyhow::anyhow!("an engine's thread panicked"))?;
    }
    eprintln!("all requests are answered; bye");
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn client_timeout(&self) -> anyhow::Result<Duration> {
        let time = sterna_optimize::budget::parse_duration(&self.client_timeout)?;
        if time.is_zero() {
            let why = "--client-timeout 0s leaves clients no time; give them some, such as 60s";
            return Err(bad_input(why));
        }
        Ok(time)
    }

    fn template(&self) -> anyhow::Result<Option<String>> {
        let read = |file: &PathBuf| {
            std::fs::read_to_string(file)
                .map_err(|error| bad_input(format!("{}: {error}", file.display())))
        };
        self.chat_template_file.as_ref().map(read).transpose()
    }
}

/// Says where the server is and what it serves.
fn announce(listener: &TcpListener, served: &[Served], options: &Options) -> anyhow::Result<()> {
    let address = listener.local_addr().context("the socket has no address")?;
    for model in served {
        eprintln!("{}: {}", model.name, model.describe);
    }
    if options.api_keys.is_empty() && !address.ip().is_loopback() {
        eprintln!("warning: anybody who reaches {address} can use it; --api-key asks for a key");
    }
    println!("listening at http://{address}");
    Ok(())
}

/// Waits for Ctrl-C or SIGTERM, and lets the engines finish what they have; a second one ends at
/// once.
async fn stop(handles: Vec<Handle>) {
    signal().await;
    let n_open: usize = handles.iter().map(Handle::n_open).sum();
    eprintln!("\nstopping: {n_open} requests are finished first; press Ctrl-C to end at once");
    for handle in handles {
        handle.drain();
    }
    tokio::spawn(async {
        signal().await;
        std::process::exit(130);
    });
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

#[cfg(not(unix))]
async fn signal() {
    let _ = tokio::signal::ctrl_c().await;
}
