//! From a message request's body to a chat's.
//!
//! Blocks become what a chat has for them: texts are parts of a content, uses of tools are calls,
//! their results are messages of their own, and thoughts are `reasoning_content`.

use crate::app::App;
use crate::asked::Asked;
use crate::errors::ApiError;
use crate::fields::{Fields, wrong};
use crate::tables::{
    BLOCK, MESSAGE, MESSAGE_METADATA, MESSAGES, OUTPUT_CONFIG, OUTPUT_FORMAT, THINKING,
    THINKING_BLOCK, TOOL, TOOL_CHOICE, TOOL_RESULT, TOOL_USE,
};
use crate::translation::tools::{Listing, choose, list};
use crate::translation::{Checks, Translation, Turn, text};
use axum::http::HeaderMap;
use serde_json::{Map, Value, json};

/// How Anthropic lists tools.
const TOOLS: Listing =
    Listing { parameters: "input_schema", kind: "custom", is_default: true, table: TOOL };

/// Puts the request into a chat's words.
///
/// # Errors
/// For what is wrong in it, in the client's words.
pub fn translate(app: &App, asked: &mut Asked, headers: &HeaderMap) -> Result<(), ApiError> {
    if let Some(beta) = headers.get("anthropic-beta").and_then(|value| value.to_str().ok()) {
        let warning = format!("the header anthropic-beta is ignored: there is no {beta} here");
        asked.warn("anthropic-beta", warning)?;
    }
    let (mut said, mut checks) = (Translation::default(), Checks::new(asked));
    said.take("", asked.fields().0, MESSAGES);
    thinking(app, asked, &mut said, &mut checks)?;
    let fields = asked.fields();
    list(asked, &mut said, &mut checks, &TOOLS)?;
    tool_choice(fields, &mut said, &mut checks)?;
    output_config(fields, &mut said, &mut checks)?;
    service_tier(fields, &mut said)?;
    metadata(fields, headers, &mut said, &mut checks)?;
    if let Some(system) = fields.get("system") {
        let blocks = system.as_array().into_iter().flatten().enumerate();
        let blocks = blocks.map(|(i, block)| part(&format!("system[{i}]"), block, &mut checks));
        let blocks = blocks.collect::<Result<Value, _>>()?;
        said.say("system", if system.is_array() { &blocks } else { system }, "system");
    }
    let messages = fields.list("messages")?.unwrap_or_default();
    if messages.is_empty() {
        let message = "messages is missing or empty; send at least one";
        return Err(ApiError::invalid("messages", message));
    }
    for (index, message) in messages.iter().enumerate() {
        let path = format!("messages[{index}]");
        let object = checks.object(&path, message, MESSAGE)?;
        turn(&path, object, index + 1 == messages.len(), &mut said, &mut checks)?;
    }
    asked.warnings.extend(checks.warnings);
    asked.translated(said.done("messages"));
    Ok(())
}

/// Whether the model should think. Where nothing is said, its thoughts are part of the text.
fn thinking(
    app: &App,
    asked: &mut Asked,
    said: &mut Translation,
    checks: &mut Checks,
) -> Result<(), ApiError> {
    said.set("reasoning_format", "none", "thinking");
    let Some(thinking) = asked.fields().get("thinking") else { return Ok(()) };
    let thinking = checks.object("thinking", thinking, THINKING)?;
    let kind = thinking.get("type").unwrap_or(&Value::Null);
    let is_thinking = match kind.as_str() {
        Some("enabled" | "adaptive") => true,
        Some("disabled") => false,
        _ => return Err(wrong("thinking.type", kind, "enabled, adaptive or disabled")),
    };
    let has_form = app.thought_form(&asked.model).is_some();
    said.think(asked, is_thinking, has_form, "thinking")
}

fn tool_choice(
    fields: Fields<'_>,
    said: &mut Translation,
    checks: &mut Checks,
) -> Result<(), ApiError> {
    let Some(choice) = fields.get("tool_choice") else { return Ok(()) };
    let choice = checks.object("tool_choice", choice, TOOL_CHOICE)?;
    let kind = choice.get("type").unwrap_or(&Value::Null);
    let ours = match kind.as_str() {
        Some("auto") => Some("auto"),
        Some("any") => Some("required"),
        Some("none") => Some("none"),
        Some("tool") => None,
        _ => return Err(wrong("tool_choice.type", kind, "auto, any, tool or none")),
    };
    match ours {
        Some(ours) => said.set("tool_choice", ours, "tool_choice"),
        None => choose(said, choice)?,
    }
    let name = "disable_parallel_tool_use";
    let theirs = format!("tool_choice.{name}");
    let disabled = Fields(choice).flag(name).map_err(|error| error.renamed(name, &theirs))?;
    if let Some(is_disabled) = disabled {
        said.set("parallel_tool_calls", !is_disabled, theirs);
    }
    Ok(())
}

/// What the answer is to be.
fn output_config(
    fields: Fields<'_>,
    said: &mut Translation,
    checks: &mut Checks,
) -> Result<(), ApiError> {
    let Some(config) = fields.get("output_config") else { return Ok(()) };
    let config = checks.object("output_config", config, OUTPUT_CONFIG)?;
    let Some(format) = Fields(config).get("format") else { return Ok(()) };
    let path = "output_config.format";
    let format = checks.object(path, format, OUTPUT_FORMAT)?;
    let kind = format.get("type").unwrap_or(&Value::Null);
    if kind != "json_schema" {
        return Err(wrong(&format!("{path}.type"), kind, "json_schema"));
    }
    let path = format!("{path}.schema");
    let missing = || ApiError::invalid(&path, format!("{path} is missing; it is a JSON schema"));
    said.hold_to(Fields(format).get("schema").ok_or_else(missing)?, &path);
    Ok(())
}

