//! Calls of tools in what a model writes: each form in which models write them is a file here and a
//! line of [`FORMATS`].
//!
//! In: the text of an answer, in pieces as it comes. Out: its calls, and the text that is none.
//! However the text is cut into pieces, what comes out is the same ([`Reader`]). What turns out not
//! to be a call is text, and nothing of it is lost; only white space beside calls is left out.

mod hermes;
mod json;
mod llama;
mod mistral;
#[cfg(test)]
mod tests;

use serde_json::{Deserializer, Map, Value, json};

/// The forms, those first that a template shows most clearly.
pub const FORMATS: &[&dyn Format] =
    &[&hermes::Hermes, &mistral::Mistral, &llama::Llama, &json::Json];

/// A form in which models write calls.
pub trait Format: Send + Sync {
    /// Its name, as vLLM has it.
    fn name(&self) -> &'static str;

    /// Whether a chat template shows that its model writes so.
    fn fits(&self, template: &str) -> bool;

    /// Control tokens that are part of the form, by their spelling.
    fn controls(&self) -> &'static [&'static str] {
        &[]
    }

    /// What is around calls when they are enforced.
    fn frame(&self) -> Frame;

    /// What the text begins with. It is not empty and begins with no white space. What was decided
    /// must stay right whatever follows, and where nothing follows something must be decided.
    fn next(&self, text: &str, seen: &Seen<'_>) -> Next;
}

/// The texts around calls: first, then `{"name": NAME, KEY: ARGUMENTS}` between `open` and `close`,
/// with `between` between them, then last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Before the first call.
    pub first: &'static str,
    /// Before each call.
    pub open: &'static str,
    /// What the arguments are called.
    pub key: &'static str,
    /// After each call.
    pub close: &'static str,
    /// Between two calls.
    pub between: &'static str,
    /// After the last call.
    pub last: &'static str,
}

/// What a form may look at beside the text.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The tools that there are.
    pub names: &'a [String],
    /// Calls before it.
    pub n_calls: usize,
    /// Whether text came before it that is no call.
    pub has_text: bool,
    /// Whether nothing follows.
    pub is_over: bool,
}

/// What a text begins with.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// So many bytes that are no call.
    Text(usize),
    /// Calls in so many bytes.
    Calls(Vec<Call>, usize),
    /// That depends on what follows.
    Wait,
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The tool.
    pub name: String,
    /// A JSON object, as text.
    pub arguments: String,
}

impl Call {
    /// As OpenAI's chat API has it, and so templates.
    pub fn object(&self, id: &str) -> Value {
        let function = json!({ "name": self.name, "arguments": self.arguments });
        json!({ "id": id, "type": "function", "function": function })
    }

    /// Its arguments as JSON.
    pub fn object_of_arguments(&self) -> Value {
        serde_json::from_str(&self.arguments).expect("arguments were read as an object")
    }

    /// Reads `{"name": .., "arguments": ..}` with a tool that there is; the arguments may be called
    /// `parameters`, be written as a text, or be absent, and it may all be in a `function`.
    fn of(value: &Value, names: &[String]) -> Option<Self> {
        let object = value.as_object()?;
        let object = object.get("function").and_then(Value::as_object).unwrap_or(object);
        let name = object.get("name")?.as_str()?;
        let name = names.iter().find(|known| *known == name)?.clone();
        let arguments = match object.get("arguments").or_else(|| object.get("parameters")) {
            None | Some(Value::Null) => "{}".to_owned(),
            Some(value @ Value::Object(_)) => value.to_string(),
            Some(Value::String(text)) => {
                serde_json::from_str::<Map<String, Value>>(text).ok()?;
                text.clone()
            }
            Some(_) => return None,
        };
        Some(Self { name, arguments })
    }
}

/// The form of that name.
pub fn by_name(name: &str) -> Option<&'static dyn Format> {
    FORMATS.iter().copied().find(|format| format.name() == name)
}

/// The form that a template shows; plain JSON where it shows none.
pub fn of_template(template: &str) -> &'static dyn Format {
    FORMATS.iter().copied().find(|format| format.fits(template)).unwrap_or(&json::Json)
}

/// What became certain of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Text that is no call.
    pub text: String,
    /// Calls.
    pub calls: Vec<Call>,
}

/// Reads an answer as it comes.
pub struct Reader {
    format: &'static dyn Format,
    names: Vec<String>,
    /// What is not certain yet.
    rest: String,
    /// White space before it.
    white: String,
    n_calls: usize,
    has_text: bool,
}

impl Reader {
    /// A reader of an answer in which these tools may be called.
    pub fn new(format: &'static dyn Format, names: Vec<String>) -> Self {
        let (rest, white) = Default::default();
        Self { format, names, rest, white, n_calls: 0, has_text: false }
    }

