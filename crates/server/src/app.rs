//! The router, and the settings that hold for all routes; `routes.rs` is the map of them.
//!
//! In: who has the models, and [`Options`]. Out: a [`Router`], which [`crate::serve`] puts on a
//! socket.

use crate::agents::Agents;
use crate::body::Room;
use crate::fresh::Fresh;
use crate::health::Probed;
use crate::keys::{self, Keys, Owner};
use crate::metrics::Named;
use crate::model::Model;
use crate::models::Models;
use crate::process::Busy;
use crate::reasoning::Form;
use crate::responses::Store;
use crate::traces::Traces;
use crate::{calls, cors, edge, reasoning, routes};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::HeaderMap;
use axum::middleware::from_fn_with_state;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;

/// Bodies of the largest size that there may be at once.
const BODIES_AT_ONCE: usize = 4;

/// Settings of a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Keys that may ask; none means that anybody may.
    pub keys: Keys,
    /// Hosts whose web pages may ask, as [`crate::check_origin`] has them.
    pub cors_origins: Vec<String>,
    /// The name that it listens at, where that is this machine's own: whoever asks without a key
    /// must ask for it, or for a name that always means this machine.
    pub loopback_name: Option<String>,
    /// Agents that metrics show by name; with 0, metrics say nothing of agents.
    pub metrics_agents: usize,
    /// Who collects requests that are over.
    pub traces: Option<Traces>,
    /// Larger bodies are refused. Those of all requests under way may take four times as much.
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
    /// How models write their thoughts, by a name of a form of theirs; `none` leaves them in
    /// the text. Otherwise each model's chat template says how.
    pub reasoning_parser: Option<String>,
    /// How long `/health/ready` waits for its token.
    pub ready_timeout: Duration,
    /// Memory that the process may have, where that is known; of it `/api/v1/batch/metrics` says
    /// how much is in use.
    pub memory_limit_bytes: Option<u64>,
    /// The agents that are known, and what they may.
    pub agents: Arc<Agents>,
    /// The time of day.
    pub now: fn() -> SystemTime,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keys: Keys::default(),
            cors_origins: Vec::new(),
            loopback_name: None,
            metrics_agents: 0,
            traces: None,
            max_body_bytes: 32 << 20,
            strict: false,
            max_choices: 512,
            body_timeout: Duration::from_secs(60),
            max_stored_responses: 1_000,
            max_stored_bytes: 64 << 20,
            tool_call_parser: None,
            reasoning_parser: None,
            ready_timeout: Duration::from_secs(30),
            memory_limit_bytes: None,
            agents: Arc::default(),
            now: system_time,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock that others take")]
fn system_time() -> SystemTime {
    SystemTime::now()
}

/// Options that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OptionsError {
    /// A form of calls that is not known.
    #[error("there is no tool call parser `{0}`; there are {known}", known = known_parsers())]
    ToolCallParser(String),
    /// A form of thoughts that is not known.
    #[error("there is no reasoning parser `{0}`; there are {known}", known = known_forms())]
    ReasoningParser(String),
}

fn known_parsers() -> String {
    calls::FORMATS.iter().map(|format| format.name()).collect::<Vec<_>>().join(", ")
}

fn known_forms() -> String {
    reasoning::names().collect::<Vec<_>>().join(", ")
}

/// What handlers share.
pub struct App {
    /// Who has the models.
    pub models: Arc<dyn Models>,
    /// Agents that metrics name.
    pub named: Named,
    /// How much it computes.
    pub busy: Busy,
    /// As they were given.
    pub options: Options,
    /// What the bodies of requests take.
    pub bodies: Arc<Room>,
    /// Whether the models answered.
    pub probed: Probed,
    /// Responses that were kept.
    pub responses: Store,
    /// Numbers that do not repeat.
    pub fresh: Fresh,
    /// When serving began.
    pub started: SystemTime,
}

impl App {
    fn new(models: Arc<dyn Models>, options: Options) -> Result<Self, OptionsError> {
        if let Some(name) = &options.tool_call_parser
            && calls::by_name(name).is_none()
        {
            return Err(OptionsError::ToolCallParser(name.clone()));
        }
        if let Some(name) = &options.reasoning_parser
            && !reasoning::names().any(|known| known == name)
        {
            return Err(OptionsError::ReasoningParser(name.clone()));
        }
        let started = (options.now)();
        let (fresh, named, busy) = (Fresh::new(started), Named::default(), Busy::new());
        let responses = Store::new(options.max_stored_responses, options.max_stored_bytes);
        let bodies = Room::new(options.max_body_bytes.saturating_mul(BODIES_AT_ONCE));
        let probed = Probed::default();
        Ok(Self { models, named, busy, options, bodies, probed, responses, fresh, started })
    }

    /// Whose what a request leaves here is: the key's. Where anybody may ask it is everybody's.
    pub fn owner(&self, headers: &HeaderMap) -> Owner {
        let Options { keys, agents, .. } = &self.options;
        let has_key = !keys.is_empty() || agents.of_key(headers).is_some();
        if has_key { keys::given(headers).map(keys::hash) } else { None }
    }

    /// The form in which a model calls tools.
    pub fn call_format(&self, model: &Model) -> &'static dyn calls::Format {
        let named = self.options.tool_call_parser.as_deref().and_then(calls::by_name);
        named.unwrap_or_else(|| calls::of_template(model.template_source()))
    }

    /// How a model writes thoughts, if it does.
    pub fn thought_form(&self, model: &Model) -> Option<&'static Form> {
        let name = self.options.reasoning_parser.as_deref().unwrap_or(reasoning::AUTO);
        reasoning::form(name, model.template_source())
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
/// When an option names what there is not.
pub fn router(models: Arc<dyn Models>, options: Options) -> Result<Router, OptionsError> {
    let max_body_bytes = options.max_body_bytes;
    let app = Arc::new(App::new(models, options)?);
    let add =
        |router: Router<_>, route: &routes::Route| router.route(route.path, (route.handler)());
    Ok(routes::all()
        .fold(Router::new(), add)
        .fallback(edge::no_route)
        .method_not_allowed_fallback(edge::no_method)
        .layer(from_fn_with_state(app.clone(), edge::guard))
        // Outside the guard, which reads bodies.
        .layer(DefaultBodyLimit::max(max_body_bytes))
        .layer(from_fn_with_state(app.clone(), cors::guard))
        .with_state(app))
}
