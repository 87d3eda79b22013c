//! The models that a server has, whoever keeps them in memory, and the routes about them.
//!
//! [`Models`] is all that the server knows of that. Every request that names a model passes
//! [`lease`], which waits until the model is there and holds it until the request is answered; the
//! handlers behind it find the model in memory.

use crate::access::Notes;
use crate::agents::AGENT_HEADER;
use crate::app::App;
use crate::asked::{parameters, with_warnings};
use crate::cache::CacheStats;
use crate::dialect::Dialect;
use crate::errors::ApiError;
use crate::fields::Fields;
use crate::keep_alive::KeepAlive;
use crate::model::{Lease, Model};
use crate::ollama::{self, untag};
use crate::past::Past;
use crate::posted::{LARGE_BODY, Posted, aside};
use crate::tables::LOAD;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use sterna_engine::EngineError;
use tokio::sync::oneshot;

/// A model that will be there, or why it will not. Dropping it ends the wait.
pub type Waiting = oneshot::Receiver<Result<Lease, Unavailable>>;

/// Who keeps models in memory.
pub trait Models: Send + Sync {
    /// All models there are, in memory or not.
    fn list(&self) -> Vec<Listed>;

    /// Those in memory, also while they finish what they have. To have one of these is not to use
    /// it: its engine may end meanwhile.
    fn ready(&self) -> Vec<Arc<Model>>;

    /// Those that are or were in memory, with what they counted.
    fn past(&self) -> Vec<Past>;

    /// Waits for a model, by one of its names, for an agent; for an operator where there is none.
    /// `None` where there is no such model.
    fn want(&self, name: &str, agent: Option<&str>) -> Option<Waiting>;

    /// Lets a model go once it has answered what it has. `false` where it is not in memory.
    fn unload(&self, name: &str) -> bool;

    /// How long a model stays from now on that nobody uses and that is not pinned.
    fn keep(&self, name: &str, keep_alive: KeepAlive);

    /// Keeps a model in memory, or no longer.
    fn pin(&self, name: &str, is_pinned: bool);

    /// Changes the bytes that models may take.
    fn set_limit(&self, bytes: u64);

    /// Counters and gauges of the memory.
    fn stats(&self) -> CacheStats;

    /// Whether the server finishes what it has, and takes nothing new.
    fn is_ending(&self) -> bool;
}

/// Why a model cannot be had, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// It does not fit.
    TooLarge(String),
    /// It could not be loaded.
    Failed(String),
    /// So many wait for it already.
    QueueFull(usize),
}

/// Where a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not in memory.
    Unloaded,
    /// On the way.
    Loading,
    /// In memory.
    Loaded,
    /// Finishing what it has.
    Unloading,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Unloaded, Self::Loading, Self::Loaded, Self::Unloading];

    /// llama.cpp's name, where it has one.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unloaded => "unloaded",
            Self::Loading => "loading",
            Self::Loaded => "loaded",
            Self::Unloading => "unloading",
        }
    }
}

/// Where a model stands by its own evidence, if it carries any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// `none`, `met` or `not_met`.
    pub standing: &'static str,
    /// What is not met, in words.
    pub unmet: Option<String>,
    /// Whether it is served all the same, because somebody asked for that.
    pub is_forced: bool,
}

impl Evidence {
    /// Of a model that claims nothing.
    pub const NONE: Self = Self { standing: "none", unmet: None, is_forced: false };

    fn entry(&self) -> Value {
        let mut entry = json!({ "standing": self.standing, "forced": self.is_forced });
        if let Some(unmet) = &self.unmet {
            entry["unmet"] = unmet.clone().into();
        }
        entry
    }
}

