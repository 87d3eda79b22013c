//! From a response's input to the messages of a chat.

use crate::app::App;
use crate::asked::Asked;
use crate::errors::ApiError;
use crate::fields::{Fields, wrong};
use crate::keys::Owner;
use crate::tables::{
    FUNCTION_CALL, FUNCTION_OUTPUT, FUNCTION_TOOL, INPUT_ITEM, INPUT_PART, NAMED_TOOL,
    REASONING_ITEM, REASONING_PART, RESPONSE_STREAM_OPTIONS, RESPONSES, TEXT, TEXT_FORMAT,
};
use crate::translation::tools::{Listing, choose, list};
use crate::translation::{Checks, Translation, Turn, text};
use serde_json::{Value, json};

/// How OpenAI lists tools here.
const TOOLS: Listing =
    Listing { parameters: "parameters", kind: "function", is_default: false, table: FUNCTION_TOOL };

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
    let (mut said, mut checks) = (Translation::default(), Checks::new(asked));
    said.take("", asked.fields().0, RESPONSES);
    said.chat.remove("stream_options");
    logprobs(asked, &mut said)?;
    let fields = asked.fields();
    if let Some(options) = fields.get("stream_options") {
        checks.object("stream_options", options, RESPONSE_STREAM_OPTIONS)?;
    }
    list(asked, &mut said, &mut checks, &TOOLS)?;
    tool_choice(fields, &mut said, &mut checks)?;
    format(fields, &mut said, &mut checks)?;
    if let Some(instructions) = fields.text("instructions")? {
        said.say("system", &instructions.into(), "instructions");
    }
    if let Some(id) = fields.text("previous_response_id")? {
        for message in app.responses.turns(owner, id)? {
            let Value::Object(message) = message else { continue };
            said.message(message, "previous_response_id");
        }
    }
    let n_before = said.messages.len();
    match fields.get("input") {
        Some(text @ Value::String(_)) => {
            let mut turn = Turn::new("user", "input");
            turn.content(text.clone(), "input");
            said.turn(turn);
        }
        Some(Value::Array(list)) => items(list, &mut said, &mut checks)?,
        Some(other) => return Err(wrong("input", other, "a text or an array of items")),
        None => return Err(ApiError::invalid("input", "input is missing; it is what to answer")),
    }
    let messages = said.messages[n_before..].to_vec();
    asked.warnings.extend(checks.warnings);
    asked.translated(said.done("input"));
    Ok(messages)
}

fn tool_choice(
    fields: Fields<'_>,
    said: &mut Translation,
    checks: &mut Checks,
) -> Result<(), ApiError> {
    let Some(choice @ Value::Object(object)) = fields.get("tool_choice") else { return Ok(()) };
    match object.get("type").unwrap_or(&Value::Null) {
        Value::String(kind) if kind == "function" => {
            checks.object("tool_choice", choice, NAMED_TOOL)?;
            choose(said, object)
        }
        kind => {
            let message = format!(
                "tool_choice.type is {kind}; tool_choice is none, auto, required or \
                 {{\"type\": \"function\", \"name\": NAME}} here"
            );
            Err(ApiError::unsupported("tool_choice.type", message))
        }
    }
}

