//! `sterna serve`: models behind an OpenAI-compatible API, for many agents at once.
//!
//! [`keys`] reads who may ask; [`sizes`] what an engine may use; [`open`] makes one of a model;
//! [`sockets`] lets many connect; [`logs`] and [`otel`] say what happens; [`reload`] reads files
//! that changed.

mod disk;
mod keys;
mod logs;
mod open;
mod otel;
mod reload;
pub(super) mod sizes;
mod sockets;

use crate::compute::ComputeArgs;
use crate::interrupt;
use crate::show::bad_input;
use anyhow::Context;
use disk::DiskArgs;
use sizes::SizeArgs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use sterna_engine::Handle;
use sterna_server::{Incoming, Keys, Options, Served, Tls, Traces};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tracing::{info, warn};

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
  sterna serve model.gguf --kv-disk-size 10GB --kv-disk /var/cache/sterna-kv
  sterna serve model.gguf --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem --api-key-file keys
  curl localhost:8000/v1/completions -d '{\"prompt\":\"Once upon a time\"}'

Open http://127.0.0.1:8000 in a browser for the dashboard and a playground. SIGTERM ends it when
all requests are answered; SIGHUP makes it read --api-key-file and --tls-cert again. With
OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:4318 it sends a span per request there.")]
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
    /// Serve HTTPS with this certificate, a PEM file; those that signed it follow in the same file.
    #[arg(long, visible_aliases = ["ssl-certfile", "ssl-cert-file"], requires = "tls_key",
          value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, a PEM file.
    #[arg(long, visible_aliases = ["ssl-keyfile", "ssl-key-file"], requires = "tls_cert",
          value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Let web pages of this origin ask, such as https://app.example; may be given several times,
    /// and * is all.
    #[arg(long, value_name = "ORIGIN")]
    cors_origin: Vec<String>,
    /// Agents that /metrics shows by name, the first that come; all others are one.
    #[arg(long, default_value_t = 0, value_name = "N")]
    metrics_agents: usize,
    /// How the log is written.
    #[arg(long, value_enum, default_value_t = logs::Format::Text)]
    log_format: logs::Format,
    /// What is logged: off, error, warn, info, debug or trace, also for a part of the program, as
    /// in warn,sterna::access=info.
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "LEVEL")]
    log_level: String,
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
    disk: DiskArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// An engine that runs.
struct Engine {
    handle: Handle,
    thread: std::thread::JoinHandle<()>,
}

/// Runs the command.
///
/// # Errors
/// When a model cannot be run, a setting is out of range, or the address cannot be used.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    logs::start(args.log_format, &args.log_level)?;
    let models: Vec<&Path> = args.models.iter().chain(&args.model).map(PathBuf::as_path).collect();
    if models.len() > 1 && !args.alias.is_empty() {
        return Err(bad_input("--alias names one model, but there are several"));
    }
    let mut options = args.options()?;
    let tls = args.tls()?;
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
        let (mut model, engine) = open::open(path, &args.compute, &sizes, &args.disk)?;
        model.aliases.clone_from(&args.alias);
        model.chat_template = template.clone().or(model.chat_template);
        served.push(model);
        engines.push(engine);
    }
    sockets::allow_many();
    runtime.spawn(args.files(&options, tls.as_ref()).follow());
    announce(&listener, &served, &options, tls.is_some())?;
    let spans = spans(&runtime, &mut options);
    let router = sterna_server::router(served, options).map_err(|e| bad_input(e.to_string()))?;
    let handles: Vec<Handle> = engines.iter().map(|engine| engine.handle.clone()).collect();
    let incoming = Incoming::new(listener, tls);
    let client_timeout = args.client_timeout()?;
    runtime.block_on(sterna_server::serve(incoming, router, client_timeout, stop(handles)));
    if let Some(spans) = spans {
        // The last ones are on their way; a collector that does not answer is not waited for.
        let _ = runtime.block_on(async { tokio::time::timeout(LAST_SPANS, spans).await });
    }
    for engine in engines {
        // Dropped, so that the thread sees that nobody can ask any more.
        drop(engine.handle);
        engine.thread.join().map_err(|_| anyhow::anyhow!("an engine's thread panicked"))?;
    }
    info!("all requests are answered; bye");
    Ok(ExitCode::SUCCESS)
}

/// What a collector of spans may take for the last ones.
const LAST_SPANS: Duration = Duration::from_secs(5);

impl Args {
    fn options(&self) -> anyhow::Result<Options> {
        let keys = keys::read(&self.api_key, self.api_key_file.as_deref())?;
        for origin in &self.cors_origin {
            let check = sterna_server::check_origin(origin);
            check.map_err(|why| bad_input(format!("--cors-origin: {why}")))?;
        }
        Ok(Options {
            keys: Keys::new(keys),
            cors_origins: self.cors_origin.clone(),
            metrics_agents: self.metrics_agents,
            strict: self.strict,
            body_timeout: self.client_timeout()?,
            tool_call_parser: self.tool_call_parser.clone(),
            ..Options::default()
        })
    }

    fn tls(&self) -> anyhow::Result<Option<Tls>> {
        let Some((cert, key)) = self.tls_cert.as_ref().zip(self.tls_key.as_ref()) else {
            return Ok(None);
        };
        Tls::open(cert, key).map(Some).map_err(|error| bad_input(error.to_string()))
    }

    /// What may change while it runs.
    fn files(&self, options: &Options, tls: Option<&Tls>) -> reload::Files {
        reload::Files {
            keys: options.keys.clone(),
            flags: self.api_key.clone(),
            key_file: self.api_key_file.clone(),
            tls: tls.cloned(),
        }
    }

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
fn announce(
    listener: &TcpListener,
    served: &[Served],
    options: &Options,
    is_secure: bool,
) -> anyhow::Result<()> {
    let address = listener.local_addr().context("the socket has no address")?;
    for model in served {
        info!("{}: {}", model.name, model.describe);
    }
    if options.keys.is_empty() && !address.ip().is_loopback() {
        warn!("anybody who reaches {address} can use it; --api-key asks for a key");
    } else if !is_secure && !address.ip().is_loopback() {
        warn!("keys and prompts travel to {address} in plain text; --tls-cert secures them");
    }
    let version = env!("CARGO_PKG_VERSION");
    info!(version, models = served.len(), keys = options.keys.len(), "serving");
    // On standard output, for programs that start this one and have to know the port.
    println!("listening at {}://{address}", if is_secure { "https" } else { "http" });
    Ok(())
}

/// Begins to send spans, if the environment says where to.
fn spans(runtime: &Runtime, options: &mut Options) -> Option<JoinHandle<()>> {
    let variable = |name: &str| std::env::var(name).ok();
    let export = match otel::Export::read(&variable, &mut |warning| warn!("{warning}")) {
        Ok(export) => export?,
        Err(why) => {
            warn!("{why}");
            return None;
        }
    };
    info!("a span per request goes to {}", export.endpoint());
    let (traces, collected) = Traces::new();
    options.traces = Some(traces);
    Some(runtime.spawn(export.run(collected)))
}

/// Waits for Ctrl-C or SIGTERM, and lets the engines finish what they have; a second one ends at
/// once.
async fn stop(handles: Vec<Handle>) {
    interrupt::signal().await;
    let n_open: usize = handles.iter().map(Handle::n_open).sum();
    info!("stopping: {n_open} requests are finished first; press Ctrl-C to end at once");
    for handle in handles {
        handle.drain();
    }
    tokio::spawn(async {
        interrupt::signal().await;
        std::process::exit(130);
    });
}
