//! What a Plan is about: the source model and texts, known by their content.

use super::{content_hash, hash_text};
use crate::Model;
use serde::{Deserialize, Serialize};

/// A source model, known by its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The model's name, or its path as it was given: for people.
    pub name: String,
    /// Its architecture.
    pub architecture: String,
    /// [`content_hash`] of its weights.
    pub content: String,
}

/// A text that was used, known by its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// Its file's name: for people.
    pub name: String,
    /// `blake3:` and 64 hexadecimal digits, over the bytes used.
    pub hash: String,
    /// Tokens used of it.
    pub tokens: u64,
}

impl Source {
    /// The description of an opened model; reads all its weights for their hash.
    pub fn of(model: &Model) -> Self {
        Self {
            name: model.name.clone(),
            architecture: model.arch.name().to_owned(),
            content: content_hash(&model.graph, model),
        }
    }
}

impl Text {
    /// The description of a text.
    pub fn of(name: impl Into<String>, bytes: &[u8], tokens: u64) -> Self {
        Self { name: name.into(), hash: hash_text(bytes), tokens }
    }
}
