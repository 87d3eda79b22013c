//! The opening of every `POST`: the body as JSON, held against its endpoint's table, and its model.

use crate::access::Notes;
use crate::agents::Agent;
use crate::app::App;
use crate::errors::ApiError;
use crate::fields::Fields;
use crate::generation::agent;
use crate::model::Model;
use crate::models;
use crate::params::{Table, check};
use crate::posted::Posted;
use crate::translation::Translation;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};
use std::sync::Arc;

/// A request whose parameters are known to be known.
pub struct Asked {
    body: Map<String, Value>,
    /// The model that it names.
    pub model: Arc<Model>,
    /// Who asks; empty where nobody says so.
    pub agent: String,
    /// What an operator said about who asks.
    pub policy: Agent,
    /// What the answer has to say besides.
    pub warnings: Vec<String>,
    /// Whether a warning is an error.
    pub is_strict: bool,
    /// Where the client's words are not the chat API's: ours, and the client's.
    names: Vec<(String, String)>,
}

impl Asked {
    /// Reads the body.
    ///
    /// # Errors
    /// When it is not a JSON object, has a parameter that is refused, or names no model of ours.
    pub fn read(posted: &Posted, table: Table) -> Result<Self, ApiError> {
        Self::of(posted, object(&posted.body)?, table)
    }

    /// The same of a body that is read.
    ///
    /// # Errors
    /// When it has a parameter that is refused, or names no model of ours.
    pub fn of(posted: &Posted, body: Map<String, Value>, table: Table) -> Result<Self, ApiError> {
        let Posted { app, headers, .. } = posted;
        let is_strict = app.options.strict || asks_strictness(headers);
        let warnings = check("", &body, table, is_strict)?;
        let is_known = table.iter().copied().flatten().any(|param| param.name == "keep_alive");
        let agent = agent(Fields(&body), headers)?;
        let policy = app.options.agents.policy(&agent, headers)?;
        let name = models::name_for(app, &agent, Fields(&body).text("model")?)?;
        let model = models::find(app, &name)?;
        Notes::current().note().model = Some(model.served.name.clone());
        let mut asked = Self { body, model, agent, policy, warnings, is_strict, names: Vec::new() };
        if let Some(value) = asked.fields().get("keep_alive").filter(|_| is_known)
            && let Some(warning) = models::keep(app, &asked.model, value)?
        {
            asked.warn("keep_alive", warning)?;
        }
        Ok(asked)
    }

    /// The parameters.
    pub fn fields(&self) -> Fields<'_> {
        Fields(&self.body)
    }

    /// Goes on with a body in the chat API's words.
    pub fn translated(&mut self, translation: Translation) {
        (self.body, self.names) = (translation.chat, translation.names);
    }

    /// Where nobody was named who asks, but the translated body names somebody: that agent.
    ///
    /// # Errors
    /// When the name is none, or of an agent whose key the request has not.
    pub fn identify(&mut self, app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.agent.is_empty() {
            self.agent = agent(self.fields(), headers)?;
            self.policy = app.options.agents.policy(&self.agent, headers)?;
        }
        Ok(())
    }

    /// An error in the client's words.
    pub fn in_their_words(&self, error: ApiError) -> ApiError {
        let Some(param) = error.param() else { return error };
        let fits = |ours: &str| {
            let rest = param.strip_prefix(ours);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let named = self.names.iter().filter(|(ours, _)| fits(ours));
        match named.max_by_key(|(ours, _)| ours.len()) {
            Some((ours, theirs)) => error.renamed(ours, theirs),
            None => error,
        }
    }

    /// Adds a warning, which is an error where strictness was asked for.
    ///
    /// # Errors
    /// Then.
    pub fn warn(&mut self, path: &str, warning: String) -> Result<(), ApiError> {
        let said = ApiError::new(StatusCode::BAD_REQUEST, "ignored_parameter", warning).about(path);
        if self.is_strict {
            return Err(said);
        }
        self.warnings.push(self.in_their_words(said).message().to_owned());
        Ok(())
    }

    /// An answer with the warnings, if there are any.
    pub fn with_warnings(self, answer: Value) -> Value {
        with_warnings(answer, self.warnings)
    }
}

/// A body as JSON.
///
/// # Errors
/// When it is none, or no object.
pub fn object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let invalid = |message| ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", message);
    // The parser bounds the depth, and its message has line and column.
    match serde_json::from_slice(body) {
        Ok(Value::Object(body)) => Ok(body),
        Ok(_) => Err(invalid("the body is JSON, but not an object with parameters".into())),
        Err(error) => Err(invalid(format!("the body is not valid JSON: {error}"))),
    }
}

/// The parameters of a body that asks no model, and what there is to warn of.
///
/// # Errors
/// When it is not a JSON object, or has a parameter that is refused.
pub fn parameters(
    posted: &Posted,
    table: Table,
) -> Result<(Map<String, Value>, Vec<String>), ApiError> {
    let body = object(&posted.body)?;
    let is_strict = posted.app.options.strict || asks_strictness(&posted.headers);
    let warnings = check("", &body, table, is_strict)?;
    Ok((body, warnings))
}

/// An answer with warnings, if there are any.
pub fn with_warnings(mut answer: Value, warnings: Vec<String>) -> Value {
    if !warnings.is_empty() {
        answer["warnings"] = warnings.into();
    }
    answer
}

/// Whether a client wants errors instead of warnings.
pub fn asks_strictness(headers: &HeaderMap) -> bool {
    let value = headers.get("x-strict").and_then(|value| value.to_str().ok());
    value.is_some_and(|value| matches!(value.trim(), "true" | "1"))
}
