//! `prediction`, OpenAI's: what a client expects much of the answer to be, such as a file of which
//! a line is to be changed. Guesses come from there; the answer is the same without it.

use crate::asked::Asked;
use crate::errors::ApiError;
use crate::fields::{Fields, wrong};
use crate::tables::{CHAT_PART, PREDICTION};
use crate::translation::Checks;
use serde_json::Value;
use std::sync::Arc;
use sterna_engine::State;

/// Reads the tokens of it; none where there is none.
///
/// # Errors
/// When it is something else.
pub fn read(asked: &mut Asked) -> Result<Arc<[u32]>, ApiError> {
    let Some(prediction) = asked.fields().get("prediction") else { return Ok(Arc::default()) };
    let mut checks = Checks::new(asked);
    let fields = Fields(checks.object("prediction", prediction, PREDICTION)?);
    let kind = fields.text("type").map_err(|error| error.renamed("type", "prediction.type"))?;
    if kind.is_some_and(|kind| kind != "content") {
        let message = "prediction.type must be \"content\"; there are no others";
        return Err(ApiError::invalid("prediction.type", message));
    }
    let text = content(fields, &mut checks)?;
    let tokens = asked.model.served.tokenizer.encode(&text, false);
    let is_off = asked.model.served.engine.stats().speculation == State::Off;
    asked.warnings.extend(checks.warnings);
    if is_off {
        let why = "prediction is ignored: this server was started with --speculative off";
        asked.warn("prediction", why.into())?;
    }
    Ok(tokens.into())
}

/// A text, or parts of one.
fn content(fields: Fields<'_>, checks: &mut Checks) -> Result<String, ApiError> {
    let path = "prediction.content";
    let wanted = "a text or an array of parts like {\"type\": \"text\", \"text\": \"...\"}";
    let Some(value) = fields.get("content") else {
        return Err(ApiError::invalid(path, format!("{path} is missing; it is {wanted}")));
    };
    let part = |(index, part): (usize, &Value)| {
        let text = part.get("text").filter(|_| part["type"] == "text").and_then(Value::as_str);
        let text = text.ok_or_else(|| wrong(path, value, wanted))?;
        checks.object(&format!("{path}[{index}]"), part, CHAT_PART)?;
        Ok(text.to_owned())
    };
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => parts.iter().enumerate().map(part).collect(),
        _ => Err(wrong(path, value, wanted)),
    }
}
