//! `sterna serve`: models behind an OpenAI-compatible API, for many agents at once.
//!
//! [`config`] reads a file of flags; [`keys`] who may ask; [`models`] says which models there are;
//! [`sizes`] what an engine may use; [`open`] makes one of a model; [`speculate`] says how it
//! guesses; [`sockets`] lets many connect; [`logs`] and [`otel`] say what happens; [`reload`] reads
//! files that changed.

mod config;
mod disk;
mod keys;
mod logs;
mod models;
mod open;
mod otel;
mod reload;
pub(super) mod sizes;
mod sockets;
mod speculate;

use crate::compute::ComputeArgs;
use crate::interrupt::Signals;
use crate::show::{self, bad_input};
use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use disk::DiskArgs;
use open::Loader;
use sizes::{SizeArgs, Sizes};
use speculate::SpeculateArgs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use sterna_fleet::{Eviction, Fleet, KeepAlive};
use sterna_measure::clock::RealClock;
use sterna_measure::machine::Machine;
use sterna_server::{Incoming, Keys, Listed, Models, Options, Status, Tls};
use tokio::net::TcpListener;
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
  sterna serve --models-dir ./models --max-memory 4GB --keep-alive 5m
                                              each is loaded when it is asked for
  sterna serve model.gguf --agents agents.toml --config serve.toml
  sterna serve model.gguf --kv-cache-dtype q8_0 --kv-size 4GB --parallel 256
  sterna serve model.gguf --draft-model small-of-the-same-family.gguf
  sterna serve model.gguf --kv-disk-size 10GB --kv-disk /var/cache/sterna-kv
  sterna serve model.gguf --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem --api-key-file keys
  curl localhost:8000/v1/completions -d '{\"prompt\":\"Once upon a time\"}'

Open http://127.0.0.1:8000 in a browser for the dashboard and a playground. SIGTERM ends it when
all requests are answered; SIGHUP makes it read --api-key-file and --tls-cert again. Built with
--features otel, it sends a span per request to OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:4318.")]
pub struct Args {
    /// The models; each is called as its file without the ending, is loaded at the start, and
    /// stays in memory, unless all of them do not fit --max-memory.
    #[arg(value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// A model, as a flag.
    #[arg(short, long, value_name = "MODEL")]
    model: Vec<PathBuf>,
    /// A folder whose models are loaded when somebody asks for them.
    #[arg(long, env = "STERNA_MODELS_DIR", value_name = "DIR")]
    models_dir: Option<PathBuf>,
    /// Models in memory at once.
    #[arg(long, env = "STERNA_MODELS_MAX", value_name = "N", value_parser = at_least_one())]
    models_max: Option<usize>,
    /// Which model makes room first: the one of the lowest score (of use, agents, age and size;
    /// what several agents use right now is spared for a minute), the least recently used, the
    /// least frequently used, or the first that came.
    #[arg(long, env = "STERNA_MODELS_EVICT", default_value = "score", value_name = "POLICY",
          value_parser = evictions())]
    models_evict: Eviction,
    /// Serve artifacts too whose own evidence misses what was asked of them when they were made;
    /// /v1/models, the log and the metrics then say so.
    #[arg(long)]
    force: bool,
    /// How long a model of --models-dir stays in memory that nobody uses: 5m, 0 for not at all, -1
    /// until its memory is needed [default: 5m].
    #[arg(long, env = "STERNA_KEEP_ALIVE", value_name = "TIME", allow_hyphen_values = true)]
    keep_alive: Option<String>,
    /// Memory for all models together: weights, keys and values, scratch, a draft model, and
    /// answers kept [default: no limit for models named here, the machine's memory with
    /// --models-dir].
    #[arg(long, env = "STERNA_MAX_MEMORY", value_name = "SIZE")]
    max_memory: Option<String>,
    /// A file that says which agents there are: their models, classes, shares, quotas and keys.
    #[arg(long, env = "STERNA_AGENTS", value_name = "FILE")]
    agents: Option<PathBuf>,
    /// A TOML or JSON file with these flags' names as keys; flags and environment variables that
    /// are given win over it.
    #[arg(long, env = "STERNA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Other names for the model, by commas; only where one model is named.
    #[arg(long, visible_alias = "served-model-name", value_delimiter = ',', value_name = "NAME")]
    alias: Vec<String>,
    /// The address to listen at. Whoever can reach it can use it: give --api-key beyond 127.0.0.1.
    #[arg(long, env = "STERNA_HOST", default_value = "127.0.0.1")]
    host: String,
    /// The port; 0 takes a free one, which is printed.
    #[arg(long, env = "STERNA_PORT", default_value_t = 8000)]
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
    /// Let web pages of this origin ask, such as https://app.example, and be asked for by its name;
    /// may be given several times, and * is all. Pages of other origins are refused, and on
    /// 127.0.0.1 without keys all requests that are not for this machine by its own names.
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
    /// How the models write what they think, which answers then have apart: deepseek_r1 (most
    /// models' <think>), mistral, seed_oss or kimi; none leaves it in the text [default: what each
    /// model's chat template shows].
    #[arg(long, visible_alias = "reasoning-format", value_name = "NAME")]
    reasoning_parser: Option<String>,
    /// Refuse requests with unknown parameters, instead of listing them under `warnings`.
    #[arg(long)]
    strict: bool,
    /// How long a client may take to send a request, and to read some of its answer; then its
    /// connection is closed. Connections that wait for a next request are kept for as long.
    #[arg(long, default_value = "60s", value_name = "TIME")]
    client_timeout: String,
    /// The largest body that a request may have; those of all requests under way may take four
    /// times as much.
    #[arg(long, default_value = "32MiB", value_name = "SIZE")]
    max_body: String,
    #[command(flatten)]
    sizes: SizeArgs,
    #[command(flatten)]
    disk: DiskArgs,
    #[command(flatten)]
    speculate: SpeculateArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

