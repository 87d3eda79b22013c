//! `POST /v1/messages` and `/v1/messages/count_tokens`, as Anthropic has them.
//!
//! In: a system text and messages of blocks (`messages/input.rs`). Out: a message, whole or as
//! events (`messages/voice.rs`). Errors get Anthropic's shape at the edge (`dialect.rs`).

mod input;
mod voice;

use crate::asked::Asked;
use crate::chat::{self, Planned};
use crate::errors::ApiError;
use crate::generation::Limit;
use crate::posted::Posted;
use crate::running::Running;
use crate::tables::{COUNT_TOKENS, MESSAGES};
use crate::telling::Telling;
use axum::Json;
use axum::response::Response;
use serde_json::{Value, json};
use voice::MessageVoice;

/// Answers messages.
pub async fn create(posted: Posted) -> Result<Response, ApiError> {
    posted.read(prepare).await?.respond().await
}

fn prepare(posted: &Posted) -> Result<Telling, ApiError> {
    let Posted { app, headers, .. } = posted;
    let mut asked = Asked::read(posted, MESSAGES)?;
    input::translate(app, &mut asked, headers)?;
    asked.identify(app, headers).map_err(|error| asked.in_their_words(error))?;
    let Some(most) = asked.fields().integer("max_tokens", 1, i64::MAX)? else {
        let message = "max_tokens is missing; it is how many tokens the answer may have";
        return Err(ApiError::invalid("max_tokens", message));
    };
    // Where the context ends first, the answer says so: `model_context_window_exceeded`.
    let context_len = asked.model.served.context_len;
    let limit = Limit { max_tokens: None, default: most as usize, context_len };
    let planned = chat::plan(app, &mut asked, headers, limit);
    let Planned { generation, requests, reading } =
        planned.map_err(|error| asked.in_their_words(error))?;
    let class = generation.request.class;
    let [prompt_tokens, max_tokens] = match requests.as_slice() {
        [request] => [request.prompt.len(), request.max_tokens],
        requests => panic!("one message is one request, not {}", requests.len()),
    };
    let running = Running::start(&asked.model, requests, 1)?;
    let voice = Box::new(MessageVoice {
        id: app.fresh.id("msg_"),
        ids: app.fresh.fork(),
        model: asked.model.served.name.clone(),
        prompt_tokens,
        is_cut_by_context: max_tokens < most as usize,
        warnings: asked.warnings,
        content: Vec::new(),
        is_open: false,
    });
    let (reader, is_streamed) = (reading.reader(), generation.is_streamed);
    Ok(Telling { running, reader, voice, class, is_streamed })
}

/// How many tokens the prompt of messages has.
pub async fn count_tokens(posted: Posted) -> Result<Json<Value>, ApiError> {
    let count = |posted: &Posted| {
        let mut asked = Asked::read(posted, COUNT_TOKENS)?;
        input::translate(&posted.app, &mut asked, &posted.headers)?;
        let prompt = chat::prompt(&mut asked).map_err(|error| asked.in_their_words(error))?;
        Ok(Json(asked.with_warnings(json!({ "input_tokens": prompt.len() }))))
    };
    posted.read(count).await
}
