//! From the words of another API to those of the chat API, so that a parameter's rule is written
//! once: what reads a chat's body reads them all.
//!
//! In: bodies, each held against its table, and messages. Out: a body as of a chat, and what the
//! client calls its parts, for errors.

use crate::params::{Rule, Table};
use serde_json::{Map, Value, json};

/// A body in the chat API's words, in the making.
#[derive(Debug, Default)]
pub struct Translation {
    /// The body.
    pub chat: Map<String, Value>,
    /// Our names, and the client's.
    pub names: Vec<(String, String)>,
    messages: Vec<Value>,
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
        self.names.push((ours.to_owned(), theirs.into()));
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

    /// The messages are all there; together the client calls them `theirs`.
    pub fn done(mut self, theirs: &str) -> Self {
        let messages = std::mem::take(&mut self.messages);
        self.set("messages", messages, theirs);
        self
    }
}