    /// Calls so far.
    pub fn n_calls(&self) -> usize {
        self.n_calls
    }

    /// Adds a piece.
    pub fn push(&mut self, piece: &str) -> Said {
        self.rest += piece;
        self.read(false)
    }

    /// What is left at the end.
    pub fn finish(&mut self) -> Said {
        let mut said = self.read(true);
        let white = std::mem::take(&mut self.white);
        if self.n_calls == 0 {
            said.text += &white;
        }
        said
    }

    fn read(&mut self, is_over: bool) -> Said {
        let mut said = Said::default();
        let rest = std::mem::take(&mut self.rest);
        let mut left = rest.as_str();
        loop {
            let begun = left.trim_start();
            self.white += &left[..left.len() - begun.len()];
            left = begun;
            if left.is_empty() {
                break;
            }
            let Self { names, n_calls, has_text, .. } = &*self;
            let seen = Seen { names, n_calls: *n_calls, has_text: *has_text, is_over };
            match self.format.next(left, &seen) {
                Next::Wait if is_over => self.say(left, &mut said, &mut left),
                Next::Wait => break,
                Next::Text(n) => self.say(&left[..n], &mut said, &mut left),
                Next::Calls(calls, n) => {
                    self.white.clear();
                    self.n_calls += calls.len();
                    said.calls.extend(calls);
                    left = &left[n..];
                }
            }
        }
        self.rest = left.to_owned();
        said
    }

    /// Says what begins `left`; white space at its end waits for what follows.
    fn say<'a>(&mut self, text: &'a str, said: &mut Said, left: &mut &'a str) {
        let shown = text.trim_end();
        said.text += &std::mem::take(&mut self.white);
        said.text += shown;
        self.has_text = true;
        *left = &left[shown.len()..];
    }
}

/// What a text begins with as JSON.
enum Parsed {
    /// A value in so many bytes.
    Value(Value, usize),
    /// That depends on what follows.
    Open,
    /// No JSON.
    No,
}

/// Reads an object or an array, which alone say themselves where they end.
fn parse(text: &str) -> Parsed {
    let begun = text.trim_start();
    if begun.is_empty() {
        return Parsed::Open;
    }
    if !begun.starts_with(['{', '[']) {
        return Parsed::No;
    }
    let mut values = Deserializer::from_str(begun).into_iter::<Value>();
    match values.next() {
        Some(Ok(value)) => Parsed::Value(value, text.len() - begun.len() + values.byte_offset()),
        Some(Err(error)) if error.is_eof() => Parsed::Open,
        _ => Parsed::No,
    }
}

/// The calls that a value is: one, or an array of them and of nothing else.
fn calls(value: &Value, names: &[String]) -> Option<Vec<Call>> {
    match value {
        Value::Array(values) if values.is_empty() => None,
        Value::Array(values) => values.iter().map(|value| Call::of(value, names)).collect(),
        value => Call::of(value, names).map(|call| vec![call]),
    }
}

/// Where a marker is in a text.
pub(crate) enum Marker {
    /// At its beginning.
    Here,
    /// Not before so many bytes.
    Later(usize),
    /// All of it may be the beginning of one.
    Perhaps,
}

/// Finds a marker.
pub(crate) fn find(text: &str, marker: &str, is_over: bool) -> Marker {
    match text.find(marker) {
        Some(0) => return Marker::Here,
        Some(at) => return Marker::Later(at),
        None if is_over => return Marker::Later(text.len()),
        None => {}
    }
    let longest = text.len().min(marker.len() - 1);
    let n = (1..=longest).rev().find(|&n| text.as_bytes().ends_with(&marker.as_bytes()[..n]));
    match text.len() - n.unwrap_or(0) {
        0 => Marker::Perhaps,
        n_before => Marker::Later(n_before),
    }
}

/// Whether a text begins with a marker, or may when more of it is there.
pub(crate) fn begins(text: &str, marker: &str, is_over: bool) -> Option<bool> {
    match text.starts_with(marker) {
        true => Some(true),
        false if !is_over && marker.starts_with(text) => None,
        false => Some(false),
    }
}

/// Calls as plain JSON at the beginning of an answer; between them there may be one of
/// `separators`.
fn plain(text: &str, seen: &Seen<'_>, separators: &[char]) -> Next {
    let all = Next::Text(text.len());
    if seen.has_text {
        return all;
    }
    let own = match text.strip_prefix(separators) {
        Some(own) if seen.n_calls > 0 => own,
        _ => text,
    };
    match parse(own) {
        Parsed::Value(value, n) => match calls(&value, seen.names) {
            Some(calls) => Next::Calls(calls, text.len() - own.len() + n),
            None => all,
        },
        Parsed::Open if !seen.is_over => Next::Wait,
        Parsed::Open | Parsed::No => all,
    }
}
