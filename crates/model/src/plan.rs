//! A Plan: every decision that makes an artifact from a source, as text.
//!
//! In: TOML, or the decisions of an optimization. Out: the same text for the same decisions, so
//! that Plans can be diffed, and one sentence with line and fix for a text that is no Plan. Rules
//! are resolved before a Plan is written: it names tensors, and holds no patterns.

mod budget;
mod check;
mod content;
mod distilled;
pub mod inputs;
mod rounding;
mod seed;
mod source;
#[cfg(test)]
mod tests;

pub use budget::Budget;
pub use check::nearest;
pub use content::{ContentHasher, content_hash};
pub use distilled::Distilled;
pub use rounding::Rounding;
pub use source::{Source, Text};

use crate::{Model, WeightSource};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use sterna_formats::FormatError;

/// The version of Plan texts that this Sterna writes and reads.
pub const PLAN_VERSION: u32 = 1;

/// Every decision. Same Plan and same source make the same tensors, byte for byte.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// Seed of every random choice.
    #[serde(with = "seed", default)]
    pub seed: u64,
    /// How the runtime keeps keys and values: `F16`, `F32` or `Q8_0`.
    pub kv: String,
    /// Graph rewrites in order, by their names in `REWRITES`.
    #[serde(default)]
    pub rewrites: Vec<String>,
    /// Optimizations of the runtime that measured to cost time where the Plan was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub off: Vec<String>,
    /// Hidden features of the MLP, where they are not the source's: more, zeros added so that rows
    /// fit block encodings, or fewer, those left out that do least on calibration text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mlp_width: Option<u64>,
    /// How matrices are rounded.
    #[serde(default, skip_serializing_if = "Rounding::is_plain")]
    pub rounding: Rounding,
    /// By the name of the norm (or up matrix) that was divided: to what power of the root mean
    /// squares of what they read on calibration text its readers' columns were multiplied.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scaled: BTreeMap<String, f64>,
    /// By the name of a matrix that sees its inputs as int8 codes: see [`inputs`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub int8_inputs: BTreeMap<String, f64>,
    /// How it learned from its source what rounding lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distilled: Option<Distilled>,
    /// What the artifact is made from.
    pub source: Source,
    /// What the user capped.
    #[serde(default)]
    pub budget: Budget,
    /// The text that decisions were measured on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Text>,
    /// The text, disjoint from it, that claims were measured on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<Text>,
    /// Encoding by tensor name, of each tensor whose encoding is decided; others stay as they are.
    #[serde(default)]
    pub encodings: BTreeMap<String, String>,
}

impl Plan {
    /// A Plan that changes nothing.
    pub fn unchanged(source: Source) -> Self {
        Self {
            version: PLAN_VERSION,
            seed: 0,
            kv: "F16".into(),
            rewrites: Vec::new(),
            off: Vec::new(),
            mlp_width: None,
            rounding: Rounding::Plain,
            scaled: BTreeMap::new(),
            int8_inputs: BTreeMap::new(),
            distilled: None,
            source,
            budget: Budget::default(),
            calibration: None,
            held_out: None,
            encodings: BTreeMap::new(),
        }
    }

    /// Reads a Plan's text. `path` is for messages: the Plan's file, or the artifact with it.
    ///
    /// # Errors
    /// What is wrong, on which line, and for an unknown key or name the nearest known one.
    pub fn parse(path: &Path, text: &str) -> Result<Self, FormatError> {
        check::parse(path, text)
    }

    /// The Plan as TOML: the same text for the same Plan.
    pub fn print(&self) -> String {
        toml::to_string(self).expect("a Plan has only types that TOML has")
    }

    /// The hash of the text: the Plan's identity.
    pub fn hash(&self) -> String {
        hash_text(self.print().as_bytes())
    }

    /// Whether `source` carries out this Plan's encodings on `model`.
    ///
    /// # Errors
    /// The first tensor that differs, or that the model does not have.
    pub fn check_carried_out(
        &self,
        model: &Model,
        source: &dyn WeightSource,
    ) -> Result<(), String> {
        check::carried_out(self, model, source)
    }
}

/// `blake3:` and 64 hexadecimal digits.
pub fn hash_text(bytes: &[u8]) -> String {
    format!("blake3:{}", blake3::hash(bytes).to_hex())
}
