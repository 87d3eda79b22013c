//! One answer in the words of another API than OpenAI's chat: whole, or as it comes.
//!
//! In: a generation that runs, and a [`Voice`], which knows how its API says things. Out: the
//! response. Dropping it ends the generation, so a client that goes away ends its own.

use crate::answer::Piece;
use crate::cost::Cost;
use crate::errors::ApiError;
use crate::reading::Reader;
use crate::running::Running;
use crate::sse;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde_json::Value;
use std::collections::VecDeque;
use std::convert::Infallible;
use sterna_engine::{Class, Finished, Output};

/// A part of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Its name, where parts have names.
    pub event: &'static str,
    /// What it says.
    pub data: Value,
}

/// How parts of a stream are told apart.
pub enum Framing {
    /// Server-sent events with names; this one is sent where none comes for long.
    Events(Event),
    /// A line of JSON each.
    Lines,
}

/// How an API says an answer. It is told all pieces and then the end, or that there is none.
pub trait Voice: Send {
    /// How its streams are framed.
    fn framing(&self) -> Framing;

    /// The engine has the request.
    fn begin(&mut self) -> Vec<Frame>;

    /// More text, or tokens.
    fn piece(&mut self, piece: &Piece) -> Vec<Frame>;

    /// The end of a stream.
    fn end(&mut self, end: &End) -> Vec<Frame>;

    /// An end that is none, of a stream.
    fn fail(&mut self, error: &ApiError) -> Vec<Frame>;

    /// The whole answer, in place of a stream's end.
    fn whole(&mut self, end: &End) -> Value;
}

/// The end of an answer.
pub struct End {
    /// As the engine says it.
    pub finished: Finished,
    /// Tokens of thoughts, among the new ones.
    pub n_thought: usize,
}

/// An answer in the making.
pub struct Telling {
    /// Where the pieces come from: one generation.
    pub running: Running,
    /// How they are read.
    pub reader: Reader,
    /// How they are said.
    pub voice: Box<dyn Voice>,
    /// How urgent it is, for the response's header.
    pub class: Class,
    /// Send pieces as they come.
    pub is_streamed: bool,
}

/// What an engine says, as far as an answer goes.
enum Said {
    /// The text comes with a later token where there is none, when it is certain.
    Piece(Option<Piece>),
    /// With the rest of the text.
    End(Piece, Box<End>),
    Failed(ApiError),
}

impl Telling {
    /// The response.
    ///
    /// # Errors
    /// When the engine fails on it, unless it is streamed: then the stream says so.
    pub async fn respond(self) -> Result<Response, ApiError> {
        let class = HeaderValue::from_static(self.class.name());
        let mut response = if self.is_streamed { self.stream() } else { self.answer().await? };
        response.headers_mut().insert("x-priority-class", class);
        Ok(response)
    }

    async fn answer(mut self) -> Result<Response, ApiError> {
        self.voice.begin();
        loop {
            match self.next().await {
                Said::Piece(piece) => drop(piece.map(|piece| self.voice.piece(&piece))),
                Said::End(piece, end) => {
                    self.voice.piece(&piece);
                    let mut response = Json(self.voice.whole(&end)).into_response();
                    Cost::of(&[end.finished], 1).show_in(response.headers_mut());
                    return Ok(response);
                }
                Said::Failed(error) => {
                    self.voice.fail(&error);
                    return Err(error);
                }
            }
        }
    }

    /// What comes next.
    async fn next(&mut self) -> Said {
        match self.running.next().await {
            // Not asked for.
            Some((_, Output::Prompt(_))) => Said::Piece(None),
            Some((_, Output::Token { text, logprob, .. })) => {
                let tokens = logprob.into_iter().collect();
                let piece = self.reader.token(Piece { text, tokens, ..Piece::default() });
                Said::Piece(piece.filter(|piece| !(piece.is_empty() && piece.tokens.is_empty())))
            }
            Some((_, Output::Finished(finished))) => {
                let (text, reason) = (finished.text.clone(), Some(finished.reason));
                let last = self.reader.read(Piece { text, reason, ..Piece::default() });
                let n_thought = self.reader.n_thought();
                Said::End(last.unwrap_or_default(), Box::new(End { finished, n_thought }))
            }
            Some((_, Output::Failed(error))) => Said::Failed(error.into()),
            None => unreachable!("a generation is not asked on after its end"),
        }
    }

    fn stream(self) -> Response {
        let framing = self.voice.framing();
        let told = Told { telling: self, ready: VecDeque::new(), has_begun: false, is_over: false };
        let frames = stream::unfold(told, |mut told| async move {
            let frame = told.next().await?;
            Some((frame, told))
        });
        match framing {
            Framing::Events(idle) => {
                // JSON escapes line ends, so that an event is one line of data.
                let event = |frame: Frame| {
                    let event = Event::default().event(frame.event);
                    Ok::<_, Infallible>(event.data(frame.data.to_string()))
                };
                sse::stream_of(frames.map(event), idle)
            }
            Framing::Lines => {
                let line =
                    |frame: Frame| Ok::<_, Infallible>(Bytes::from(format!("{}\n", frame.data)));
                let headers = [
                    (header::CONTENT_TYPE, "application/x-ndjson"),
                    (HeaderName::from_static("x-accel-buffering"), "no"),
                ];
                (headers, Body::from_stream(frames.map(line))).into_response()
            }
        }
    }
}

/// A stream, frame by frame.
struct Told {
    telling: Telling,
    ready: VecDeque<Frame>,
    has_begun: bool,
    is_over: bool,
}

impl Told {
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if self.is_over {
                return None;
            }
            if !std::mem::replace(&mut self.has_begun, true) {
                self.ready.extend(self.telling.voice.begin());
                continue;
            }
            let said = self.telling.next().await;
            let voice = &mut self.telling.voice;
            match said {
                Said::Piece(None) => {}
                Said::Piece(Some(piece)) => self.ready.extend(voice.piece(&piece)),
                Said::End(piece, end) => {
                    if !(piece.is_empty() && piece.tokens.is_empty()) {
                        self.ready.extend(voice.piece(&piece));
                    }
                    self.ready.extend(voice.end(&end));
                    self.is_over = true;
                }
                Said::Failed(error) => {
                    self.ready.extend(voice.fail(&error));
                    self.is_over = true;
                }
            }
        }
    }
}
