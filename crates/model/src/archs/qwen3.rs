//! `qwen3`: Llama's graph with a norm on every query and key head, and heads of their own size.

use super::{Arch, llama};
use crate::Graph;
use crate::config::{Config, GgufKeys, JsonKeys};
use crate::ops::RopeLayout;
use sterna_formats::FormatError;

/// Qwen 3 (dense).
pub struct Qwen3;

impl Arch for Qwen3 {
    fn name(&self) -> &'static str {
        "qwen3"
    }

    fn classes(&self) -> &'static [&'static str] {
        &["Qwen3ForCausalLM"]
    }

    fn config_from_gguf(&self, keys: &GgufKeys<'_>) -> Result<Config, FormatError> {
        let config = keys.config(RopeLayout::Half, keys.biases())?;
        Ok(Config { qk_norm: true, ..config })
    }

    fn config_from_json(&self, keys: &JsonKeys<'_>) -> Result<Config, FormatError> {
        // Its default is not hidden_size / num_attention_heads, so it must be there.
        keys.count("head_dim")?;
        let biases = keys.flag("attention_bias", llama::ATTENTION_MATRICES)?;
        let config = keys.config(RopeLayout::Half, biases.iter().copied().collect())?;
        let window = keys.optional_window(config.n_layers)?;
        Ok(Config { qk_norm: true, window, ..config })
    }

    fn graph(&self, config: &Config) -> Result<Graph, String> {
        llama::graph(config)
    }
}