fn at_least_one() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u32).range(1..=4096).map(|n| n as usize)
}

fn evictions() -> impl TypedValueParser<Value = Eviction> {
    PossibleValuesParser::new(Eviction::ALL.map(Eviction::name))
        .map(|name| Eviction::by_name(&name).expect("it is one of the names"))
}

/// Runs the command.
///
/// # Errors
/// When a model cannot be run, a setting is out of range, or the address cannot be used.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (args, notes) = config::with_file(args)?;
    logs::start(args.log_format, &args.log_level)?;
    notes.iter().for_each(|note| warn!("{note}"));
    if args.models.len() + args.model.len() != 1 && !args.alias.is_empty() {
        return Err(bad_input("--alias names one model, but there are several, or none"));
    }
    let keep_alive = args.keep_alive.as_deref().map(KeepAlive::parse).transpose();
    let keep_alive = keep_alive.map_err(bad_input)?;
    let n_models = args.models.len() + args.model.len();
    args.speculate.check(if args.models_dir.is_some() { usize::MAX } else { n_models })?;
    let mut options = args.options()?;
    let tls = args.tls()?;
    let loader = args.loader()?;
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
    if is_on_loopback(&listener) {
        options.loopback_name = Some(args.host.clone());
    }
    let fleet = models::start(&args, keep_alive, loader, &options)?;
    sockets::allow_many();
    // Heard before anybody knows that there is something to stop.
    let signals = {
        let _within = runtime.enter();
        args.files(&options, tls.as_ref()).follow();
        Signals::listen()?
    };
    announce(&listener, &fleet, &options, tls.is_some())?;
    let spans = otel::start(&runtime, &mut options);
    let router = sterna_server::router(Arc::new(fleet.clone()), options);
    let router = router.map_err(|error| bad_input(error.to_string()))?;
    let incoming = Incoming::new(listener, tls);
    let client_timeout = args.client_timeout()?;
    let stop = stop(fleet.clone(), signals);
    runtime.block_on(sterna_server::serve(incoming, router, client_timeout, stop));
    if let Some(spans) = spans {
        // The last ones are on their way; a collector that does not answer is not waited for.
        let _ = runtime.block_on(async { tokio::time::timeout(LAST_SPANS, spans).await });
    }
    fleet.end();
    info!("all requests are answered; bye");
    Ok(ExitCode::SUCCESS)
}

/// What a collector of spans may take for the last ones.
const LAST_SPANS: Duration = Duration::from_secs(5);

impl Args {
    fn options(&self) -> anyhow::Result<Options> {
        let keys = keys::read(&self.api_key, self.api_key_file.as_deref())?;
        let agents = self.agents.as_deref().map(sterna_fleet::agents::read).transpose();
        let agents = agents.map_err(|error| bad_input(error.to_string()))?.unwrap_or_default();
        for origin in &self.cors_origin {
            let check = sterna_server::check_origin(origin);
            check.map_err(|why| bad_input(format!("--cors-origin: {why}")))?;
        }
        Ok(Options {
            keys: Keys::new(keys),
            agents: Arc::new(agents),
            cors_origins: self.cors_origin.clone(),
            metrics_agents: self.metrics_agents,
            max_body_bytes: self.max_body()?,
            strict: self.strict,
            body_timeout: self.client_timeout()?,
            tool_call_parser: self.tool_call_parser.clone(),
            reasoning_parser: self.reasoning_parser.clone(),
            memory_limit_bytes: Machine::detect().usable_memory_bytes(),
            ..Options::default()
        })
    }

