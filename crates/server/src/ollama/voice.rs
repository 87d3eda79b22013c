//! How Ollama says an answer: a line of JSON for each piece, and a last one with what it cost.

use crate::answer::Piece;
use crate::app::App;
use crate::asked::Asked;
use crate::date::strftime;
use crate::dialect::Dialect;
use crate::errors::ApiError;
use crate::logprobs;
use crate::telling::{Frame, Framing, Voice};
use serde_json::{Value, json};
use std::sync::Arc;
use sterna_engine::{FinishReason, Finished};
use sterna_model::Tokenizer;

/// In what the two routes differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `message` has the text.
    Chat,
    /// `response` has it.
    Generate,
}

/// An answer in the making.
pub struct OllamaVoice {
    app: Arc<App>,
    form: Form,
    model: String,
    tokenizer: Arc<Tokenizer>,
    has_logprobs: bool,
    /// Shown at the end.
    warnings: Vec<String>,
    text: String,
    logprobs: Vec<Value>,
}

impl OllamaVoice {
    /// Of a request.
    pub fn new(app: Arc<App>, form: Form, asked: &Asked) -> Self {
        let served = &asked.model.served;
        Self {
            app,
            form,
            model: served.name.clone(),
            tokenizer: served.tokenizer.clone(),
            has_logprobs: false,
            warnings: Vec::new(),
            text: String::new(),
            logprobs: Vec::new(),
        }
    }

    /// With what it has to say.
    pub fn says(self, warnings: Vec<String>, has_logprobs: bool) -> Self {
        Self { warnings, has_logprobs, ..self }
    }

    /// The answer to a request for nothing.
    pub fn loaded(self, warnings: Vec<String>) -> Value {
        let mut loaded = self.says(warnings, false).object("", true);
        loaded["done_reason"] = "load".into();
        loaded
    }

    fn object(&self, text: &str, is_done: bool) -> Value {
        let mut object = json!({ "model": self.model, "created_at": rfc3339(&self.app) });
        match self.form {
            Form::Chat => object["message"] = json!({ "role": "assistant", "content": text }),
            Form::Generate => object["response"] = text.into(),
        }
        object["done"] = is_done.into();
        if is_done && !self.warnings.is_empty() {
            object["warnings"] = self.warnings.clone().into();
        }
        object
    }

    /// The last object. Times are nanoseconds; a model is loaded before it is asked.
    fn last(&self, text: &str, end: &Finished) -> Value {
        let nanoseconds = |seconds: f64| (seconds * 1e9).round() as u64;
        let Finished { queue_seconds, prefill_seconds, decode_seconds, .. } = *end;
        let mut last = self.object(text, true);
        last["done_reason"] = match end.reason {
            FinishReason::Length => "length".into(),
            FinishReason::Stop | FinishReason::Cancelled => "stop".into(),
        };
        let total = queue_seconds + prefill_seconds + decode_seconds;
        last["total_duration"] = nanoseconds(total).into();
        last["load_duration"] = 0.into();
        last["prompt_eval_count"] = end.prompt_tokens.into();
        last["prompt_eval_duration"] = nanoseconds(prefill_seconds).into();
        last["eval_count"] = end.new_tokens.into();
        last["eval_duration"] = nanoseconds(decode_seconds).into();
        last
    }

    /// Log probabilities of a piece, where they are wanted.
    fn listed(&self, piece: &Piece) -> Vec<Value> {
        if !self.has_logprobs {
            return Vec::new();
        }
        match logprobs::chat(&self.tokenizer, &piece.tokens)["content"].take() {
            Value::Array(entries) => entries,
            _ => Vec::new(),
        }
    }
}

/// The time of day as Ollama writes it.
pub fn rfc3339(app: &App) -> String {
    strftime((app.options.now)(), "%Y-%m-%dT%H:%M:%SZ").expect("the format is known")
}

fn frame(data: Value) -> Vec<Frame> {
    vec![Frame { event: "", data }]
}

impl Voice for OllamaVoice {
    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn begin(&mut self) -> Vec<Frame> {
        Vec::new()
    }

    fn piece(&mut self, piece: &Piece) -> Vec<Frame> {
        self.text += &piece.text;
        let new = self.listed(piece);
        self.logprobs.extend(new.iter().cloned());
        let mut object = self.object(&piece.text, false);
        if !new.is_empty() {
            object["logprobs"] = new.into();
        }
        frame(object)
    }

    fn end(&mut self, end: &Finished) -> Vec<Frame> {
        let last = self.last("", end);
        frame(last)
    }

    fn fail(&mut self, error: &ApiError) -> Vec<Frame> {
        frame(Dialect::Ollama.error(error))
    }

    fn whole(&mut self, end: &Finished) -> Value {
        let text = std::mem::take(&mut self.text);
        let mut whole = self.last(&text, end);
        if self.has_logprobs {
            whole["logprobs"] = std::mem::take(&mut self.logprobs).into();
        }
        whole
    }
}
