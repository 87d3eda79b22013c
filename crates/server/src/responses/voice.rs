//! How a response is said: the object, and the events in the order that OpenAI documents.

use super::store::Kept;
use crate::answer::Piece;
use crate::app::App;
use crate::errors::ApiError;
use crate::keys::Owner;
use crate::logprobs;
use crate::running::Canceller;
use crate::telling::{Frame, Framing, Voice};
use axum::response::sse::Event;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use sterna_engine::{FinishReason, Finished};
use sterna_model::Tokenizer;

/// What a response needs to know besides what it shows.
pub struct Setting {
    /// Where it is kept.
    pub app: Arc<App>,
    /// For whom.
    pub owner: Owner,
    /// The response that it continues.
    pub previous: Option<String>,
    /// The messages that it answers.
    pub messages: Vec<Value>,
    /// Ends it; `None` where it is not to be kept.
    pub canceller: Option<Canceller>,
    /// Spells tokens of log probabilities.
    pub tokenizer: Arc<Tokenizer>,
    /// Whether they are wanted.
    pub has_logprobs: bool,
}

/// A response in the making.
pub struct ResponseVoice {
    setting: Setting,
    id: String,
    item_id: String,
    shown: Map<String, Value>,
    is_stored: bool,
    text: String,
    logprobs: Vec<Value>,
    has_item: bool,
    n_events: u64,
    is_over: bool,
}

impl ResponseVoice {
    /// A response that shows so much before its answer; with its id.
    pub fn new(setting: Setting, shown: Map<String, Value>) -> Self {
        let id = shown["id"].as_str().unwrap_or_default().to_owned();
        Self {
            item_id: setting.app.fresh.id("msg_"),
            is_stored: setting.canceller.is_some(),
            setting,
            id,
            shown,
            text: String::new(),
            logprobs: Vec::new(),
            has_item: false,
            n_events: 0,
            is_over: false,
        }
    }

    /// An event; `more` is what it has besides its type and number.
    fn event(&mut self, event: &'static str, mut more: Value) -> Frame {
        more["type"] = event.into();
        more["sequence_number"] = self.n_events.into();
        self.n_events += 1;
        Frame { event, data: more }
    }

    /// An event about the response.
    fn of_response(&mut self, event: &'static str) -> Frame {
        let response = Value::Object(self.shown.clone());
        self.event(event, json!({ "response": response }))
    }

    /// An event about the text of the only item.
    fn of_text(&mut self, event: &'static str, key: &str, value: Value) -> Frame {
        let mut more = json!({ "item_id": self.item_id, "output_index": 0, "content_index": 0 });
        more[key] = value;
        self.event(event, more)
    }

    fn part(&self) -> Value {
        json!({
            "type": "output_text",
            "text": self.text,
            "annotations": [],
            "logprobs": self.logprobs,
        })
    }

    fn item(&self, status: &str, content: Vec<Value>) -> Value {
        json!({
            "id": self.item_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        })
    }

    /// The events before the first text.
    fn open(&mut self) -> Vec<Frame> {
        if std::mem::replace(&mut self.has_item, true) {
            return Vec::new();
        }
        let item = self.item("in_progress", Vec::new());
        let added = json!({ "output_index": 0, "item": item });
        let empty = json!({ "type": "output_text", "text": "", "annotations": [], "logprobs": [] });
        vec![
            self.event("response.output_item.added", added),
            self.of_text("response.content_part.added", "part", empty),
        ]
    }

    /// Keeps it as it is now, if it is to be kept.
    fn keep(&mut self, is_new: bool) {
        if !self.is_stored {
            return;
        }
        let mut messages = self.setting.messages.clone();
        if self.is_over {
            messages.push(json!({ "role": "assistant", "content": self.text }));
        }
        let kept = Kept {
            owner: self.setting.owner,
            shown: Value::Object(self.shown.clone()),
            messages,
            previous: self.setting.previous.clone(),
            canceller: self.setting.canceller.take().filter(|_| !self.is_over),
        };
        let store = &self.setting.app.responses;
        self.is_stored =
            if is_new { store.put(&self.id, kept) } else { store.replace(&self.id, kept) };
        // Too large to be kept, or forgotten meanwhile.
        self.shown.insert("store".into(), self.is_stored.into());
    }

    /// Notes the end.
    fn close(&mut self, end: &Finished) -> &'static str {
        let (status, item_status, event) = match end.reason {
            FinishReason::Stop => ("completed", "completed", "response.completed"),
            FinishReason::Length => ("incomplete", "incomplete", "response.incomplete"),
            // There is no event of this name.
            FinishReason::Cancelled => ("cancelled", "incomplete", "response.incomplete"),
        };
        let item = self.item(item_status, vec![self.part()]);
        self.set("status", status);
        self.set("output", vec![item]);
        self.set("completed_at", self.setting.app.unix_seconds());
        if end.reason == FinishReason::Length {
            self.set("incomplete_details", json!({ "reason": "max_output_tokens" }));
        }
        let Finished { prompt_tokens, cached_tokens, new_tokens, .. } = *end;
        let usage = json!({
            "input_tokens": prompt_tokens,
            "input_tokens_details": { "cached_tokens": cached_tokens, "cache_write_tokens": 0 },
            "output_tokens": new_tokens,
            "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": prompt_tokens + new_tokens,
        });
        self.set("usage", usage);
        self.is_over = true;
        self.keep(false);
        event
    }

    fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.shown.insert(key.to_owned(), value.into());
    }
}

impl Voice for ResponseVoice {
    fn framing(&self) -> Framing {
        Framing::Events(Event::default().comment("keep-alive"))
    }

    fn begin(&mut self) -> Vec<Frame> {
        self.keep(true);
        vec![self.of_response("response.created"), self.of_response("response.in_progress")]
    }

    fn piece(&mut self, piece: &Piece) -> Vec<Frame> {
        let mut frames = self.open();
        self.text += &piece.text;
        let mut new = Vec::new();
        if self.setting.has_logprobs {
            let mut listed = logprobs::chat(&self.setting.tokenizer, &piece.tokens);
            if let Value::Array(entries) = listed["content"].take() {
                new = entries;
            }
        }
        self.logprobs.extend(new.iter().cloned());
        let mut delta =
            self.of_text("response.output_text.delta", "delta", piece.text.clone().into());
        delta.data["logprobs"] = new.into();
        frames.push(delta);
        frames
    }

    fn end(&mut self, end: &Finished) -> Vec<Frame> {
        let mut frames = self.open();
        let text = self.text.clone().into();
        let mut done = self.of_text("response.output_text.done", "text", text);
        done.data["logprobs"] = self.logprobs.clone().into();
        frames.push(done);
        let part = self.part();
        frames.push(self.of_text("response.content_part.done", "part", part));
        let event = self.close(end);
        let item = self.shown["output"][0].clone();
        let done = json!({ "output_index": 0, "item": item });
        frames.push(self.event("response.output_item.done", done));
        frames.push(self.of_response(event));
        frames
    }

    fn fail(&mut self, error: &ApiError) -> Vec<Frame> {
        self.set("status", "failed");
        self.set("error", json!({ "code": "server_error", "message": error.message() }));
        self.is_over = true;
        self.keep(false);
        vec![self.of_response("response.failed")]
    }

    fn whole(&mut self, end: &Finished) -> Value {
        self.close(end);
        Value::Object(self.shown.clone())
    }
}

/// A client that goes away ends its response.
impl Drop for ResponseVoice {
    fn drop(&mut self) {
        if !self.is_over {
            self.set("status", "cancelled");
            self.is_over = true;
            self.keep(false);
        }
    }
}
