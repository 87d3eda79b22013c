//! `POST /v1/chat/completions`, and `POST /apply-template`, which shows the prompt of one.

use crate::answer::{Answer, Piece, Shape};
use crate::app::App;
use crate::asked::Asked;
use crate::conversation::Conversation;
use crate::edge::off_thread;
use crate::errors::ApiError;
use crate::fields::Fields;
use crate::generation::{Generation, Limit};
use crate::hints::{PrivateFrom, private_from};
use crate::logprobs;
use crate::tables::{APPLY_TEMPLATE, CHAT};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use sterna_model::Tokenizer;

/// The likeliest tokens that may be listed with each.
const MAX_TOP: i64 = 20;

/// Answers a conversation.
pub async fn create(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = body?;
    let answer = off_thread(body.len(), move || prepare(&app, &headers, &body)).await?;
    answer.respond().await
}

fn prepare(app: &App, headers: &HeaderMap, body: &[u8]) -> Result<Answer, ApiError> {
    let mut asked = Asked::read(app, headers, body, CHAT)?;
    let mut generation = Generation::read(&mut asked, headers)?;
    generation.request.logprobs = top_logprobs(asked.fields())?;
    let limit = Limit {
        max_tokens: max_tokens(asked.fields())?,
        // As long as the model goes on and the context reaches.
        default: usize::MAX,
        context_len: asked.model.served.context_len,
    };
    let conversation = Conversation::read(&mut asked)?;
    let prompt = conversation.render(&asked.model)?.tokens(&asked.model);
    generation.request.public_tokens = match private_from(asked.fields())? {
        PrivateFrom::Token(n) => n,
        PrivateFrom::System => conversation.system_tokens(&asked.model, &prompt),
    };
    let requests = generation.requests(app, &[prompt], limit)?;
    let shape = ChatShape {
        tokenizer: asked.model.served.tokenizer.clone(),
        has_logprobs: generation.request.logprobs.is_some(),
        has_begun: vec![false; requests.len()],
    };
    Answer::start(app, asked, &generation, requests, Box::new(shape))
}

/// How many of the likeliest tokens to list, if log probabilities are wanted.
fn top_logprobs(fields: Fields<'_>) -> Result<Option<usize>, ApiError> {
    let is_wanted = fields.flag("logprobs")?.unwrap_or(false);
    let top = fields.integer("top_logprobs", 0, MAX_TOP)?;
    if top.is_some_and(|top| top > 0) && !is_wanted {
        let message = "top_logprobs goes with `logprobs: true` only; remove it or set `logprobs`";
        return Err(ApiError::invalid("top_logprobs", message));
    }
    Ok(is_wanted.then(|| top.unwrap_or(0) as usize))
}

/// `max_completion_tokens`, or `max_tokens`, its older name.
fn max_tokens(fields: Fields<'_>) -> Result<Option<usize>, ApiError> {
    let [new, old] = ["max_completion_tokens", "max_tokens"];
    match (fields.integer(new, 1, i64::MAX)?, fields.integer(old, 1, i64::MAX)?) {
        (Some(a), Some(b)) if a != b => {
            let message = format!("{new} is {a} and {old} is {b}; send one of them");
            Err(ApiError::invalid(old, message))
        }
        (a, b) => Ok(a.or(b).map(|n| n as usize)),
    }
}

/// How choices of a chat are written.
struct ChatShape {
    tokenizer: Arc<Tokenizer>,
    has_logprobs: bool,
    /// The first chunk of a choice names the role. It waits for the first text: clients measure
    /// the time to the first token by it.
    has_begun: Vec<bool>,
}

impl Shape for ChatShape {
    fn id_prefix(&self) -> &'static str {
        "chatcmpl-"
    }

    fn object(&self, is_chunk: bool) -> &'static str {
        if is_chunk { "chat.completion.chunk" } else { "chat.completion" }
    }

    fn entry(&mut self, index: usize, piece: &Piece, is_chunk: bool) -> Value {
        let mut message = Map::new();
        let is_first = !std::mem::replace(&mut self.has_begun[index], true);
        if is_first {
            message.insert("role".into(), "assistant".into());
        }
        // The last chunk has nothing new to say, unless it is the only one.
        if is_first || !piece.text.is_empty() {
            message.insert("content".into(), piece.text.clone().into());
        }
        if !is_chunk {
            message.insert("refusal".into(), Value::Null);
        }
        // A chunk without tokens has no log probabilities; an answer has them, if none.
        let is_shown = self.has_logprobs && !(is_chunk && piece.tokens.is_empty());
        let logprobs = match is_shown {
            true => logprobs::chat(&self.tokenizer, &piece.tokens),
            false => Value::Null,
        };
        let key = if is_chunk { "delta" } else { "message" };
        json!({
            "index": index,
            key: message,
            "logprobs": logprobs,
            "finish_reason": piece.finish_reason(),
        })
    }
}

/// The prompt of a conversation, as llama.cpp shows it.
pub async fn apply_template(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let body = body?;
    let n_bytes = body.len();
    let render = move || -> Result<Json<Value>, ApiError> {
        let mut asked = Asked::read(&app, &headers, &body, APPLY_TEMPLATE)?;
        let conversation = Conversation::read(&mut asked)?;
        let prompt = conversation.render(&asked.model)?.text();
        Ok(Json(asked.with_warnings(json!({ "prompt": prompt }))))
    };
    off_thread(n_bytes, render).await
}