/// `text.format`: what the chat API calls `response_format`.
fn format(fields: Fields<'_>, said: &mut Translation, checks: &mut Checks) -> Result<(), ApiError> {
    let Some(text) = fields.get("text") else { return Ok(()) };
    let text = checks.object("text", text, TEXT)?;
    let Some(format) = Fields(text).get("format") else { return Ok(()) };
    let path = "text.format";
    let format = checks.object(path, format, TEXT_FORMAT)?;
    let kind = format.get("type").unwrap_or(&Value::Null);
    let schema_path = format!("{path}.schema");
    match kind.as_str() {
        Some("text" | "json_object") => said.set("response_format", json!({ "type": kind }), path),
        Some("json_schema") => {
            let missing = format!("{schema_path} is missing; it is a JSON schema");
            let missing = || ApiError::invalid(&schema_path, missing);
            said.hold_to(Fields(format).get("schema").ok_or_else(missing)?, &schema_path);
        }
        _ => return Err(wrong("text.format.type", kind, "text, json_object or json_schema")),
    }
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

/// Items as messages of a chat. What an assistant thinks, says and calls in a row is one message
/// there, as templates expect it.
fn items(items: &[Value], said: &mut Translation, checks: &mut Checks) -> Result<(), ApiError> {
    // What the assistant says, while more of it may come.
    let mut open: Option<Turn> = None;
    for (index, item) in items.iter().enumerate() {
        let path = format!("input[{index}]");
        let object = item.as_object().ok_or_else(|| wrong(&path, item, "an object"))?;
        let kind = Fields(object).get("type").cloned().unwrap_or_else(|| "message".into());
        let is_assistants = match kind.as_str() {
            Some("message") => object.get("role").is_some_and(|role| role == "assistant"),
            Some("reasoning" | "function_call") => true,
            _ => false,
        };
        // A message, or a thought, begins another turn where there was one already.
        let is_next = kind != "function_call" && open.as_ref().is_some_and(Turn::has_said);
        if !is_assistants || is_next {
            open.take().into_iter().for_each(|turn| said.turn(turn));
        }
        let mut turn = || open.take().unwrap_or_else(|| Turn::new("assistant", &path));
        match kind.as_str() {
            Some("message") if is_assistants => {
                let mut turn = turn();
                content(&path, item, &mut turn, checks)?;
                open = Some(turn);
            }
            Some("message") => {
                let role = object.get("role").unwrap_or(&Value::Null);
                let wanted = "system, developer, user or assistant";
                let role_path = format!("{path}.role");
                let role = role.as_str().ok_or_else(|| wrong(&role_path, role, wanted))?;
                let mut turn = Turn::new(role, &path);
                content(&path, item, &mut turn, checks)?;
                said.turn(turn);
            }
            Some("reasoning") => {
                let mut turn = turn();
                thoughts(&path, item, &mut turn, checks)?;
                open = Some(turn);
            }
            Some("function_call") => {
                let call = checks.object(&path, item, FUNCTION_CALL)?;
                let [id, name, arguments] =
                    ["call_id", "name", "arguments"].map(|key| text(&path, call, key));
                let mut turn = turn();
                turn.call(id?, name?, arguments?.into(), path);
                open = Some(turn);
            }
            Some("function_call_output") => said.turn(output(&path, item, checks)?),
            _ => {
                let path = format!("{path}.type");
                let message = format!(
                    "{path} is {kind}; messages, reasoning, calls of functions and their outputs \
                     are read here"
                );
                return Err(ApiError::unsupported(path, message));
            }
        }
    }
    open.into_iter().for_each(|turn| said.turn(turn));
    Ok(())
}

/// The content of a message. What the chat API has to say about it is left to it.
fn content(path: &str, item: &Value, turn: &mut Turn, checks: &mut Checks) -> Result<(), ApiError> {
    let item = checks.object(path, item, INPUT_ITEM)?;
    let path = format!("{path}.content");
    match item.get("content") {
        Some(Value::Array(parts)) if !parts.is_empty() => {
            for (index, value) in parts.iter().enumerate() {
                let path = format!("{path}[{index}]");
                turn.part(part(&path, value, checks)?, path);
            }
        }
        other => turn.content(other.cloned().unwrap_or_default(), path),
    }
    Ok(())
}

/// What the assistant thought: its text, or a summary where that is all there is.
fn thoughts(
    path: &str,
    item: &Value,
    turn: &mut Turn,
    checks: &mut Checks,
) -> Result<(), ApiError> {
    let item = checks.object(path, item, REASONING_ITEM)?;
    let key = match item.get("content") {
        Some(Value::Array(parts)) if !parts.is_empty() => "content",
        _ => "summary",
    };
    let parts = Fields(item).list(key);
    let parts = parts.map_err(|error| error.renamed(key, &format!("{path}.{key}")))?;
    for (index, part) in parts.unwrap_or_default().iter().enumerate() {
        let path = format!("{path}.{key}[{index}]");
        let part = checks.object(&path, part, REASONING_PART)?;
        turn.think(text(&path, part, "text")?);
    }
    Ok(())
}

/// What a function returned.
fn output(path: &str, item: &Value, checks: &mut Checks) -> Result<Turn, ApiError> {
    let object = checks.object(path, item, FUNCTION_OUTPUT)?;
    let mut turn = Turn::new("tool", path);
    turn.set("tool_call_id", text(path, object, "call_id")?);
    let path = format!("{path}.output");
    match object.get("output") {
        Some(Value::Array(parts)) if !parts.is_empty() => {
            for (index, value) in parts.iter().enumerate() {
                let path = format!("{path}[{index}]");
                turn.part(part(&path, value, checks)?, path);
            }
        }
        other => turn.content(other.cloned().unwrap_or_default(), path),
    }
    Ok(turn)
}

/// A part as a chat has it: `input_text` and `output_text` are texts there.
fn part(path: &str, part: &Value, checks: &mut Checks) -> Result<Value, ApiError> {
    let object = part.as_object().ok_or_else(|| wrong(path, part, "an object"))?;
    let text = match object.get("type").and_then(Value::as_str) {
        Some("input_text" | "output_text" | "text") => object.get("text"),
        Some("refusal") => object.get("refusal"),
        // The chat API refuses it by its type.
        _ => return Ok(part.clone()),
    };
    checks.object(path, part, INPUT_PART)?;
    Ok(json!({ "type": "text", "text": text }))
}
