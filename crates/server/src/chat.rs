//! `POST /v1/chat/completions`, and `POST /apply-template`, which shows the prompt of one.

use crate::answer::{Answer, Piece, Shape};
use crate::app::App;
use crate::asked::Asked;
use crate::conversation::Conversation;
use crate::errors::ApiError;
use crate::fields::Fields;
use crate::fresh::Fresh;
use crate::generation::{Generation, Limit};
use crate::hints::{PrivateFrom, private_from};
use crate::logprobs;
use crate::model::Model;
use crate::posted::Posted;
use crate::prediction;
use crate::reading::{Calls, Reader, Reading};
use crate::reasoning::{self, Form};
use crate::tables::{APPLY_TEMPLATE, CHAT};
use crate::tools::Tools;
use axum::Json;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use sterna_engine::{FinishReason, Request};
use sterna_model::Tokenizer;

/// The likeliest tokens that may be listed with each.
const MAX_TOP: i64 = 20;

/// Answers a conversation.
pub async fn create(posted: Posted) -> Result<Response, ApiError> {
    posted.read(prepare).await?.respond().await
}

fn prepare(posted: &Posted) -> Result<Answer, ApiError> {
    let Posted { app, headers, .. } = posted;
    let mut asked = Asked::read(posted, CHAT)?;
    let limit = limit(&asked)?;
    let Planned { generation, requests, reading } = plan(app, &mut asked, headers, limit)?;
    let choice = |_| Choice { has_begun: false, reader: reading.reader(), n_calls: 0 };
    let shape = ChatShape {
        tokenizer: asked.model.served.tokenizer.clone(),
        has_logprobs: generation.request.logprobs.is_some(),
        tells_thoughts: reading.thoughts.is_some(),
        ids: app.fresh.fork(),
        choices: requests.iter().map(choice).collect(),
    };
    Answer::start(app, asked, &generation, requests, Box::new(shape))
}

/// How long the answer of a conversation may be.
///
/// # Errors
/// When it is not a number of tokens.
pub fn limit(asked: &Asked) -> Result<Limit, ApiError> {
    let max_tokens = max_tokens(asked.fields())?;
    // As long as the model goes on and the context reaches.
    Ok(Limit { max_tokens, default: usize::MAX, context_len: asked.model.served.context_len })
}

/// What is asked of the engine, and how its answers are to be read.
pub struct Planned {
    /// What is asked besides the prompts.
    pub generation: Generation,
    /// A request per choice.
    pub requests: Vec<Request>,
    /// How each answer is read.
    pub reading: Reading,
}

/// What a conversation asks of the engine.
///
/// # Errors
/// For the first parameter that is wrong.
pub fn plan(
    app: &App,
    asked: &mut Asked,
    headers: &HeaderMap,
    limit: Limit,
) -> Result<Planned, ApiError> {
    let mut generation = generation(asked, headers)?;
    let conversation = Conversation::read(asked)?;
    let calls = may_call(app, asked, &conversation.tools, &mut generation)?;
    generation.request.prediction = prediction::read(asked)?;
    let form = thoughts(app, asked, &mut generation)?;
    let prompt = conversation.render(&asked.model)?;
    let begun = |form: &'static Form| (form, prompt.ends_with(form.open));
    let reading = Reading { thoughts: form.map(begun), calls };
    let prompt = prompt.tokens(&asked.model);
    generation.request.public_tokens = match private_from(asked.fields())? {
        PrivateFrom::Token(n) => n,
        PrivateFrom::System => conversation.system_tokens(&asked.model, &prompt),
    };
    let requests = generation.requests(app, &[prompt], limit)?;
    Ok(Planned { generation, requests, reading })
}

/// What is asked of a prompt that is tokens already.
///
/// # Errors
/// For the first parameter that is wrong.
pub fn plan_of(
    app: &App,
    asked: &mut Asked,
    headers: &HeaderMap,
    limit: Limit,
    prompt: Vec<u32>,
) -> Result<Planned, ApiError> {
    let generation = generation(asked, headers)?;
    let requests = generation.requests(app, &[prompt], limit)?;
    Ok(Planned { generation, requests, reading: Reading::default() })
}

/// The tokens of a conversation's prompt.
///
/// # Errors
/// For what is wrong in the messages.
pub fn prompt(asked: &mut Asked) -> Result<Vec<u32>, ApiError> {
    let conversation = Conversation::read(asked)?;
    Ok(conversation.render(&asked.model)?.tokens(&asked.model))
}

fn generation(asked: &mut Asked, headers: &HeaderMap) -> Result<Generation, ApiError> {
    let mut generation = Generation::read(asked, headers)?;
    generation.request.logprobs = top_logprobs(asked.fields())?;
    Ok(generation)
}

