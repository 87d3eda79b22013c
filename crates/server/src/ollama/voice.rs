//! How Ollama says an answer: a line of JSON for each piece, and a last one with what it cost.

use crate::answer::Piece;
use crate::app::App;
use crate::asked::{Asked, with_warnings};
use crate::calls::Call;
use crate::date::strftime;
use crate::dialect::Dialect;
use crate::errors::ApiError;
use crate::fresh::Fresh;
use crate::logprobs;
use crate::telling::{End, Frame, Framing, Voice};
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
    /// Ids of calls.
    ids: Fresh,
    n_calls: usize,
    said: Said,
    logprobs: Vec<Value>,
}

/// What an answer says: all of it, or what is new.
#[derive(Default)]
struct Said {
    text: String,
    thoughts: String,
    calls: Vec<Value>,
}

/// The answer to a request for nothing.
pub fn nothing(app: &App, form: Form, model: &str, reason: &str, warnings: Vec<String>) -> Value {
    let mut nothing = begun(app, form, model, String::new());
    nothing["done"] = true.into();
    nothing["done_reason"] = reason.into();
    with_warnings(nothing, warnings)
}

/// What every object begins with.
fn begun(app: &App, form: Form, model: &str, text: String) -> Value {
    let mut object = json!({ "model": model, "created_at": rfc3339(app) });
    match form {
        Form::Chat => object["message"] = json!({ "role": "assistant", "content": text }),
        Form::Generate => object["response"] = text.into(),
    }
    object
}

impl OllamaVoice {
    /// Of a request.
    pub fn new(app: Arc<App>, form: Form, asked: &Asked) -> Self {
        let served = &asked.model.served;
        Self {
            ids: app.fresh.fork(),
            app,
            form,
            model: served.name.clone(),
            n_calls: 0,
            tokenizer: served.tokenizer.clone(),
            has_logprobs: false,
            warnings: Vec::new(),
            said: Said::default(),
            logprobs: Vec::new(),
        }
    }

    /// With what it has to say.
    pub fn says(self, warnings: Vec<String>, has_logprobs: bool) -> Self {
        Self { warnings, has_logprobs, ..self }
    }

    fn object(&self, said: Said, is_done: bool) -> Value {
        let Said { text, thoughts, calls } = said;
        let mut object = begun(&self.app, self.form, &self.model, text);
        if !calls.is_empty() && self.form == Form::Chat {
            object["message"]["tool_calls"] = calls.into();
        }
        if !thoughts.is_empty() {
            let place = match self.form {
                Form::Chat => &mut object["message"],
                Form::Generate => &mut object,
            };
            place["thinking"] = thoughts.into();
        }
        object["done"] = is_done.into();
        if is_done && !self.warnings.is_empty() {
            object["warnings"] = self.warnings.clone().into();
        }
        object
    }

    /// The last object. Times are nanoseconds; a model is loaded before it is asked.
    fn last(&self, said: Said, end: &Finished) -> Value {
        let nanoseconds = |seconds: f64| (seconds * 1e9).round() as u64;
        let Finished { queue_seconds, prefill_seconds, decode_seconds, .. } = *end;
        let mut last = self.object(said, true);
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

    /// Calls of tools as Ollama has them: with their number, and arguments that are an object.
    fn calls(&mut self, piece: &Piece) -> Vec<Value> {
        let (ids, first) = (&self.ids, self.n_calls);
        self.n_calls += piece.calls.len();
        let call = |(index, call): (usize, &Call)| {
            let arguments = call.object_of_arguments();
            let function = json!({ "index": index, "name": call.name, "arguments": arguments });
            json!({ "id": ids.call_id(), "function": function })
        };
        (first..).zip(&piece.calls).map(call).collect()
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
        let new = self.listed(piece);
        self.logprobs.extend(new.iter().cloned());
        let (text, thoughts) = (piece.text.clone(), piece.thoughts.clone());
        let said = Said { text, thoughts, calls: self.calls(piece) };
        self.said.text += &said.text;
        self.said.thoughts += &said.thoughts;
        self.said.calls.extend(said.calls.iter().cloned());
        let mut object = self.object(said, false);
        if !new.is_empty() {
            object["logprobs"] = new.into();
        }
        frame(object)
    }

    fn end(&mut self, end: &End) -> Vec<Frame> {
        frame(self.last(Said::default(), &end.finished))
    }

    fn fail(&mut self, error: &ApiError) -> Vec<Frame> {
        frame(Dialect::Ollama.error(error))
    }

    fn whole(&mut self, end: &End) -> Value {
        let said = std::mem::take(&mut self.said);
        let mut whole = self.last(said, &end.finished);
        if self.has_logprobs {
            whole["logprobs"] = std::mem::take(&mut self.logprobs).into();
        }
        whole
    }
}
