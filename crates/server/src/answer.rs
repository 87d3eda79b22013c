//! From the pieces of an engine's answer to a response, whole or as a stream.

use crate::app::App;
use crate::asked::Asked;
use crate::calls::Call;
use crate::cost::Cost;
use crate::errors::ApiError;
use crate::generation::Generation;
use crate::running::Running;
use crate::sse;
use axum::Json;
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use sterna_engine::{Class, FinishReason, Finished, Output, Request, TokenLogprob};

/// A stretch of a choice: all of it, or what came last.
#[derive(Clone, Debug, Default)]
pub struct Piece {
    /// New text.
    pub text: String,
    /// What the model newly thought, where that is told apart.
    pub thoughts: String,
    /// New calls of tools.
    pub calls: Vec<Call>,
    /// Log probabilities of the prompt, where they were asked for; with the first piece.
    pub prompt: Vec<TokenLogprob>,
    /// Those of the new tokens.
    pub tokens: Vec<TokenLogprob>,
    /// Why it ended, if it did.
    pub reason: Option<FinishReason>,
}

impl Piece {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.thoughts.is_empty() && self.calls.is_empty()
    }

    /// Goes on with what came next.
    fn append(&mut self, next: Self) {
        self.text += &next.text;
        self.thoughts += &next.thoughts;
        self.calls.extend(next.calls);
        self.prompt.extend(next.prompt);
        self.tokens.extend(next.tokens);
        self.reason = next.reason;
    }

    /// OpenAI's name of the reason.
    pub fn finish_reason(&self) -> Option<&'static str> {
        self.reason.map(finish_reason)
    }
}

/// OpenAI's name of a reason.
pub fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        // OpenAI has no such thing; this is vLLM's name.
        FinishReason::Cancelled => "abort",
    }
}

/// In what the endpoints differ: how a choice is written.
pub trait Shape: Send {
    /// What the answer's id begins with.
    fn id_prefix(&self) -> &'static str;

    /// The answer's `object`.
    fn object(&self, is_chunk: bool) -> &'static str;

    /// Takes what belongs together out of what a token brought, or the end, which has a reason;
    /// `None` where nothing is to be shown yet, which is not so at the end.
    fn digest(&mut self, _index: usize, piece: Piece) -> Option<Piece> {
        Some(piece)
    }

    /// Tokens of thoughts so far, where those are told apart.
    fn n_thought(&self) -> Option<usize> {
        None
    }

    /// A choice, or in a chunk what is new of it.
    fn entry(&mut self, index: usize, piece: &Piece, is_chunk: bool) -> Value;
}

/// What every object of an answer repeats.
struct Envelope {
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
    /// Shown once.
    warnings: Vec<String>,
}

/// An answer in the making. Dropping it ends what it asked the engine for.
pub struct Answer {
    /// Where the pieces come from.
    pub running: Running,
    /// How choices are written.
    pub shape: Box<dyn Shape>,
    /// End a stream with a chunk that has the usage.
    pub includes_usage: bool,
    envelope: Envelope,
    /// Choices of each prompt.
    n: usize,
    is_streamed: bool,
    class: Class,
    has_deadline: bool,
}

impl Answer {
    /// Gives the requests to the engine.
    ///
    /// # Errors
    /// Of the first that the engine does not take; then it has none of them.
    pub fn start(
        app: &App,
        asked: Asked,
        generation: &Generation,
        requests: Vec<Request>,
        shape: Box<dyn Shape>,
    ) -> Result<Self, ApiError> {
        let served = &asked.model.served;
        let running = Running::start(&asked.model, requests, generation.n)?;
        let envelope = Envelope {
            id: app.fresh.id(shape.id_prefix()),
            created: app.unix_seconds(),
            model: served.name.clone(),
            fingerprint: served.fingerprint.clone(),
            warnings: asked.warnings,
        };
        let Generation { n, is_streamed, includes_usage, ref request, .. } = *generation;
        let (class, has_deadline) = (request.class, request.deadline.is_some());
        Ok(Self { running, shape, includes_usage, envelope, n, is_streamed, class, has_deadline })
    }

    /// The response.
    ///
    /// # Errors
    /// When the engine fails on it, unless a stream of it has begun: then the stream says so.
    pub async fn respond(mut self) -> Result<Response, ApiError> {
        if self.has_deadline {
            // A request that will not be answered in time has a status of its own, streamed or not.
            self.running.begun().await?;
        }
        let class = HeaderValue::from_static(self.class.name());
        let mut response = if self.is_streamed { sse::respond(self) } else { self.whole().await? };
        response.headers_mut().insert("x-priority-class", class);
        Ok(response)
    }

    async fn whole(mut self) -> Result<Response, ApiError> {
        let mut pieces = vec![Piece::default(); self.running.len()];
        let mut finished = vec![None; pieces.len()];
        while let Some((index, output)) = self.running.next().await {
            let new = match output {
                Output::Prompt(prompt) => Some(Piece { prompt, ..Piece::default() }),
                Output::Token { text, logprob, .. } => {
                    let tokens = logprob.into_iter().collect();
                    self.shape.digest(index, Piece { text, tokens, ..Piece::default() })
                }
                Output::Finished(end) => {
                    let (text, reason) = (end.text.clone(), Some(end.reason));
                    finished[index] = Some(end);
                    self.shape.digest(index, Piece { text, reason, ..Piece::default() })
                }
                Output::Failed(error) => return Err(error.into()),
            };
            pieces[index].append(new.unwrap_or_default());
        }
        let cost = self.cost(&finished);
        let mut choices = Vec::with_capacity(pieces.len());
        for (index, piece) in pieces.iter().enumerate() {
            choices.push(self.shape.entry(index, piece, false));
        }
        let mut object = self.object(choices, false);
        object.insert("usage".into(), self.usage(&cost));
        object.insert("timings".into(), cost.timings());
        let mut response = Json(Value::Object(object)).into_response();
        cost.show_in(response.headers_mut());
        Ok(response)
    }

    /// An object with these choices: the answer, or a chunk of it. The first has the warnings.
    pub fn object(&mut self, choices: Vec<Value>, is_chunk: bool) -> Map<String, Value> {
        let Envelope { id, created, model, fingerprint, warnings } = &mut self.envelope;
        let mut object = Map::new();
        object.insert("id".into(), id.clone().into());
        object.insert("object".into(), self.shape.object(is_chunk).into());
        object.insert("created".into(), (*created).into());
        object.insert("model".into(), model.clone().into());
        object.insert("system_fingerprint".into(), fingerprint.clone().into());
        object.insert("choices".into(), choices.into());
        if !warnings.is_empty() {
            object.insert("warnings".into(), std::mem::take(warnings).into());
        }
        object
    }

    /// OpenAI's object of what it cost.
    pub fn usage(&self, cost: &Cost) -> Value {
        let mut usage = cost.usage();
        if let Some(n_thought) = self.shape.n_thought() {
            usage["completion_tokens_details"]["reasoning_tokens"] = n_thought.into();
        }
        usage
    }

    /// What the choices cost that have ended.
    pub fn cost(&self, finished: &[Option<Finished>]) -> Cost {
        let finished: Vec<Finished> = finished.iter().flatten().cloned().collect();
        Cost::of(&finished, self.n)
    }
}
