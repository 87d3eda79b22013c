//! How a response is said: the object, and the events in the order that OpenAI documents.

use super::store::Kept;
use crate::answer::Piece;
use crate::app::App;
use crate::calls::Call;
use crate::errors::ApiError;
use crate::keys::Owner;
use crate::logprobs;
use crate::running::Canceller;
use crate::telling::{End, Frame, Framing, Voice};
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
    shown: Map<String, Value>,
    is_stored: bool,
    /// Items that are whole.
    output: Vec<Value>,
    /// The one of which more may come.
    open: Option<Open>,
    /// All of it as a message of a chat.
    said: Said,
    n_events: u64,
    is_over: bool,
}

/// What an answer comes to, for the turn after it.
#[derive(Default)]
struct Said {
    thoughts: String,
    text: String,
    calls: Vec<Value>,
}

/// An item whose text comes bit by bit.
struct Open {
    kind: &'static Kind,
    id: String,
    text: String,
    logprobs: Vec<Value>,
}

/// In what such items differ.
struct Kind {
    /// The item's type, and what its id begins with.
    item: &'static str,
    id_prefix: &'static str,
    /// The type of its only part.
    part: &'static str,
    /// The events of new text, and of all of it.
    delta: &'static str,
    done: &'static str,
}

const THOUGHTS: &Kind = &Kind {
    item: "reasoning",
    id_prefix: "rs_",
    part: "reasoning_text",
    delta: "response.reasoning_text.delta",
    done: "response.reasoning_text.done",
};
const TEXT: &Kind = &Kind {
    item: "message",
    id_prefix: "msg_",
    part: "output_text",
    delta: "response.output_text.delta",
    done: "response.output_text.done",
};

impl Open {
    fn is_message(&self) -> bool {
        self.kind.item == TEXT.item
    }

    /// Its part with a text, empty or as far as it came.
    fn part(&self, is_empty: bool) -> Value {
        let (text, logprobs) = match is_empty {
            true => ("", &[][..]),
            false => (self.text.as_str(), &self.logprobs[..]),
        };
        match self.is_message() {
            true => json!({
                "type": self.kind.part, "text": text, "annotations": [], "logprobs": logprobs,
            }),
            false => json!({ "type": self.kind.part, "text": text }),
        }
    }

    /// Itself, with these parts.
    fn item(&self, status: &str, content: &[Value]) -> Value {
        let mut item = json!({ "id": self.id, "type": self.kind.item, "status": status });
        match self.is_message() {
            true => item["role"] = "assistant".into(),
            false => item["summary"] = json!([]),
        }
        item["content"] = content.into();
        item
    }
}

