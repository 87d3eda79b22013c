//! The router, and the settings that hold for all routes; `routes.rs` is the map of them.
//!
//! In: models and [`Options`]. Out: a [`Router`], which [`crate::serve`] puts on a socket.

use crate::fresh::Fresh;
use crate::keys::Keys;
use crate::metrics::Named;
use crate::model::{Model, Served};
use crate::process::Busy;
use crate::responses::Store;
use crate::traces::Traces;
use crate::{calls, cors, edge, routes};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;

/// Settings of a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Keys that may ask; none means that anybody may.
    pub keys: Keys,
    /// Hosts whose web pages may ask, as [`crate::check_origin`] has them.
    pub cors_origins: Vec<String>,
    /// Agents that metrics show by name; with 0, metrics say nothing of agents.
    pub metrics_agents: usize,
    /// Who collects requests that are over.
    pub traces: Option<Traces>,
    /// Larger bodies are refused.
    pub max_body_bytes: usize,
    /// Refuse unknown parameters, as `X-Strict: true` does for one request; otherwise they are
    /// listed in the answer's warnings.
    pub strict: bool,
    /// Answers that one request may ask for: prompts times `n`.
    pub max_choices: usize,
    /// How long a client may take to send a body, from the end of its head.
    pub body_timeout: Duration,
    /// Responses of `/v1/responses` that are kept at once.
    pub max_stored_responses: usize,
    /// Bytes that they may have together.
    pub max_stored_bytes: usize,
    /// The form in which models call tools, by its name in [`crate::calls::FORMATS`]; otherwise
    /// each model's chat template says which.
    pub tool_call_parser: Option<String>,
    /// How long `/health/ready` waits for its token.
    pub ready_timeout: Duration,
    /// The time of day.
    pub now: fn() -> SystemTime,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keys: Keys::default(),
            cors_origins: Vec::new(),
            metrics_agents: 0,
            traces: None,
            max_body_bytes: 32 << 20,
            strict: false,
            max_choices: 512,
            body_timeout: Duration::from_secs(60),
            max_stored_responses: 1_000,
            max_stored_bytes: 64 << 20,
            tool_call_parser: None,
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
    /// A form of calls that is not known.
    #[error("there is no tool call parser `{0}`; there are {known}", known = known_parsers())]
    ToolCallParser(String),
    /// A chat template that is not one.
    #[error("model `{model}`: its chat template is not valid: {why}; give another one")]
    Template {
        /// The model.
        model: String,
        /// What is wrong with it.
        why: String,
    },
}

fn known_parsers() -> String {
    calls::FORMATS.iter().map(|format| format.name()).collect::<Vec<_>>().join(", ")
}

/// What handlers share.
pub struct App {
    /// In the order in which they are listed.
    pub models: Vec<Arc<Model>>,
    /// Agents that metrics name.
    pub named: Named,
    /// How much it computes.
    pub busy: Busy,
    /// As they were given.
    pub options: Options,
    /// Responses that were kept.
    pub responses: Store,
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
        if let Some(name) = &options.tool_call_parser
            && calls::by_name(name).is_none()
        {
            return Err(SetupError::ToolCallParser(name.clone()));
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
        let (fresh, named, busy) = (Fresh::new(started), Named::default(), Busy::new());
        let responses = Store::new(options.max_stored_responses, options.max_stored_bytes);
        Ok(Self { models, named, busy, options, responses, fresh, started })
    }

    /// The form in which a model calls tools.
    pub fn call_format(&self, model: &Model) -> &'static dyn calls::Format {
        let named = self.options.tool_call_parser.as_deref().and_then(calls::by_name);
        let template = model.template.as_ref().map_or("", |template| template.source());
        named.unwrap_or_else(|| calls::of_template(template))
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
    let add =
        |router: Router<_>, route: &routes::Route| router.route(route.path, (route.handler)());
    Ok(routes::all()
        .fold(Router::new(), add)
        .fallback(edge::no_route)
        .method_not_allowed_fallback(edge::no_method)
        .layer(DefaultBodyLimit::max(max_body_bytes))
        .layer(from_fn_with_state(app.clone(), edge::guard))
        .layer(from_fn_with_state(app.clone(), cors::guard))
        .with_state(app))
}
