//! `POST /v1/messages` and `/v1/messages/count_tokens`, as Anthropic has them.
//!
//! In: a system text and messages of text blocks. Out: a message, whole or as events
//! (`messages/voice.rs`). Errors get Anthropic's shape at the edge (`dialect.rs`).

mod voice;

use crate::app::App;
use crate::asked::Asked;
use crate::chat;
use crate::edge::off_thread;
use crate::errors::ApiError;
use crate::fields::{Fields, wrong};
use crate::generation::Limit;
use crate::params::check;
use crate::running::Running;
use crate::tables::{BLOCK, COUNT_TOKENS, MESSAGE, MESSAGE_METADATA, MESSAGES, OUTPUT_CONFIG};
use crate::telling::Telling;
use crate::translation::Translation;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use voice::MessageVoice;

/// Answers messages.
pub async fn create(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = body?;
    let telling = off_thread(body.len(), move || prepare(&app, &headers, &body)).await?;
    telling.respond().await
}

fn prepare(app: &App, headers: &HeaderMap, body: &[u8]) -> Result<Telling, ApiError> {
    let mut asked = Asked::read(app, headers, body, MESSAGES)?;
    translate(&mut asked, headers)?;
    let Some(most) = asked.fields().integer("max_tokens", 1, i64::MAX)? else {
        let message = "max_tokens is missing; it is how many tokens the answer may have";
        return Err(ApiError::invalid("max_tokens", message));
    };
    // Where the context ends first, the answer says so: `model_context_window_exceeded`.
    let context_len = asked.model.served.context_len;
    let limit = Limit { max_tokens: None, default: most as usize, context_len };
    let planned = chat::requests(app, &mut asked, headers, limit);
    let (generation, requests) = planned.map_err(|error| asked.in_their_words(error))?;
    let class = generation.request.class;
    let [prompt_tokens, max_tokens] = match requests.as_slice() {
        [request] => [request.prompt.len(), request.max_tokens],
        requests => panic!("one message is one request, not {}", requests.len()),
    };
    let running = Running::start(&asked.model, requests, 1)?;
    let voice = Box::new(MessageVoice {
        id: app.fresh.id("msg_"),
        model: asked.model.served.name.clone(),
        prompt_tokens,
        is_cut_by_context: max_tokens < most as usize,
        warnings: asked.warnings,
        text: String::new(),
        has_block: false,
    });
    Ok(Telling { running, voice, class, is_streamed: generation.is_streamed })
}

/// Puts the request into a chat's words.
fn translate(asked: &mut Asked, headers: &HeaderMap) -> Result<(), ApiError> {
    if let Some(beta) = headers.get("anthropic-beta").and_then(|value| value.to_str().ok()) {
        let warning = format!("the header anthropic-beta is ignored: there is no {beta} here");
        asked.warn("anthropic-beta", warning)?;
    }
    let thinking = asked.fields().object("thinking")?;
    let kind = thinking.map(|thinking| Fields(thinking).text("type")).transpose()?.flatten();
    if thinking.is_some() && kind != Some("disabled") {
        let warning = "thinking is ignored: what a template knows goes into \
                       `chat_template_kwargs`, and thoughts are part of the answer's text";
        asked.warn("thinking", warning.into())?;
    }
    let mut said = Translation::default();
    said.take("", asked.fields().0, MESSAGES);
    let mut warnings = Vec::new();
    let (fields, is_strict) = (asked.fields(), asked.is_strict);
    if let Some(config) = fields.object("output_config")? {
        warnings.extend(check("output_config.", config, OUTPUT_CONFIG, is_strict)?);
    }
    service_tier(fields, &mut said)?;
    metadata(fields, headers, is_strict, &mut said, &mut warnings)?;
    if let Some(system) = fields.get("system") {
        blocks("system", system, is_strict, &mut warnings)?;
        said.say("system", system, "system");
    }
    let messages = fields.list("messages")?.unwrap_or_default();
    if messages.is_empty() {
        let message = "messages is missing or empty; send at least one";
        return Err(ApiError::invalid("messages", message));
    }
    for (index, message) in messages.iter().enumerate() {
        let path = format!("messages[{index}]");
        let message = message.as_object().ok_or_else(|| wrong(&path, message, "an object"))?;
        warnings.extend(check(&format!("{path}."), message, MESSAGE, is_strict)?);
        if let Some(content) = message.get("content") {
            blocks(&format!("{path}.content"), content, is_strict, &mut warnings)?;
        }
        said.message(turn(&path, message, index + 1 == messages.len())?, path);
    }
    asked.warnings.extend(warnings);
    asked.translated(said.done("messages"));
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
    is_strict: bool,
    said: &mut Translation,
    warnings: &mut Vec<String>,
) -> Result<(), ApiError> {
    let Some(metadata) = fields.object("metadata")? else { return Ok(()) };
    warnings.extend(check("metadata.", metadata, MESSAGE_METADATA, is_strict)?);
    let mut user = metadata.clone();
    let is_named = fields.get("agent_id").is_some() || headers.contains_key("x-agent-id");
    // Of the wrong type it is refused all the same.
    user.retain(|_, value| !(value.is_null() || is_named && value.is_string()));
    said.take("metadata.", &user, MESSAGE_METADATA);
    Ok(())
}

/// Checks the blocks of a content. Those that are no texts the chat API refuses.
fn blocks(
    path: &str,
    content: &Value,
    is_strict: bool,
    warnings: &mut Vec<String>,
) -> Result<(), ApiError> {
    for (index, block) in content.as_array().into_iter().flatten().enumerate() {
        let path = format!("{path}[{index}]");
        let Some(object) = block.as_object() else {
            return Err(wrong(&path, block, "an object with a type"));
        };
        if object.get("type").is_some_and(|kind| kind == "text") {
            warnings.extend(check(&format!("{path}."), object, BLOCK, is_strict)?);
        }
    }
    Ok(())
}

/// A message as a chat has it.
fn turn(
    path: &str,
    message: &Map<String, Value>,
    is_last: bool,
) -> Result<Map<String, Value>, ApiError> {
    let role = message.get("role").unwrap_or(&Value::Null);
    let role_path = format!("{path}.role");
    match role.as_str() {
        Some("assistant") if is_last => {
            let why = "an answer cannot be begun for the model here; end with a user's message";
            Err(ApiError::unsupported(&role_path, format!("{role_path}: {why}")))
        }
        Some("user" | "assistant" | "system") => Ok(message.clone()),
        _ => Err(wrong(&role_path, role, "user or assistant")),
    }
}

/// How many tokens the prompt of messages has.
pub async fn count_tokens(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let body = body?;
    let n_bytes = body.len();
    let count = move || -> Result<Json<Value>, ApiError> {
        let mut asked = Asked::read(&app, &headers, &body, COUNT_TOKENS)?;
        translate(&mut asked, &headers)?;
        let prompt = chat::prompt(&mut asked).map_err(|error| asked.in_their_words(error))?;
        Ok(Json(asked.with_warnings(json!({ "input_tokens": prompt.len() }))))
    };
    off_thread(n_bytes, count).await
}