/// Lets an answer call tools, or holds it to calls if it must be some.
fn may_call(
    app: &App,
    asked: &Asked,
    tools: &Tools,
    generation: &mut Generation,
) -> Result<Option<Calls>, ApiError> {
    let (names, most) = (tools.names(), tools.most_calls());
    if names.is_empty() {
        return Ok(None);
    }
    let format = app.call_format(&asked.model);
    generation.request.visible.extend(controls(&asked.model, format.controls()));
    let calls = tools.constraint(&asked.model, format)?;
    let constraint = &mut generation.request.constraint;
    if constraint.is_some() {
        let message = "an answer is held to a format or grammar, or may be calls of tools: send \
                       one of them, or the tool_choice `none`";
        return Err(ApiError::invalid("tools", message));
    }
    *constraint = calls;
    Ok(Some(Calls { format, names, most }))
}

/// The form of the thoughts that are to be told apart, if any are. An answer that is held to a
/// format has none.
fn thoughts(
    app: &App,
    asked: &Asked,
    generation: &mut Generation,
) -> Result<Option<&'static Form>, ApiError> {
    let is_wanted = match asked.fields().text("reasoning_format")? {
        None | Some(reasoning::AUTO | "deepseek") => true,
        Some(reasoning::NONE) => false,
        Some(other) => {
            let message =
                format!("reasoning_format is \"{other}\"; it must be auto, deepseek or none");
            return Err(ApiError::invalid("reasoning_format", message));
        }
    };
    let form = app.thought_form(&asked.model).filter(|_| generation.request.constraint.is_none());
    if let Some(form) = form {
        // Where they stay in the text, so do their marks.
        let marks = controls(&asked.model, &[form.open, form.close]);
        generation.request.visible.extend(marks);
    }
    Ok(form.filter(|_| is_wanted))
}

/// The tokens of these spellings that do not show in a text by themselves.
fn controls(model: &Model, spellings: &[&str]) -> Vec<u32> {
    let tokenizer = &model.served.tokenizer;
    let control = |spelling: &&str| match *tokenizer.encode_special(spelling, false, true) {
        [token] if tokenizer.token_bytes(token).is_empty() => Some(token),
        _ => None,
    };
    spellings.iter().filter_map(control).collect()
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
    /// Whether thoughts are told apart.
    tells_thoughts: bool,
    /// Ids of calls.
    ids: Fresh,
    choices: Vec<Choice>,
}

/// A choice as far as it came.
struct Choice {
    /// The first chunk of a choice names the role. It waits for the first text: clients measure
    /// the time to the first token by it.
    has_begun: bool,
    reader: Reader,
    /// Calls that were shown.
    n_calls: usize,
}

impl ChatShape {
    /// New calls of a choice, as OpenAI has them.
    fn calls(&mut self, index: usize, piece: &Piece, is_chunk: bool) -> Vec<Value> {
        let choice = &mut self.choices[index];
        let mut calls = Vec::new();
        for call in &piece.calls {
            let mut object = call.object(&self.ids.call_id());
            if is_chunk {
                object["index"] = choice.n_calls.into();
            }
            choice.n_calls += 1;
            calls.push(object);
        }
        calls
    }
}

impl Shape for ChatShape {
    fn id_prefix(&self) -> &'static str {
        "chatcmpl-"
    }

    fn object(&self, is_chunk: bool) -> &'static str {
        if is_chunk { "chat.completion.chunk" } else { "chat.completion" }
    }

    fn digest(&mut self, index: usize, piece: Piece) -> Option<Piece> {
        let reader = &mut self.choices[index].reader;
        if piece.reason.is_some() { reader.read(piece) } else { reader.token(piece) }
    }

    fn n_thought(&self) -> Option<usize> {
        let all = self.choices.iter().map(|choice| choice.reader.n_thought());
        self.tells_thoughts.then(|| all.sum())
    }

    fn entry(&mut self, index: usize, piece: &Piece, is_chunk: bool) -> Value {
        let mut message = Map::new();
        let calls = self.calls(index, piece, is_chunk);
        let choice = &mut self.choices[index];
        let is_first = !std::mem::replace(&mut choice.has_begun, true);
        if is_first {
            message.insert("role".into(), "assistant".into());
        }
        // The last chunk has nothing new to say, unless it is the only one.
        if !piece.text.is_empty() || is_first && piece.is_empty() {
            message.insert("content".into(), piece.text.clone().into());
        } else if is_first {
            message.insert("content".into(), Value::Null);
        }
        if !piece.thoughts.is_empty() {
            message.insert("reasoning_content".into(), piece.thoughts.clone().into());
        }
        if !calls.is_empty() {
            message.insert("tool_calls".into(), calls.into());
        }
        if !is_chunk {
            message.insert("refusal".into(), Value::Null);
        }
        let finish_reason = match piece.reason {
            Some(FinishReason::Stop) if choice.n_calls > 0 => Some("tool_calls"),
            _ => piece.finish_reason(),
        };
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
            "finish_reason": finish_reason,
        })
    }
}

/// The prompt of a conversation, as llama.cpp shows it.
pub async fn apply_template(posted: Posted) -> Result<Json<Value>, ApiError> {
    let render = |posted: &Posted| {
        let mut asked = Asked::read(posted, APPLY_TEMPLATE)?;
        let conversation = Conversation::read(&mut asked)?;
        let prompt = conversation.render(&asked.model)?.text();
        Ok(Json(asked.with_warnings(json!({ "prompt": prompt }))))
    };
    posted.read(render).await
}
