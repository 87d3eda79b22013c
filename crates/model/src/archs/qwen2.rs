//! `qwen2`: Qwen 2 and 2.5: Llama's graph with query, key and value biases.

use super::{Arch, llama};
use crate::config::{Config, GgufKeys, JsonKeys};
use crate::ops::RopeLayout;
use crate::{Graph, Role};
use std::collections::BTreeSet;
use sterna_formats::FormatError;

/// Qwen 2 and 2.5.
pub struct Qwen2;

impl Arch for Qwen2 {
    fn name(&self) -> &'static str {
        "qwen2"
    }

    fn classes(&self) -> &'static [&'static str] {
        &["Qwen2ForCausalLM"]
    }

    fn config_from_gguf(&self, keys: &GgufKeys<'_>) -> Result<Config, FormatError> {
        keys.config(RopeLayout::Half, biases())
    }

    fn config_from_json(&self, keys: &JsonKeys<'_>) -> Result<Config, FormatError> {
        let config = keys.config(RopeLayout::Half, biases())?;
        Ok(Config { window: keys.optional_window(config.n_layers)?, ..config })
    }

    fn graph(&self, config: &Config) -> Result<Graph, String> {
        llama::graph(config)
    }
}

fn biases() -> BTreeSet<Role> {
    [Role::AttentionQuery, Role::AttentionKey, Role::AttentionValue].into()
}
