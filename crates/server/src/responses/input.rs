//! From a response's input to the messages of a chat.

use crate::app::App;
use crate::asked::Asked;
use crate::errors::ApiError;
use crate::fields::{Fields, wrong};
use crate::keys::Owner;
use crate::params::{Table, check};
use crate::tables::{INPUT_ITEM, INPUT_PART, RESPONSE_STREAM_OPTIONS, RESPONSES, TEXT};
use crate::translation::Translation;
use serde_json::{Map, Value, json};

/// What a request wants to see of log probabilities.
const LOGPROBS: &str = "message.output_text.logprobs";
/// What else OpenAI can include, which there is none of here.
const NOTHING_OF: [&str; 7] = [
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "message.input_image.image_url",
];

/// Puts the request into a chat's words. Returns the messages of this turn, which the next one
/// continues from: all but the instructions, and but those of the turns before.
///
/// # Errors
/// For what is wrong in them, in the client's words.
pub fn translate(app: &App, asked: &mut Asked, owner: Owner) -> Result<Vec<Value>, ApiError> {
    let mut said = Translation::default();
    said.take("", asked.fields().0, RESPONSES);
    nested(asked, "text", TEXT)?;
    nested(asked, "stream_options", RESPONSE_STREAM_OPTIONS)?;
    said.chat.remove("stream_options");
    logprobs(asked, &mut said)?;
    let fields = asked.fields();
    if let Some(instructions) = fields.text("instructions")? {
        said.say("system", &instructions.into(), "instructions");
    }
    if let Some(id) = fields.text("previous_response_id")? {
        for message in app.responses.turns(owner, id)? {
            let Value::Object(message) = message else { continue };
            said.message(message, "previous_response_id");
        }
    }
    let mut warnings = Vec::new();
    let mut turn = Vec::new();
    match fields.get("input") {
        Some(Value::String(text)) => {
            turn.push((json!({ "role": "user", "content": text }), "input".into()))
        }
        Some(Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                let path = format!("input[{index}]");
                let message = message(&path, item, asked.is_strict, &mut warnings)?;
                turn.push((Value::Object(message), path));
            }
        }
        Some(other) => return Err(wrong("input", other, "a text or an array of items")),
        None => return Err(ApiError::invalid("input", "input is missing; it is what to answer")),
    }
    let messages = turn.iter().map(|(message, _)| message.clone()).collect();
    for (message, path) in turn {
        let Value::Object(message) = message else { continue };
        said.message(message, path);
    }
    asked.warnings.extend(warnings);
    asked.translated(said.done("input"));
    Ok(messages)
}

/// Checks an object within the body.
fn nested(asked: &mut Asked, name: &str, table: Table) -> Result<(), ApiError> {
    let Some(object) = asked.fields().object(name)? else { return Ok(()) };
    let warnings = check(&format!("{name}."), object, table, asked.is_strict)?;
    asked.warnings.extend(warnings);
    Ok(())
}

/// Log probabilities are wanted where they are to be included, or the likeliest tokens are.
fn logprobs(asked: &mut Asked, said: &mut Translation) -> Result<(), ApiError> {
    let fields = asked.fields();
    let mut is_wanted = fields.integer("top_logprobs", 0, i64::MAX)?.is_some_and(|top| top > 0);
    let mut ignored = Vec::new();
    for (index, value) in fields.list("include")?.unwrap_or_default().iter().enumerate() {
        let path = format!("include[{index}]");
        match value.as_str() {
            Some(LOGPROBS) => is_wanted = true,
            Some(name) if NOTHING_OF.contains(&name) => ignored.push((path, name.to_owned())),
            _ => return Err(wrong(&path, value, &format!("\"{LOGPROBS}\""))),
        }
    }
    for (path, name) in ignored {
        asked.warn(&path, format!("{path} is ignored: there is no {name} here"))?;
    }
    if is_wanted {
        said.set("logprobs", true, "include");
    } else {
        said.chat.remove("top_logprobs");
    }
    Ok(())
}

/// An item as a message of a chat. What the chat API has to say about it is left to it.
fn message(
    path: &str,
    item: &Value,
    is_strict: bool,
    warnings: &mut Vec<String>,
) -> Result<Map<String, Value>, ApiError> {
    let item = item.as_object().ok_or_else(|| wrong(path, item, "an object"))?;
    let kind = Fields(item).get("type");
    if let Some(kind) = kind.filter(|kind| *kind != "message") {
        let path = format!("{path}.type");
        let message = format!("{path} is {kind}; only messages are read here");
        return Err(ApiError::unsupported(path, message));
    }
    warnings.extend(check(&format!("{path}."), item, INPUT_ITEM, is_strict)?);
    let mut message = Map::new();
    if let Some(role) = item.get("role") {
        message.insert("role".into(), role.clone());
    }
    let content = match item.get("content") {
        Some(Value::Array(parts)) => {
            let each = parts.iter().enumerate();
            let part = |(index, value)| {
                part(&format!("{path}.content[{index}]"), value, is_strict, warnings)
            };
            Value::Array(each.map(part).collect::<Result<_, _>>()?)
        }
        other => other.cloned().unwrap_or_default(),
    };
    message.insert("content".into(), content);
    Ok(message)
}

/// A part as a chat has it: `input_text` and `output_text` are texts there.
fn part(
    path: &str,
    part: &Value,
    is_strict: bool,
    warnings: &mut Vec<String>,
) -> Result<Value, ApiError> {
    let object = part.as_object().ok_or_else(|| wrong(path, part, "an object"))?;
    let text = match object.get("type").and_then(Value::as_str) {
        Some("input_text" | "output_text" | "text") => object.get("text"),
        Some("refusal") => object.get("refusal"),
        // The chat API refuses it by its type.
        _ => return Ok(part.clone()),
    };
    warnings.extend(check(&format!("{path}."), object, INPUT_PART, is_strict)?);
    Ok(json!({ "type": "text", "text": text }))
}
