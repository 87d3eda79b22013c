//! How a message is said: the object, and the events in the order that Anthropic documents.

use crate::answer::Piece;
use crate::calls::Call;
use crate::dialect::Dialect;
use crate::errors::ApiError;
use crate::fresh::Fresh;
use crate::telling::{End, Frame, Framing, Voice};
use axum::response::sse::Event;
use serde_json::{Value, json};
use sterna_engine::{FinishReason, Finished};

/// A message in the making.
pub struct MessageVoice {
    /// Its id.
    pub id: String,
    /// Ids of uses of tools.
    pub ids: Fresh,
    /// The model's name.
    pub model: String,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Whether the context ends before the limit that was asked for.
    pub is_cut_by_context: bool,
    /// What the answer has to say besides.
    pub warnings: Vec<String>,
    /// The blocks so far.
    pub content: Vec<Value>,
    /// Whether more may come of the last one.
    pub is_open: bool,
}

/// The kinds of blocks whose text comes bit by bit.
#[derive(Clone, Copy)]
struct Kind {
    /// The block's type, and where its text is.
    name: &'static str,
    /// The type of what is new of it.
    delta: &'static str,
}

const THINKING: Kind = Kind { name: "thinking", delta: "thinking_delta" };
const TEXT: Kind = Kind { name: "text", delta: "text_delta" };

impl Kind {
    fn block(self) -> Value {
        let mut block = json!({ "type": self.name, self.name: "" });
        if self.name == THINKING.name {
            // Nobody checks that thoughts come back as they were.
            block["signature"] = "".into();
        }
        block
    }
}

impl MessageVoice {
    /// The message; `end` is absent at its start.
    fn message(&self, end: Option<&Finished>) -> Value {
        let mut message = json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": self.content,
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
        let has_calls = self.content.iter().any(|block| block["type"] == "tool_use");
        match end.reason {
            FinishReason::Stop if end.stop_text.is_some() => Some("stop_sequence"),
            FinishReason::Stop if has_calls => Some("tool_use"),
            FinishReason::Stop => Some("end_turn"),
            FinishReason::Length if self.is_cut_by_context => Some("model_context_window_exceeded"),
            FinishReason::Length => Some("max_tokens"),
            // Nobody listens any more.
            FinishReason::Cancelled => None,
        }
    }

    /// Adds text to the last block, or to a new one.
    fn say(&mut self, kind: Kind, text: &str, frames: &mut Vec<Frame>) {
        if text.is_empty() {
            return;
        }
        let is_last = self.content.last().is_some_and(|block| block["type"] == kind.name);
        if !(self.is_open && is_last) {
            self.close(frames);
            self.open(kind.block(), frames);
        }
        let index = self.content.len() - 1;
        if let Value::String(said) = &mut self.content[index][kind.name] {
            said.push_str(text);
        }
        let delta = json!({ "type": kind.delta, kind.name: text });
        frames.push(frame("content_block_delta", json!({ "index": index, "delta": delta })));
    }

    /// Adds a use of a tool.
    fn call(&mut self, call: &Call, frames: &mut Vec<Frame>) {
        self.close(frames);
        let id = self.ids.call_id();
        self.open(json!({ "type": "tool_use", "id": id, "name": call.name, "input": {} }), frames);
        let index = self.content.len() - 1;
        let delta = json!({ "type": "input_json_delta", "partial_json": call.arguments });
        frames.push(frame("content_block_delta", json!({ "index": index, "delta": delta })));
        self.content[index]["input"] = call.object_of_arguments();
        self.close(frames);
    }

    fn open(&mut self, block: Value, frames: &mut Vec<Frame>) {
        let start = json!({ "index": self.content.len(), "content_block": block });
        frames.push(frame("content_block_start", start));
        self.content.push(block);
        self.is_open = true;
    }

    fn close(&mut self, frames: &mut Vec<Frame>) {
        if std::mem::take(&mut self.is_open) {
            let index = self.content.len() - 1;
            frames.push(frame("content_block_stop", json!({ "index": index })));
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
        let mut frames = Vec::new();
        self.say(THINKING, &piece.thoughts, &mut frames);
        self.say(TEXT, &piece.text, &mut frames);
        for call in &piece.calls {
            self.call(call, &mut frames);
        }
        frames
    }

    fn end(&mut self, end: &End) -> Vec<Frame> {
        let end = &end.finished;
        let mut frames = Vec::new();
        self.close(&mut frames);
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

    fn whole(&mut self, end: &End) -> Value {
        self.message(Some(&end.finished))
    }
}
