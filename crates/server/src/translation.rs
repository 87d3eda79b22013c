//! From the words of another API to those of the chat API, so that a parameter's rule is written
//! once: what reads a chat's body reads them all.
//!
//! In: bodies, each held against its table, and messages. Out: a body as of a chat, and what the
//! client calls its parts, for errors. `translation/tools.rs` has what those say of tools.

pub mod tools;

use crate::asked::Asked;
use crate::errors::ApiError;
use crate::fields::{Fields, wrong};
use crate::params::{Rule, Table, check_also};
use crate::reasoning;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

/// A body in the chat API's words, in the making.
#[derive(Debug, Default)]
pub struct Translation {
    /// The body.
    pub chat: Map<String, Value>,
    /// Our names, and the client's.
    pub names: Vec<(String, String)>,
    /// The messages so far.
    pub messages: Vec<Value>,
}

impl Translation {
    /// Takes the parameters of an object that the chat API has too; `path` is what stands before
    /// their names.
    pub fn take(&mut self, path: &str, object: &Map<String, Value>, table: Table) {
        for (name, value) in object {
            let known = table.iter().copied().flatten().find(|param| param.name == name);
            let ours = match known.map(|param| param.rule) {
                Some(Rule::Honoured) => name.as_str(),
                Some(Rule::Means(ours)) => ours,
                _ => continue,
            };
            self.set(ours, value.clone(), format!("{path}{name}"));
        }
    }

    /// Sets a parameter, which the client calls `theirs`.
    pub fn set(&mut self, ours: &str, value: impl Into<Value>, theirs: impl Into<String>) {
        self.chat.insert(ours.to_owned(), value.into());
        self.called(ours, theirs);
    }

    /// Notes that the client calls a part of the body `theirs`.
    pub fn called(&mut self, ours: impl Into<String>, theirs: impl Into<String>) {
        self.names.push((ours.into(), theirs.into()));
    }

    /// Asks that the answer fit a schema, which the client calls `theirs`.
    pub fn hold_to(&mut self, schema: &Value, theirs: &str) {
        let format = json!({ "type": "json_schema", "schema": schema });
        self.set("response_format", format, theirs);
        self.called("response_format.schema", theirs);
    }

    /// Tells the template whether the model should think, which the client says with `theirs`.
    ///
    /// # Errors
    /// When the template does not know and the client wants an error then.
    pub fn think(
        &mut self,
        asked: &mut Asked,
        is_thinking: bool,
        has_form: bool,
        theirs: &str,
    ) -> Result<(), ApiError> {
        self.set("reasoning_format", if is_thinking { "auto" } else { "none" }, theirs);
        if let Some(switch) = reasoning::switch(asked.model.template_source()) {
            let variables = self.chat.entry("chat_template_kwargs").or_insert_with(|| json!({}));
            if let Some(variables) = variables.as_object_mut() {
                variables.entry(switch).or_insert(is_thinking.into());
            }
            return Ok(());
        }
        // Without thoughts there is nothing to switch off, and those that there always are, are
        // what was asked for.
        if is_thinking == has_form {
            return Ok(());
        }
        let warning =
            format!("{theirs} is ignored: this model's chat template does not know of it");
        asked.warn(theirs, warning)
    }

    /// Adds a message, which the client calls `theirs`.
    pub fn message(&mut self, message: Map<String, Value>, theirs: impl Into<String>) {
        self.names.push((format!("messages[{}]", self.messages.len()), theirs.into()));
        self.messages.push(Value::Object(message));
    }

    /// Adds a message of a role and a content; the client calls the content `theirs`.
    pub fn say(&mut self, role: &str, content: &Value, theirs: impl Into<String>) {
        let index = self.messages.len();
        self.names.push((format!("messages[{index}].content"), theirs.into()));
        self.messages.push(json!({ "role": role, "content": content }));
    }

    /// Adds a message that was put together, if there is anything in it.
    pub fn turn(&mut self, turn: Turn) {
        let at = format!("messages[{}]", self.messages.len());
        let names = turn.names.iter().map(|(ours, theirs)| (format!("{at}{ours}"), theirs.clone()));
        self.names.extend(names);
        self.message(turn.message, turn.theirs);
    }

    /// The messages are all there; together the client calls them `theirs`.
    pub fn done(mut self, theirs: &str) -> Self {
        let messages = std::mem::take(&mut self.messages);
        self.set("messages", messages, theirs);
        self
    }
}

