//! How a message is said: the object, and the events in the order that Anthropic documents.

use crate::answer::Piece;
use crate::dialect::Dialect;
use crate::errors::ApiError;
use crate::telling::{Frame, Framing, Voice};
use axum::response::sse::Event;
use serde_json::{Value, json};
use sterna_engine::{FinishReason, Finished};

/// A message in the making.
pub struct MessageVoice {
    /// Its id.
    pub id: String,
    /// The model's name.
    pub model: String,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Whether the context ends before the limit that was asked for.
    pub is_cut_by_context: bool,
    /// What the answer has to say besides.
    pub warnings: Vec<String>,
    /// The text so far.
    pub text: String,
    /// Whether the block of text was begun.
    pub has_block: bool,
}

impl MessageVoice {
    /// The message; `end` is absent at its start.
    fn message(&self, end: Option<&Finished>) -> Value {
        let content = match self.text.is_empty() {
            true => json!([]),
            false => json!([{ "type": "text", "text": self.text }]),
        };
        let mut message = json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": end.and_then(|end| self.stop_reason(end)),
            "stop_sequence": end.and_then(|end| end.stop_text.as_deref()),
            "usage": self.usage(end),
        });
        if !self.warnings.is_empty() {
            message["warnings"] = self.warnings.clone().into();
        }
        message
    }

    /// Anthropic counts tokens that were cached beside the others, not among them.
    fn usage(&self, end: Option<&Finished>) -> Value {
        let cached = end.map_or(0, |end| end.cached_tokens);
        json!({
            "input_tokens": self.prompt_tokens.saturating_sub(cached),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": end.map_or(0, |end| end.new_tokens),
        })
    }

    fn stop_reason(&self, end: &Finished) -> Option<&'static str> {
        match end.reason {
            FinishReason::Stop if end.stop_text.is_some() => Some("stop_sequence"),
            FinishReason::Stop => Some("end_turn"),
            FinishReason::Length if self.is_cut_by_context => Some("model_context_window_exceeded"),
            FinishReason::Length => Some("max_tokens"),
            // Nobody listens any more.
            FinishReason::Cancelled => None,
        }
    }
}

fn frame(event: &'static str, mut data: Value) -> Frame {
    data["type"] = event.into();
    Frame { event, data }
}

impl Voice for MessageVoice {
    fn framing(&self) -> Framing {
        Framing::Events(Event::default().event("ping").data(r#"{"type":"ping"}"#))
    }

    fn begin(&mut self) -> Vec<Frame> {
        let message = self.message(None);
        vec![frame("message_start", json!({ "message": message })), frame("ping", json!({}))]
    }

    fn piece(&mut self, piece: &Piece) -> Vec<Frame> {
        if piece.text.is_empty() {
            return Vec::new();
        }
        self.text += &piece.text;
        let mut frames = Vec::new();
        if !std::mem::replace(&mut self.has_block, true) {
            let block = json!({ "type": "text", "text": "" });
            let start = json!({ "index": 0, "content_block": block });
            frames.push(frame("content_block_start", start));
        }
        let delta = json!({ "type": "text_delta", "text": piece.text });
        frames.push(frame("content_block_delta", json!({ "index": 0, "delta": delta })));
        frames
    }

    fn end(&mut self, end: &Finished) -> Vec<Frame> {
        let mut frames = Vec::new();
        if self.has_block {
            frames.push(frame("content_block_stop", json!({ "index": 0 })));
        }
        let delta = json!({
            "stop_reason": self.stop_reason(end),
            "stop_sequence": end.stop_text,
        });
        let delta = json!({ "delta": delta, "usage": self.usage(Some(end)) });
        frames.push(frame("message_delta", delta));
        frames.push(frame("message_stop", json!({})));
        frames
    }

    fn fail(&mut self, error: &ApiError) -> Vec<Frame> {
        vec![frame("error", Dialect::Anthropic.error(error))]
    }

    fn whole(&mut self, end: &Finished) -> Value {
        self.message(Some(end))
    }
}
