//! The opening of every `POST`: the body as JSON, held against its endpoint's table, and its model.

use crate::app::App;
use crate::errors::ApiError;
use crate::fields::Fields;
use crate::model::{Model, find};
use crate::params::{Table, check};
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
        let body = object(body)?;
        let is_strict = app.options.strict || asks_strictness(headers);
        let warnings = check("", &body, table, is_strict)?;
        let model = find(&app.models, Fields(&body).text("model")?)?.clone();
        Ok(Self { body, model, warnings, is_strict })
    }

    /// The parameters.
    pub fn fields(&self) -> Fields<'_> {
        Fields(&self.body)
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

/// A body as a JSON object.
///
/// # Errors
/// When it is something else.
pub fn object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let invalid = |message| ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", message);
    // The parser bounds the depth, and its message has line and column.
    match serde_json::from_slice(body) {
        Ok(Value::Object(body)) => Ok(body),
        Ok(_) => Err(invalid("the body is JSON, but not an object with parameters".into())),
        Err(error) => Err(invalid(format!("the body is not valid JSON: {error}"))),
    }
}

fn asks_strictness(headers: &HeaderMap) -> bool {
    let value = headers.get("x-strict").and_then(|value| value.to_str().ok());
    value.is_some_and(|value| matches!(value.trim(), "true" | "1"))
}
