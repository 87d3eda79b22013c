//! `{{snake}}`: which models it is, and how its graph differs from its nearest relative's.

use super::{Arch, llama};
use crate::Graph;
use crate::config::{Config, GgufKeys, JsonKeys};
use crate::ops::RopeLayout;
use std::collections::BTreeSet;
use sterna_formats::FormatError;

/// The models it reads, with their versions.
pub struct {{Camel}};

impl Arch for {{Camel}} {
    fn name(&self) -> &'static str {
        "{{snake}}"
    }

    fn classes(&self) -> &'static [&'static str] {
        &["{{Camel}}ForCausalLM"]
    }

    fn config_from_gguf(&self, keys: &GgufKeys<'_>) -> Result<Config, FormatError> {
        keys.config(RopeLayout::Half, keys.biases())
    }

    fn config_from_json(&self, keys: &JsonKeys<'_>) -> Result<Config, FormatError> {
        keys.config(RopeLayout::Half, BTreeSet::new())
    }

    fn graph(&self, config: &Config) -> Result<Graph, String> {
        llama::graph(config)
    }
}