/// A model as it is listed.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Other names.
    pub aliases: Vec<String>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Tokens that a request may have.
    pub context_len: usize,
    /// A sentence about it.
    pub describe: String,
    /// What decides its numbers, as in [`crate::Served`].
    pub fingerprint: String,
    /// Where it stands by its evidence.
    pub evidence: Evidence,
    /// Where it is.
    pub status: Status,
    /// Why it could not be loaded the last time.
    pub failure: Option<String>,
    /// Whether it stays.
    pub is_pinned: bool,
    /// The bytes it takes when it is loaded, by kind.
    pub memory: Vec<(&'static str, u64)>,
    /// When it goes if nobody asks, in seconds since 1970; `None` while nothing makes it go.
    pub expires: Option<u64>,
}

impl Listed {
    /// Its name and its aliases.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.name).chain(&self.aliases)
    }

    /// The bytes it takes when it is loaded.
    pub fn bytes(&self) -> u64 {
        self.memory.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Where it is, and why it could not be loaded the last time, as llama.cpp's router says it.
    pub fn status(&self) -> Value {
        let mut status = json!({ "value": self.status.name() });
        if let Some(why) = &self.failure {
            status["failed"] = true.into();
            status["error"] = why.clone().into();
        }
        status
    }

    /// An entry of OpenAI's list of models, under one of its names.
    fn entry(&self, name: &str) -> Value {
        json!({
            "id": name,
            "object": "model",
            "created": self.created,
            "owned_by": "sterna",
            "root": self.name,
            "max_model_len": self.context_len,
            "description": self.describe,
            "status": self.status(),
            "evidence": self.evidence.entry(),
        })
    }

    /// An entry of llama.cpp's list.
    pub fn in_full(&self) -> Value {
        let mut entry = self.entry(&self.name);
        entry["aliases"] = self.aliases.clone().into();
        entry["pinned"] = self.is_pinned.into();
        entry["memory_bytes"] = self.bytes().into();
        entry
    }
}

/// The name by which an agent gets its own model, or else the only one there is.
const DEFAULT: &str = "default";

/// The model that is meant: the one named, the agent's, or the only one.
///
/// # Errors
/// When several could be meant.
pub fn name_for(app: &App, agent: &str, named: Option<&str>) -> Result<String, ApiError> {
    let own = &app.options.agents.get(agent).model;
    match (named, own) {
        (Some(name), own) if name != DEFAULT || own.is_none() && has(app, DEFAULT) => {
            Ok(name.to_owned())
        }
        (_, Some(own)) => Ok(own.clone()),
        (_, None) => match &app.models.list()[..] {
            [only] => Ok(only.name.clone()),
            _ => {
                let message = format!("model is missing; it is one of {}", names(app));
                Err(ApiError::invalid("model", message))
            }
        },
    }
}

/// Whether there is a model of this name, in memory or not.
pub fn has(app: &App, name: &str) -> bool {
    app.models.list().iter().any(|model| model.names().any(|known| known == name))
}

fn names(app: &App) -> String {
    let models = app.models.list();
    let names = models.iter().flat_map(Listed::names).map(|name| format!("`{name}`"));
    names.collect::<Vec<_>>().join(", ")
}

/// A model in memory.
///
/// # Errors
/// When there is no such model, or it is not in memory.
pub fn find(app: &App, name: &str) -> Result<Arc<Model>, ApiError> {
    let ready = app.models.ready();
    let found = ready.into_iter().find(|model| model.names().any(|known| known == name));
    found.ok_or_else(|| match has(app, name) {
        true => {
            let message = format!("model `{name}` is not in memory; POST /models/load loads it");
            let status = StatusCode::SERVICE_UNAVAILABLE;
            ApiError::new(status, "model_not_loaded", message).retry_after(1)
        }
        false => no_model(app, name),
    })
}

fn no_model(app: &App, name: &str) -> ApiError {
    let message = format!("there is no model `{name}` here; this server has {}", names(app));
    ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message).about("model")
}