/// `standard_only` asks for no priority, which nothing gets unless it is asked for.
fn service_tier(fields: Fields<'_>, said: &mut Translation) -> Result<(), ApiError> {
    if fields.text("service_tier")? == Some("standard_only") {
        said.set("service_tier", "default", "service_tier");
    }
    Ok(())
}

/// The user is the agent, where no other is named.
fn metadata(
    fields: Fields<'_>,
    headers: &HeaderMap,
    said: &mut Translation,
    checks: &mut Checks,
) -> Result<(), ApiError> {
    let Some(metadata) = fields.get("metadata") else { return Ok(()) };
    let mut user = checks.object("metadata", metadata, MESSAGE_METADATA)?.clone();
    let is_named = fields.get("agent_id").is_some() || headers.contains_key("x-agent-id");
    // Of the wrong type it is refused all the same.
    user.retain(|_, value| !(value.is_null() || is_named && value.is_string()));
    said.take("metadata.", &user, MESSAGE_METADATA);
    Ok(())
}

/// A block that can be a text only, as a part of a chat. Those that are none the chat API refuses.
fn part(path: &str, block: &Value, checks: &mut Checks) -> Result<Value, ApiError> {
    let object = block.as_object().ok_or_else(|| wrong(path, block, "an object with a type"))?;
    if object.get("type").is_none_or(|kind| kind != "text") {
        return Ok(block.clone());
    }
    checks.object(path, block, BLOCK)?;
    Ok(json!({ "type": "text", "text": object.get("text") }))
}

/// A message as a chat has it.
fn turn(
    path: &str,
    message: &Map<String, Value>,
    is_last: bool,
    said: &mut Translation,
    checks: &mut Checks,
) -> Result<(), ApiError> {
    let role = message.get("role").unwrap_or(&Value::Null);
    let role_path = format!("{path}.role");
    let role = match role.as_str() {
        Some("assistant") if is_last => {
            let why = "an answer cannot be begun for the model here; end with a user's message";
            return Err(ApiError::unsupported(&role_path, format!("{role_path}: {why}")));
        }
        Some(role @ ("user" | "assistant" | "system")) => role,
        _ => return Err(wrong(&role_path, role, "user or assistant")),
    };
    let mut turn = Turn::new(role, path);
    let content_path = format!("{path}.content");
    let content = message.get("content").unwrap_or(&Value::Null);
    let Some(blocks) = content.as_array().filter(|blocks| !blocks.is_empty()) else {
        turn.content(content.clone(), content_path);
        said.turn(turn);
        return Ok(());
    };
    for (index, block) in blocks.iter().enumerate() {
        let path = format!("{content_path}[{index}]");
        let object = block.as_object();
        let object = object.ok_or_else(|| wrong(&path, block, "an object with a type"))?;
        match (role, object.get("type").and_then(Value::as_str)) {
            ("assistant", Some("tool_use")) => {
                let object = checks.object(&path, block, TOOL_USE)?;
                let (id, name) = (text(&path, object, "id")?, text(&path, object, "name")?);
                let input = object.get("input").unwrap_or(&Value::Null);
                if !input.is_object() {
                    return Err(wrong(&format!("{path}.input"), input, "an object"));
                }
                turn.call(id, name, input.clone(), path);
            }
            ("assistant", Some("thinking")) => {
                let object = checks.object(&path, block, THINKING_BLOCK)?;
                turn.think(text(&path, object, "thinking")?);
            }
            ("user", Some("tool_result")) => {
                let result = result(&path, block, checks)?;
                let before = std::mem::replace(&mut turn, Turn::new(role, &content_path));
                if before.has_said() {
                    said.turn(before);
                }
                said.turn(result);
            }
            _ => {
                turn.part(part(&path, block, checks)?, path);
            }
        }
    }
    if turn.has_said() || role != "user" {
        said.turn(turn);
    }
    Ok(())
}

/// What a tool said, as a message of its own. That it failed is said in front of it: a chat has no
/// other place for that.
fn result(path: &str, block: &Value, checks: &mut Checks) -> Result<Turn, ApiError> {
    let object = checks.object(path, block, TOOL_RESULT)?;
    let id = text(path, object, "tool_use_id")?;
    let flag = Fields(object).flag("is_error");
    let is_error = flag.map_err(|error| error.renamed("is_error", &format!("{path}.is_error")))?;
    let is_error = is_error.unwrap_or(false);
    let mut turn = Turn::new("tool", path);
    turn.set("tool_call_id", id);
    let content_path = format!("{path}.content");
    match Fields(object).get("content") {
        Some(Value::Array(blocks)) => {
            if is_error || blocks.is_empty() {
                let said = if is_error { "Error:" } else { "" };
                turn.part(json!({ "type": "text", "text": said }), &content_path);
            }
            for (index, block) in blocks.iter().enumerate() {
                let path = format!("{content_path}[{index}]");
                turn.part(part(&path, block, checks)?, path);
            }
        }
        Some(Value::String(text)) if is_error => {
            turn.content(format!("Error: {text}").into(), content_path);
        }
        None => turn.content(if is_error { "Error" } else { "" }.into(), content_path),
        Some(other) => turn.content(other.clone(), content_path),
    }
    Ok(turn)
}