    fn tls(&self) -> anyhow::Result<Option<Tls>> {
        let Some((cert, key)) = self.tls_cert.as_ref().zip(self.tls_key.as_ref()) else {
            return Ok(None);
        };
        Tls::open(cert, key).map(Some).map_err(|error| bad_input(error.to_string()))
    }

    fn max_memory(&self) -> anyhow::Result<Option<u64>> {
        let text = self.max_memory.as_deref();
        Ok(text.map(sterna_optimize::budget::parse_bytes).transpose()?)
    }

    fn loader(&self) -> anyhow::Result<Loader> {
        let sizes = Sizes { memory_bytes: self.max_memory()?, ..self.sizes.read()? };
        // Embeddings are made of the states before the head.
        let mut compute = self.compute.clone();
        compute.hidden = true;
        compute.logits_rows = Some(sterna_engine::logits_rows(sizes.max_running));
        let (disk, speculate) = (self.disk.clone(), self.speculate.clone());
        let (template, clock) = (self.template()?, RealClock::new());
        let force = self.force;
        Ok(Loader { compute, sizes, disk, speculate, template, force, clock })
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

    fn max_body(&self) -> anyhow::Result<usize> {
        match sterna_optimize::budget::parse_bytes(&self.max_body)? {
            0 => Err(bad_input("--max-body 0 lets nobody ask; give it a size, such as 32MiB")),
            n_bytes => Ok(usize::try_from(n_bytes)?),
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

/// Whether only this machine reaches it.
fn is_on_loopback(listener: &TcpListener) -> bool {
    listener.local_addr().is_ok_and(|address| address.ip().is_loopback())
}

/// Says where the server is and what it serves.
fn announce(
    listener: &TcpListener,
    fleet: &Fleet,
    options: &Options,
    is_secure: bool,
) -> anyhow::Result<()> {
    let address = listener.local_addr().context("the socket has no address")?;
    for model in fleet.ready() {
        info!("{}: {}", model.served.name, model.served.describe);
    }
    let models = fleet.list();
    for model in models.iter().filter(|model| model.failure.is_some()) {
        let why = model.failure.as_deref().unwrap_or_default();
        warn!("model `{}` cannot be served: {why}", model.name);
    }
    warn_of_large(fleet, &models);
    let n_away = models.iter().filter(|m| m.status == Status::Unloaded && m.failure.is_none());
    match n_away.count() {
        0 => {}
        n => info!("{n} models are loaded when somebody asks for them"),
    }
    if options.keys.is_empty() && !address.ip().is_loopback() {
        warn!("anybody who reaches {address} can use it; --api-key asks for a key");
    } else if !is_secure && !address.ip().is_loopback() {
        warn!("keys and prompts travel to {address} in plain text; --tls-cert secures them");
    }
    let version = env!("CARGO_PKG_VERSION");
    let agents = options.agents.all().count();
    info!(version, models = models.len(), agents, keys = options.keys.len(), "serving");
    // On standard output, for programs that start this one and have to know the port.
    println!("listening at {}://{address}", if is_secure { "https" } else { "http" });
    Ok(())
}

/// Says which models cannot be loaded, whatever else goes.
fn warn_of_large(fleet: &Fleet, models: &[Listed]) {
    let Some(limit) = fleet.stats().limit_bytes else { return };
    let pinned: u64 = models.iter().filter(|model| model.is_pinned).map(Listed::bytes).sum();
    let left = limit.saturating_sub(pinned);
    for model in models.iter().filter(|model| !model.is_pinned && model.bytes() > left) {
        let (name, bytes) = (&model.name, show::bytes(model.bytes()));
        let (limit, pinned) = (show::bytes(limit), show::bytes(pinned));
        warn!(
            "model `{name}` takes {bytes} and does not fit: models may take {limit}, of which \
             those that stay have {pinned}; raise --max-memory, or lower --kv-size or --ctx-size"
        );
    }
}

/// Waits for Ctrl-C or SIGTERM, and lets the engines finish what they have; a second one ends at
/// once.
async fn stop(fleet: Fleet, mut signals: Signals) {
    signals.next().await;
    let n_open = fleet.drain();
    info!("stopping: {n_open} requests are finished first; press Ctrl-C to end at once");
    tokio::spawn(signals.end_at_once());
}
