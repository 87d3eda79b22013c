//! The models that are served, found by name, and the routes that list them.

use crate::app::App;
use crate::backend::Backend;
use crate::controls::Controls;
use crate::errors::ApiError;
use crate::groups::Groups;
use crate::template::ChatTemplate;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;
use sterna_engine::Grammars;
use sterna_model::Tokenizer;

/// A model to serve: an engine, and what is needed to talk to it in text.
pub struct Served {
    /// The name that answers carry.
    pub name: String,
    /// Other names that requests may use.
    pub aliases: Vec<String>,
    /// Text to tokens and back.
    pub tokenizer: Arc<Tokenizer>,
    /// Tokens that a request may have, prompt and answer together.
    pub context_len: usize,
    /// The model's Jinja template; without one, messages become lines of `role: content`.
    pub chat_template: Option<String>,
    /// What the template sees as `bos_token`.
    pub bos: Option<String>,
    /// What the template sees as `eos_token`.
    pub eos: Option<String>,
    /// `system_fingerprint` of every answer: what decides the numbers, so the Plan and the build.
    pub fingerprint: String,
    /// When the model was made, in seconds since 1970.
    pub created: u64,
    /// What computes.
    pub engine: Arc<dyn Backend>,
    /// A sentence about it, for people who list the models.
    pub describe: String,
    /// The bytes it takes, by kind.
    pub memory: Vec<(&'static str, u64)>,
}

/// A served model with what is derived from it.
pub struct Model {
    /// What was given.
    pub served: Served,
    /// The parsed template.
    pub template: Option<ChatTemplate>,
    /// What its answers were like.
    pub groups: Groups,
    controls: OnceLock<Controls>,
    grammars: OnceLock<Result<Grammars, String>>,
}

impl Model {
    /// Parses the template.
    ///
    /// # Errors
    /// When it is not one: a sentence.
    pub fn new(served: Served, now: fn() -> SystemTime) -> Result<Self, String> {
        let source = served.chat_template.as_deref();
        let template = source.map(|source| ChatTemplate::new(source, now)).transpose()?;
        let (groups, controls, grammars) = Default::default();
        Ok(Self { served, template, groups, controls, grammars })
    }

    /// The control tokens; found when first asked for, since that goes over the whole vocabulary.
    pub fn controls(&self) -> &Controls {
        self.controls.get_or_init(|| Controls::of(&self.served.tokenizer))
    }

    /// What compiles grammars for it; made when first asked for, for the same reason.
    ///
    /// # Errors
    /// When its vocabulary serves no grammars: a sentence.
    pub fn grammars(&self) -> Result<&Grammars, String> {
        let made = self.grammars.get_or_init(|| Grammars::new(&self.served.tokenizer));
        made.as_ref().map_err(Clone::clone)
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.served.name).chain(&self.served.aliases)
    }

    /// An entry of the list of models, under one of its names.
    fn entry(&self, name: &str) -> Value {
        let Served { created, context_len, describe, name: root, .. } = &self.served;
        json!({
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": "sterna",
            "root": root,
            "max_model_len": context_len,
            "description": describe,
        })
    }
}

/// The model of a request. One that names none gets the only one there is.
///
/// # Errors
/// When there is no model of that name, or several and none was named.
pub fn find<'a>(models: &'a [Arc<Model>], name: Option<&str>) -> Result<&'a Arc<Model>, ApiError> {
    let names = || {
        let names = models.iter().flat_map(|model| model.names());
        names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    };
    let Some(name) = name else {
        return match models {
            [only] => Ok(only),
            _ => Err(ApiError::invalid("model", format!("model is missing; it is {}", names()))),
        };
    };
    let found = models.iter().find(|model| model.names().any(|known| known == name));
    found.ok_or_else(|| {
        let message = format!("there is no model `{name}` here; this server has {}", names());
        ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message).about("model")
    })
}

/// `GET /v1/models`.
pub async fn list(State(app): State<Arc<App>>) -> Json<Value> {
    let mut data = Vec::new();
    for model in &app.models {
        data.extend(model.names().map(|name| model.entry(name)));
    }
    Json(json!({ "object": "list", "data": data }))
}

/// `GET /v1/models/{id}`.
pub async fn one(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    find(&app.models, Some(&id)).map(|model| Json(model.entry(&id)))
}
