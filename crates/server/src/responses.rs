//! `POST /v1/responses`, OpenAI's newer API, and the responses that it keeps.
//!
//! In: an input, and perhaps a response that it continues. Out: a response, whole or as events
//! (`responses/voice.rs`), kept for its key (`responses/store.rs`) unless `store` is false.

mod input;
mod store;
mod voice;

pub use store::Store;

use crate::app::App;
use crate::asked::{Asked, with_warnings};
use crate::chat::{self, Planned};
use crate::errors::ApiError;
use crate::fields::{Fields, wrong};
use crate::keys::Owner;
use crate::posted::Posted;
use crate::queried::Queried;
use crate::running::Running;
use crate::tables::{INPUT_TOKENS, RESPONSE_QUERY, RESPONSES};
use crate::telling::Telling;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use sterna_engine::Class;
use voice::{ResponseVoice, Setting};

/// Answers an input.
pub async fn create(posted: Posted) -> Result<Response, ApiError> {
    posted.read(prepare).await?.respond().await
}

fn prepare(posted: &Posted) -> Result<Telling, ApiError> {
    let Posted { app, headers, .. } = posted;
    let mut asked = Asked::read(posted, RESPONSES)?;
    let owner = app.owner(headers);
    let mut shown = echo(asked.fields())?;
    let is_stored = asked.fields().flag("store")?.unwrap_or(true);
    let previous = asked.fields().text("previous_response_id")?.map(str::to_owned);
    let messages = input::translate(app, &mut asked, owner)?;
    let planned = plan(app, &mut asked, headers);
    let Planned { generation, requests, reading } =
        planned.map_err(|error| asked.in_their_words(error))?;
    let served = &asked.model.served;
    let has_logprobs = generation.request.logprobs.is_some();
    let running = Running::start(&asked.model, requests, 1)?;
    shown.insert("id".into(), app.fresh.id("resp_").into());
    shown.insert("created_at".into(), app.unix_seconds().into());
    shown.insert("model".into(), served.name.clone().into());
    shown.insert("service_tier".into(), tier(generation.request.class).into());
    if !asked.warnings.is_empty() {
        shown.insert("warnings".into(), asked.warnings.into());
    }
    let setting = Setting {
        app: app.clone(),
        owner,
        previous,
        messages,
        canceller: is_stored.then(|| running.canceller()),
        tokenizer: served.tokenizer.clone(),
        has_logprobs,
    };
    let voice = Box::new(ResponseVoice::new(setting, shown));
    let (class, is_streamed) = (generation.request.class, generation.is_streamed);
    Ok(Telling { running, reader: reading.reader(), voice, class, is_streamed })
}

fn plan(app: &App, asked: &mut Asked, headers: &HeaderMap) -> Result<Planned, ApiError> {
    let limit = chat::limit(asked)?;
    chat::plan(app, asked, headers, limit)
}

/// OpenAI's name of a class.
fn tier(class: Class) -> &'static str {
    match class {
        Class::Interactive => "priority",
        Class::Default => "default",
        Class::Batch => "flex",
    }
}

/// A response before its answer: what it repeats of the request.
fn echo(fields: Fields<'_>) -> Result<Map<String, Value>, ApiError> {
    let metadata = fields.object("metadata")?.cloned().unwrap_or_default();
    if let Some((key, value)) = metadata.iter().find(|(_, value)| !value.is_string()) {
        return Err(wrong(&format!("metadata.{key}"), value, "a string"));
    }
    let given = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let or = |name: &str, default: Value| fields.get(name).cloned().unwrap_or(default);
    let mut text = or("text", json!({}));
    if text.get("format").is_none_or(Value::is_null) && text.is_object() {
        text["format"] = json!({ "type": "text" });
    }
    let object = json!({
        "id": null,
        "object": "response",
        "created_at": null,
        "status": "in_progress",
        "background": false,
        "completed_at": null,
        "error": null,
        "incomplete_details": null,
        "instructions": given("instructions"),
        "max_output_tokens": given("max_output_tokens"),
        "max_tool_calls": given("max_tool_calls"),
        "metadata": metadata,
        "model": null,
        "output": [],
        "parallel_tool_calls": or("parallel_tool_calls", true.into()),
        "previous_response_id": given("previous_response_id"),
        "prompt_cache_key": given("prompt_cache_key"),
        "reasoning": { "effort": null, "summary": null },
        "safety_identifier": given("safety_identifier"),
        "service_tier": null,
        "store": or("store", true.into()),
        "temperature": or("temperature", 1.0.into()),
        "text": text,
        "tool_choice": or("tool_choice", "auto".into()),
        "tools": or("tools", json!([])),
        "top_logprobs": or("top_logprobs", 0.into()),
        "top_p": or("top_p", 1.0.into()),
        "truncation": "disabled",
        "usage": null,
        "user": given("user"),
    });
    let Value::Object(object) = object else { unreachable!("it is written as an object") };
    Ok(object)
}

/// How many tokens an input has.
pub async fn input_tokens(posted: Posted) -> Result<Json<Value>, ApiError> {
    let count = |posted: &Posted| {
        let mut asked = Asked::read(posted, INPUT_TOKENS)?;
        input::translate(&posted.app, &mut asked, posted.app.owner(&posted.headers))?;
        let prompt = chat::prompt(&mut asked).map_err(|error| asked.in_their_words(error))?;
        let counted = json!({ "object": "response.input_tokens", "input_tokens": prompt.len() });
        Ok(Json(asked.with_warnings(counted)))
    };
    posted.read(count).await
}

/// A response that was kept.
pub async fn get(Path(id): Path<String>, queried: Queried) -> Result<Json<Value>, ApiError> {
    let (_, warnings) = queried.read(RESPONSE_QUERY)?;
    let Queried { app, headers, .. } = queried;
    let shown = app.responses.get(app.owner(&headers), &id)?;
    Ok(Json(with_warnings(shown, warnings)))
}

/// Forgets a response.
pub async fn delete(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    app.responses.delete(app.owner(&headers), &id)?;
    Ok(Json(json!({ "id": id, "object": "response", "deleted": true })))
}

/// Ends a response that is being made.
pub async fn cancel(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let owner: Owner = app.owner(&headers);
    app.responses.cancel(owner, &id).map(Json)
}