impl From<Unavailable> for ApiError {
    fn from(unavailable: Unavailable) -> Self {
        let (code, message) = match unavailable {
            Unavailable::TooLarge(message) => ("model_too_large", message),
            Unavailable::Failed(message) => ("model_load_failed", message),
            Unavailable::QueueFull(waiting) => return EngineError::QueueFull { waiting }.into(),
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message).about("model")
    }
}

/// Does what a request says about how long its model stays; what there is to say of it.
///
/// # Errors
/// When it is no time.
pub fn keep(app: &App, model: &Model, value: &Value) -> Result<Option<String>, ApiError> {
    let time = KeepAlive::of_json(value);
    let time = time.map_err(|why| ApiError::invalid("keep_alive", format!("keep_alive: {why}")))?;
    let name = &model.served.name;
    app.models.keep(name, time);
    let is_pinned = listed(app, name).is_ok_and(|listed| listed.is_pinned);
    let idle = "keep_alive changes nothing now";
    Ok((is_pinned && time != KeepAlive::Forever)
        .then(|| format!("{idle}: model `{name}` is pinned, DELETE /v1/models/{name}/pin ends it")))
}

/// Of a body, what says which model it wants.
#[derive(Default, Deserialize)]
struct Wanted {
    model: Option<String>,
    agent_id: Option<String>,
    /// Where Anthropic's clients say who asks.
    metadata: Option<Value>,
    keep_alive: Option<Value>,
}

impl Wanted {
    /// `None` where a body wants no model: it says so in no way that there is, or lets it go.
    fn of(path: &str, body: &[u8]) -> Option<Self> {
        let wanted: Self = serde_json::from_slice(body).ok()?;
        let time = wanted.keep_alive.as_ref().and_then(|time| KeepAlive::of_json(time).ok());
        let lets_go = time.is_some_and(KeepAlive::is_zero) && ollama::asks_nothing(path, body);
        (!lets_go).then_some(wanted)
    }

    /// Who the body says asks.
    fn agents(&self, dialect: Dialect) -> impl Iterator<Item = &str> {
        let metadata = self.metadata.as_ref().filter(|_| dialect == Dialect::Anthropic);
        let user = metadata.and_then(|metadata| metadata["user_id"].as_str());
        self.agent_id.as_deref().into_iter().chain(user)
    }
}

/// The model that a body wants, once it is in memory; it stays there while it is held. `None` where
/// the body names none that there is, so that its handler says what is wrong with it, or needs
/// none.
///
/// # Errors
/// When the model cannot be had, or the body names an agent whose key the request has not.
pub async fn lease(
    app: &App,
    path: &str,
    body: Bytes,
    headers: &HeaderMap,
) -> Result<Option<Lease>, ApiError> {
    let (is_long, at) = (body.len() >= LARGE_BODY, path.to_owned());
    let wanted = aside(is_long, move || Wanted::of(&at, &body)).await;
    let Some(wanted) = wanted else { return Ok(None) };
    // Nothing is loaded for who may not ask in this name.
    for agent in wanted.agents(Dialect::of(path)) {
        app.options.agents.policy(agent, headers)?;
    }
    let header_agent = headers.get(AGENT_HEADER).and_then(|agent| agent.to_str().ok());
    let agent = wanted.agent_id.as_deref().or(header_agent).unwrap_or_default();
    let Ok(mut name) = name_for(app, agent, wanted.model.as_deref()) else { return Ok(None) };
    if Dialect::of(path) == Dialect::Ollama {
        untag(app, &mut name);
    }
    let Some(waiting) = app.models.want(&name, Some(agent)) else { return Ok(None) };
    let notes = Notes::current();
    notes.note().model = Some(name);
    let asked = (app.options.now)();
    let lease = arrival(waiting).await?;
    notes.note().waited = (app.options.now)().duration_since(asked).unwrap_or_default();
    Ok(Some(lease))
}