/// A message of a chat that is put together from what the client lists one by one.
#[derive(Debug)]
pub struct Turn {
    message: Map<String, Value>,
    theirs: String,
    /// Our names of its parts, after that of the message, and the client's.
    names: Vec<(String, String)>,
}

impl Turn {
    /// An empty one, which the client calls `theirs`.
    pub fn new(role: &str, theirs: &str) -> Self {
        let message = Map::from_iter([("role".to_owned(), role.into())]);
        Self { message, theirs: theirs.to_owned(), names: Vec::new() }
    }

    /// Sets its content.
    pub fn content(&mut self, content: Value, theirs: impl Into<String>) {
        self.message.insert("content".into(), content);
        self.names.push((".content".into(), theirs.into()));
    }

    /// Adds a part to its content, which is none but parts.
    pub fn part(&mut self, part: Value, theirs: impl Into<String>) {
        self.push("content", part, theirs);
    }

    /// Adds a call that the assistant made; the arguments are JSON, or a text of it.
    pub fn call(&mut self, id: &str, name: &str, arguments: Value, theirs: impl Into<String>) {
        let function = json!({ "name": name, "arguments": arguments });
        let call = json!({ "id": id, "type": "function", "function": function });
        self.push("tool_calls", call, theirs);
    }

    /// Adds to what the assistant thought.
    pub fn think(&mut self, thoughts: &str) {
        let all = self.message.entry("reasoning_content").or_insert_with(|| "".into());
        if let Value::String(all) = all {
            let between = if all.is_empty() { "" } else { "\n" };
            *all = format!("{all}{between}{thoughts}");
        }
    }

    /// Sets a key that needs no name.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.message.insert(key.to_owned(), value.into());
    }

    /// Whether it says anything, or calls.
    pub fn has_said(&self) -> bool {
        self.message.contains_key("content") || self.message.contains_key("tool_calls")
    }

    fn push(&mut self, key: &str, value: Value, theirs: impl Into<String>) {
        let list = self.message.entry(key).or_insert_with(|| json!([]));
        let Value::Array(list) = list else { return };
        self.names.push((format!(".{key}[{}]", list.len()), theirs.into()));
        list.push(value);
    }
}

/// Checks of objects within a body, whose warnings are collected.
#[derive(Debug)]
pub struct Checks {
    is_strict: bool,
    /// What the answer has to say.
    pub warnings: Vec<String>,
}

impl Checks {
    /// As strict as the client wants it.
    pub fn new(asked: &Asked) -> Self {
        Self { is_strict: asked.is_strict, warnings: Vec::new() }
    }

    /// Holds an object against its table.
    ///
    /// # Errors
    /// When it is none, or has what is refused.
    pub fn object<'a>(
        &mut self,
        path: &str,
        value: &'a Value,
        table: Table,
    ) -> Result<&'a Map<String, Value>, ApiError> {
        let object = value.as_object().ok_or_else(|| wrong(path, value, "an object"))?;
        let path = format!("{path}.");
        check_also(&mut self.warnings, &path, object, table, self.is_strict)?;
        Ok(object)
    }

    /// Warns of keys that nobody knows in an object that the chat template gets as it is.
    ///
    /// # Errors
    /// When the client wants an error then.
    pub fn shown(
        &mut self,
        path: &str,
        object: &Map<String, Value>,
        known: &[&str],
    ) -> Result<(), ApiError> {
        for (key, value) in object {
            if value.is_null() || known.contains(&key.as_str()) {
                continue;
            }
            let path = format!("{path}.{key}");
            let warning = format!("{path} is unknown: the chat template gets it and may ignore it");
            if self.is_strict {
                let status = StatusCode::BAD_REQUEST;
                return Err(ApiError::new(status, "unknown_parameter", warning).about(path));
            }
            self.warnings.push(warning);
        }
        Ok(())
    }
}

/// A text that an object must have.
///
/// # Errors
/// When it has not: with its place.
pub fn text<'a>(
    path: &str,
    object: &'a Map<String, Value>,
    key: &str,
) -> Result<&'a str, ApiError> {
    let path = format!("{path}.{key}");
    match Fields(object).get(key) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong(&path, other, "a string")),
        None => Err(ApiError::invalid(&path, format!("{path} is missing; it is a string"))),
    }
}