impl ResponseVoice {
    /// A response that shows so much before its answer; with its id.
    pub fn new(setting: Setting, shown: Map<String, Value>) -> Self {
        let id = shown["id"].as_str().unwrap_or_default().to_owned();
        Self {
            is_stored: setting.canceller.is_some(),
            setting,
            id,
            shown,
            output: Vec::new(),
            open: None,
            said: Said::default(),
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

    /// An event about the item that comes next, or is open.
    fn of_item(&mut self, event: &'static str, item: &Value) -> Frame {
        let index = self.output.len();
        self.event(event, json!({ "output_index": index, "item": item }))
    }

    /// An event about something in it.
    fn within(&mut self, event: &'static str, id: &str, key: &str, value: Value) -> Frame {
        let mut more = json!({ "item_id": id, "output_index": self.output.len() });
        more[key] = value;
        self.event(event, more)
    }

    /// An event about its only part.
    fn of_part(&mut self, event: &'static str, id: &str, key: &str, value: Value) -> Frame {
        let mut frame = self.within(event, id, key, value);
        frame.data["content_index"] = 0.into();
        frame
    }

    /// Opens an item of this kind, unless it is what is open.
    fn begin_item(&mut self, kind: &'static Kind, frames: &mut Vec<Frame>) -> Open {
        if let Some(open) = self.open.take_if(|open| open.kind.item == kind.item) {
            return open;
        }
        self.end_item("completed", frames);
        let id = self.setting.app.fresh.id(kind.id_prefix);
        let open = Open { kind, id, text: String::new(), logprobs: Vec::new() };
        frames.push(self.of_item("response.output_item.added", &open.item("in_progress", &[])));
        let empty = open.part(true);
        frames.push(self.of_part("response.content_part.added", &open.id, "part", empty));
        open
    }

    /// Adds text to an item of this kind.
    fn say(
        &mut self,
        kind: &'static Kind,
        text: &str,
        logprobs: Vec<Value>,
        frames: &mut Vec<Frame>,
    ) {
        let mut open = self.begin_item(kind, frames);
        let mut delta = self.of_part(kind.delta, &open.id, "delta", text.into());
        open.text += text;
        if open.is_message() {
            delta.data["logprobs"] = logprobs.clone().into();
            open.logprobs.extend(logprobs);
        }
        frames.push(delta);
        self.open = Some(open);
    }

    /// Ends the open item, if there is one.
    fn end_item(&mut self, status: &str, frames: &mut Vec<Frame>) {
        let Some(open) = self.open.take() else { return };
        let mut done = self.of_part(open.kind.done, &open.id, "text", open.text.clone().into());
        if open.is_message() {
            done.data["logprobs"] = open.logprobs.clone().into();
        }
        frames.push(done);
        let part = open.part(false);
        frames.push(self.of_part("response.content_part.done", &open.id, "part", part.clone()));
        let item = open.item(status, &[part]);
        frames.push(self.of_item("response.output_item.done", &item));
        self.output.push(item);
    }

    /// Adds a call of a function.
    fn call(&mut self, call: &Call, frames: &mut Vec<Frame>) {
        self.end_item("completed", frames);
        let fresh = &self.setting.app.fresh;
        let (id, call_id) = (fresh.id("fc_"), fresh.call_id());
        self.said.calls.push(call.object(&call_id));
        let mut item = json!({
            "id": id,
            "type": "function_call",
            "status": "in_progress",
            "call_id": call_id,
            "name": call.name,
            "arguments": "",
        });
        frames.push(self.of_item("response.output_item.added", &item));
        let (new, all) =
            ("response.function_call_arguments.delta", "response.function_call_arguments.done");
        frames.push(self.within(new, &id, "delta", call.arguments.clone().into()));
        let mut done = self.within(all, &id, "arguments", call.arguments.clone().into());
        done.data["name"] = call.name.clone().into();
        frames.push(done);
        item["arguments"] = call.arguments.clone().into();
        item["status"] = "completed".into();
        frames.push(self.of_item("response.output_item.done", &item));
        self.output.push(item);
    }

    /// Keeps it as it is now, if it is to be kept.
    fn keep(&mut self, is_new: bool) {
        if !self.is_stored {
            return;
        }
        let mut messages = self.setting.messages.clone();
        if self.is_over {
            let Said { thoughts, text, calls } = &self.said;
            let mut message = json!({ "role": "assistant", "content": text });
            if !thoughts.is_empty() {
                message["reasoning_content"] = thoughts.clone().into();
            }
            if !calls.is_empty() {
                message["tool_calls"] = calls.clone().into();
            }
            messages.push(message);
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

    /// Ends the last item and the response; returns the name of the last event.
    fn close(&mut self, end: &End, frames: &mut Vec<Frame>) -> &'static str {
        let (status, item_status, event) = match end.finished.reason {
            FinishReason::Stop => ("completed", "completed", "response.completed"),
            FinishReason::Length => ("incomplete", "incomplete", "response.incomplete"),
            // There is no event of this name.
            FinishReason::Cancelled => ("cancelled", "incomplete", "response.incomplete"),
        };
        if self.open.is_none() && self.output.is_empty() {
            // An answer that says nothing is a message all the same.
            self.open = Some(self.begin_item(TEXT, frames));
        }
        self.end_item(item_status, frames);
        self.set("status", status);
        self.set("output", self.output.clone());
        // OpenAI has the time of those alone that were completed.
        if status == "completed" {
            self.set("completed_at", self.setting.app.unix_seconds());
        }
        if status == "incomplete" {
            self.set("incomplete_details", json!({ "reason": "max_output_tokens" }));
        }
        let Finished { prompt_tokens, cached_tokens, new_tokens, .. } = end.finished;
        let usage = json!({
            "input_tokens": prompt_tokens,
            "input_tokens_details": { "cached_tokens": cached_tokens, "cache_write_tokens": 0 },
            "output_tokens": new_tokens,
            "output_tokens_details": { "reasoning_tokens": end.n_thought },
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
        let mut frames = Vec::new();
        self.said.thoughts += &piece.thoughts;
        self.said.text += &piece.text;
        let mut logprobs = Vec::new();
        if self.setting.has_logprobs {
            let mut listed = logprobs::chat(&self.setting.tokenizer, &piece.tokens);
            if let Value::Array(entries) = listed["content"].take() {
                logprobs = entries;
            }
        }
        if !piece.thoughts.is_empty() {
            self.say(THOUGHTS, &piece.thoughts, Vec::new(), &mut frames);
        }
        // Log probabilities are those of a message's text.
        let is_text = piece.is_empty() && !piece.tokens.is_empty();
        if !piece.text.is_empty() || is_text {
            self.say(TEXT, &piece.text, logprobs, &mut frames);
        }
        for call in &piece.calls {
            self.call(call, &mut frames);
        }
        frames
    }

    fn end(&mut self, end: &End) -> Vec<Frame> {
        let mut frames = Vec::new();
        let event = self.close(end, &mut frames);
        frames.push(self.of_response(event));
        frames
    }

    fn fail(&mut self, error: &ApiError) -> Vec<Frame> {
        let mut frames = Vec::new();
        self.end_item("incomplete", &mut frames);
        self.set("status", "failed");
        self.set("error", json!({ "code": "server_error", "message": error.message() }));
        self.set("output", self.output.clone());
        self.is_over = true;
        self.keep(false);
        frames.push(self.of_response("response.failed"));
        frames
    }

    fn whole(&mut self, end: &End) -> Value {
        self.close(end, &mut Vec::new());
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