async fn arrival(waiting: Waiting) -> Result<Lease, ApiError> {
    match waiting.await {
        Ok(lease) => Ok(lease?),
        Err(_) => {
            let message = "the server is shutting down and loads no model";
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Err(ApiError::new(status, "shutting_down", message).retry_after(5))
        }
    }
}

/// `GET /v1/models`.
pub async fn list(State(app): State<Arc<App>>) -> Json<Value> {
    let models = app.models.list();
    let entries = models.iter().flat_map(|model| model.names().map(|name| model.entry(name)));
    Json(json!({ "object": "list", "data": entries.collect::<Vec<_>>() }))
}

/// `GET /v1/models/{id}`.
pub async fn one(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    listed(&app, &id).map(|model| Json(model.entry(&id)))
}

/// A model of this name, in memory or not.
///
/// # Errors
/// When there is none.
pub fn listed(app: &App, name: &str) -> Result<Listed, ApiError> {
    let found = app.models.list().into_iter().find(|m| m.names().any(|known| known == name));
    found.ok_or_else(|| no_model(app, name))
}

/// `GET /models`: where each model is, as llama.cpp's router says it.
pub async fn status(State(app): State<Arc<App>>) -> Json<Value> {
    let entries: Vec<Value> = app.models.list().iter().map(Listed::in_full).collect();
    Json(json!({ "object": "list", "data": entries }))
}

/// `POST /models/load`: answers when the model is in memory.
pub async fn load(posted: Posted) -> Result<Json<Value>, ApiError> {
    let app = posted.app.clone();
    let (name, warnings) = posted.read(named).await?;
    let waiting = app.models.want(&name, None).ok_or_else(|| no_model(&app, &name))?;
    arrival(waiting).await?;
    Ok(Json(with_warnings(json!({ "success": true }), warnings)))
}

/// `POST /models/unload`: answers at once; the model goes when it has answered what it has.
pub async fn unload(posted: Posted) -> Result<Json<Value>, ApiError> {
    let app = posted.app.clone();
    let (name, warnings) = posted.read(named).await?;
    let model = listed(&app, &name)?;
    let conflict = |code, message| Err(ApiError::new(StatusCode::CONFLICT, code, message));
    if model.is_pinned {
        let fix = format!("DELETE /v1/models/{}/pin lets it go", model.name);
        return conflict("model_pinned", format!("model `{}` is pinned; {fix}", model.name));
    }
    if !app.models.unload(&model.name) {
        return conflict("model_not_loaded", format!("model `{}` is not in memory", model.name));
    }
    Ok(Json(with_warnings(json!({ "success": true }), warnings)))
}

/// The model that an operator names, and what there is to warn of.
fn named(posted: &Posted) -> Result<(String, Vec<String>), ApiError> {
    let (body, warnings) = parameters(posted, LOAD)?;
    match Fields(&body).text("model")? {
        Some(name) => listed(&posted.app, name).map(|model| (model.name, warnings)),
        None => Err(ApiError::invalid("model", "model is missing; it is the name of a model")),
    }
}

/// `POST /v1/models/{m}/pin`: the model stays in memory once it is there.
pub async fn pin(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
) -> Result<Json<Value>, ApiError> {
    set_pin(&app, &path, true)
}

/// `DELETE /v1/models/{m}/pin`: the model may go again.
pub async fn unpin(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
) -> Result<Json<Value>, ApiError> {
    set_pin(&app, &path, false)
}

/// Names have slashes, so that the route cannot tell where one ends.
fn set_pin(app: &App, path: &str, is_pinned: bool) -> Result<Json<Value>, ApiError> {
    let Some(name) = path.strip_suffix("/pin") else {
        let message = format!("this server has no such thing at /v1/models/{path}, but .../pin");
        return Err(ApiError::new(StatusCode::NOT_FOUND, "unknown_action", message));
    };
    let name = listed(app, name)?.name;
    app.models.pin(&name, is_pinned);
    Ok(Json(json!({ "id": name, "pinned": is_pinned })))
}
