//! A streamed answer: server-sent events, a chunk each, `[DONE]` at the end.

use crate::answer::{Answer, Piece};
use crate::errors::ApiError;
use axum::http::HeaderValue;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;
use sterna_engine::{Finished, Output, TokenLogprob};

/// Proxies cut connections that are silent for longer, some after 30 seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The response of an answer. When the client goes away the response is dropped, and with it the
/// answer, which ends its generations.
pub fn respond(answer: Answer) -> Response {
    let events = stream::unfold(Events::new(answer), |mut events| async move {
        let event = events.next().await?;
        Some((Ok::<_, Infallible>(event), events))
    });
    stream_of(events, Event::default().comment("keep-alive"))
}

/// A stream of events; `idle` is sent where none comes for long.
pub fn stream_of(
    events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static,
    idle: Event,
) -> Response {
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).event(idle);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    // Or nginx collects tokens before it passes them on.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The events of an answer, one after another.
struct Events {
    answer: Answer,
    /// Log probabilities of the prompts, which go with the first chunk of their choice.
    prompts: Vec<Vec<TokenLogprob>>,
    finished: Vec<Option<Finished>>,
    ready: VecDeque<Event>,
    is_over: bool,
}

impl Events {
    fn new(answer: Answer) -> Self {
        let n = answer.running.len();
        let (prompts, finished) = (vec![Vec::new(); n], vec![None; n]);
        Self { answer, prompts, finished, ready: VecDeque::new(), is_over: false }
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.is_over {
                return None;
            }
            match self.answer.running.next().await {
                Some((index, output)) => self.take(index, output),
                None => self.close(),
            }
        }
    }

    fn take(&mut self, index: usize, output: Output) {
        match output {
            Output::Prompt(more) => self.prompts[index].extend(more),
            Output::Token { text, logprob, .. } => {
                let tokens = logprob.into_iter().collect();
                let piece = Piece { text, tokens, ..Piece::default() };
                let piece = self.answer.shape.digest(index, piece);
                // The text comes with a later token, when it is certain.
                let says = |piece: &Piece| !(piece.is_empty() && piece.tokens.is_empty());
                if let Some(piece) = piece.filter(says) {
                    let chunk = self.chunk(index, piece);
                    self.push(chunk);
                }
            }
            Output::Finished(end) => {
                let (text, reason) = (end.text.clone(), Some(end.reason));
                let piece = Piece { text, reason, ..Piece::default() };
                let piece = self.answer.shape.digest(index, piece).unwrap_or_default();
                let mut chunk = self.chunk(index, piece);
                self.finished[index] = Some(end);
                if self.finished.iter().all(Option::is_some) {
                    let cost = self.answer.cost(&self.finished);
                    chunk.insert("timings".into(), cost.timings());
                }
                self.push(chunk);
            }
            Output::Failed(error) => {
                // The status is long sent: clients look for this object in the data.
                let error = ApiError::from(error).json();
                self.ready.push_back(Event::default().data(error.to_string()));
                self.end();
            }
        }
    }

    /// A chunk with what is new of a choice.
    fn chunk(&mut self, index: usize, mut piece: Piece) -> Map<String, Value> {
        piece.prompt = std::mem::take(&mut self.prompts[index]);
        let entry = self.answer.shape.entry(index, &piece, true);
        let mut chunk = self.answer.object(vec![entry], true);
        if self.answer.includes_usage {
            chunk.insert("usage".into(), Value::Null);
        }
        chunk
    }

    fn close(&mut self) {
        if self.answer.includes_usage {
            let usage = self.answer.usage(&self.answer.cost(&self.finished));
            let mut chunk = self.answer.object(Vec::new(), true);
            chunk.insert("usage".into(), usage);
            self.push(chunk);
        }
        self.end();
    }

    fn end(&mut self) {
        self.ready.push_back(Event::default().data("[DONE]"));
        self.is_over = true;
    }

    fn push(&mut self, chunk: Map<String, Value>) {
        // JSON escapes line ends, so that a chunk is one line of data.
        self.ready.push_back(Event::default().data(Value::Object(chunk).to_string()));
    }
}
