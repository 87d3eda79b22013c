//! The opening of every `POST`: the body as JSON, held against its endpoint's table, and its model.

use crate::access::Notes;
use crate::app::App;
use crate::errors::ApiError;
use crate::fields::Fields;
use crate::model::{Model, find};
use crate::params::{Table, check};
use crate::translation::Translation;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};
use std::sync::Arc;

/// A request whose parameters are known to be known.
pub struct Asked {
    body: Map<String, Value>,
    /// The model that it names.
    pub model: Arc<Model>,
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
    pub fn read(
        app: &App,
        headers: &HeaderMap,
        body: &[u8],
        table: Table,
    ) -> Result<Self, ApiError> {
        Self::of(app, headers, object(body)?, table)
    }

    /// The same of a body that is read.
    ///
    /// # Errors
    /// When it has a parameter that is refused, or names no model of ours.
    pub fn of(
        app: &App,
        headers: &HeaderMap,
        body: Map<String, Value>,
        table: Table,
    ) -> Result<Self, ApiError> {
        let is_strict = app.options.strict || asks_strictness(headers);
        let warnings = check("", &body, table, is_strict)?;
        let model = find(&app.models, Fields(&body).text("model")?)?.clone();
        Notes::current().note().model = Some(model.served.name.clone());
        Ok(Self { body, model, warnings, is_strict, names: Vec::new() })
    }

    /// The parameters.
    pub fn fields(&self) -> Fields<'_> {
        Fields(&self.body)
    }

    /// Goes on with a body in the chat API's words.
    pub fn translated(&mut self, translation: Translation) {
        (self.body, self.names) = (translation.chat, translation.names);
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
        if self.is_strict {
            let status = StatusCode::BAD_REQUEST;
            return Err(ApiError::new(status, "ignored_parameter", warning).about(path));
        }
        self.warnings.push(warning);
        Ok(())
    }

    /// An answer with the warnings, if there are any.
    pub fn with_warnings(self, mut answer: Value) -> Value {
        if !self.warnings.is_empty() {
            answer["warnings"] = self.warnings.into();
        }
        answer
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

/// Whether a client wants errors instead of warnings.
pub fn asks_strictness(headers: &HeaderMap) -> bool {
    let value = headers.get("x-strict").and_then(|value| value.to_str().ok());
    value.is_some_and(|value| matches!(value.trim(), "true" | "1"))
}
