//! The map of routes, and the settings that hold for all of them.
//!
//! In: models and [`Options`]. Out: a [`Router`], and [`serve`], which puts it on a socket.

use crate::fresh::Fresh;
use crate::keys::Keys;
use crate::model::{Model, Served};
use crate::{
    chat, completions, edge, health, metrics, model, pages, sessions, stats, summary, tokens,
};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};
use axum::serve::ListenerExt;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;
use tokio::net::TcpListener;

/// Settings of a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Keys that may ask; none means that anybody may.
    pub api_keys: Vec<String>,
    /// Larger bodies are refused.
    pub max_body_bytes: usize,
    /// Refuse unknown parameters, as `X-Strict: true` does for one request; otherwise they are
    /// listed in the answer's warnings.
    pub strict: bool,
    /// Answers that one request may ask for: prompts times `n`.
    pub max_choices: usize,
    /// How long `/health/ready` waits for its token.
    pub ready_timeout: Duration,
    /// The time of day.
    pub now: fn() -> SystemTime,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            api_keys: Vec::new(),
            max_body_bytes: 32 << 20,
            strict: false,
            max_choices: 512,
            ready_timeout: Duration::from_secs(30),
            now: system_time,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock that others take")]
fn system_time() -> SystemTime {
    SystemTime::now()
}

/// Models that cannot be served together.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SetupError {
    /// There is none.
    #[error("there is no model to serve; name at least one")]
    NoModel,
    /// A name twice.
    #[error("two models are called `{0}`; give one of them another name or alias")]
    SameName(String),
    /// A chat template that is not one.
    #[error("model `{model}`: its chat template is not valid: {why}; give another one")]
    Template {
        /// The model.
        model: String,
        /// What is wrong with it.
        why: String,
    },
}

/// What handlers share.
pub struct App {
    /// In the order in which they are listed.
    pub models: Vec<Arc<Model>>,
    /// Who may ask.
    pub keys: Keys,
    /// As they were given.
    pub options: Options,
    /// Numbers that do not repeat.
    pub fresh: Fresh,
    /// When serving began.
    pub started: SystemTime,
}

impl App {
    fn new(models: Vec<Served>, options: Options) -> Result<Self, SetupError> {
        if models.is_empty() {
            return Err(SetupError::NoModel);
        }
        let mut names = HashSet::new();
        for name in models.iter().flat_map(|m| std::iter::once(&m.name).chain(&m.aliases)) {
            if !names.insert(name.clone()) {
                return Err(SetupError::SameName(name.clone()));
            }
        }
        let model = |served: Served| {
            let name = served.name.clone();
            let model = Model::new(served, options.now);
            model.map(Arc::new).map_err(|why| SetupError::Template { model: name, why })
        };
        let models = models.into_iter().map(model).collect::<Result<_, _>>()?;
        let started = (options.now)();
        let (keys, fresh) = (Keys::new(&options.api_keys), Fresh::new(started));
        Ok(Self { models, keys, options, fresh, started })
    }

    /// Seconds since 1970.
    pub fn unix_seconds(&self) -> u64 {
        (self.options.now)().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// How long it has been serving.
    pub fn uptime(&self) -> Duration {
        (self.options.now)().duration_since(self.started).unwrap_or_default()
    }
}

/// The routes of these models.
///
/// # Errors
/// When there is no model, two have the same name, or a chat template is not valid.
pub fn router(models: Vec<Served>, options: Options) -> Result<Router, SetupError> {
    let max_body_bytes = options.max_body_bytes;
    let app = Arc::new(App::new(models, options)?);
    Ok(Router::new()
        .route("/v1/completions", post(completions::create))
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/models", get(model::list))
        .route("/v1/models/{*id}", get(model::one))
        .route("/v1/sessions/{id}/fork", post(sessions::fork))
        .route("/v1/sessions/{id}", delete(sessions::end))
        .route("/v1/cache/flush", post(sessions::flush))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/apply-template", post(chat::apply_template))
        .route("/health", get(health::live))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/ping", get(health::live))
        .route("/version", get(health::version))
        .route("/metrics", get(metrics::show))
        .route("/api/v1/stats", get(stats::show))
        .route("/api/v1/batch/metrics", get(summary::show))
        .route("/", get(pages::dashboard))
        .route("/dashboard.js", get(pages::dashboard_script))
        .route("/chat", get(pages::chat))
        .route("/chat.js", get(pages::chat_script))
        .route("/style.css", get(pages::style))
        .fallback(edge::no_route)
        .method_not_allowed_fallback(edge::no_method)
        .layer(DefaultBodyLimit::max(max_body_bytes))
        .layer(from_fn_with_state(app.clone(), edge::guard))
        .with_state(app))
}

/// Serves until `shutdown`; then takes no connections, and returns when those that are open have
/// their answers. [`sterna_engine::Handle::drain`] makes the engines refuse what still comes
/// through them.
///
/// # Errors
/// When the socket fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    // A token is a small packet that must not wait for the next one. A socket that cannot be told
    // so still works.
    let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}
