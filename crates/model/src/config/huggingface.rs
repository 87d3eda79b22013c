//! A [`Config`] from a Hugging Face `config.json`.

use super::{Config, MAX_COUNT};
use crate::Role;
use crate::ops::{Llama3Scaling, RopeLayout};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use sterna_formats::FormatError;

/// A `config.json`, and which tensors stand beside it.
pub struct JsonKeys<'a> {
    /// The file, for messages.
    pub path: &'a Path,
    /// Its content.
    pub json: &'a Value,
    /// The class it names, e.g. `LlamaForCausalLM`.
    pub class: &'a str,
    /// Shape of the tensor that has this GGUF name elsewhere, outermost first.
    pub shape: &'a dyn Fn(&str) -> Option<Vec<usize>>,
}

impl JsonKeys<'_> {
    /// Reads the family's keys. QK-norm and window are off; the architecture sets them.
    ///
    /// # Errors
    /// When a key is missing, of the wrong type or out of range, or asks for the unsupported.
    pub fn config(
        &self,
        layout: RopeLayout,
        biases: BTreeSet<Role>,
    ) -> Result<Config, FormatError> {
        self.refuse_unsupported("silu")?;
        if !self.json["quantization_config"].is_null() {
            let problem = "\"quantization_config\" is set: quantized Hugging Face weights are not \
                           supported";
            return Err(self.error(problem, "use the unquantized model, or a GGUF of it"));
        }
        self.numbers("rms_norm_eps", layout, biases)
    }

    /// [`JsonKeys::config`] for a family that has refused what it does not support itself; `eps` is
    /// the key of its norms' epsilon.
    ///
    /// # Errors
    /// When a key is missing, of the wrong type or out of range.
    pub fn numbers(
        &self,
        eps: &str,
        layout: RopeLayout,
        biases: BTreeSet<Role>,
    ) -> Result<Config, FormatError> {
        let dim = self.count("hidden_size")?;
        let n_heads = self.count("num_attention_heads")?;
        let default_head_dim = dim.checked_div(n_heads).unwrap_or(0);
        let head_dim = self.optional_count("head_dim")?.unwrap_or(default_head_dim);
        let rope = self.rope()?;
        let config = Config {
            n_layers: self.count("num_hidden_layers")?,
            dim,
            ffn_dim: self.count("intermediate_size")?,
            n_heads,
            n_kv_heads: self.optional_count("num_key_value_heads")?.unwrap_or(n_heads),
            head_dim,
            vocab_len: self.count("vocab_size")?,
            context_len: self.count("max_position_embeddings")?,
            norm_eps: self.need(self.json, eps)? as f32,
            rope_layout: layout,
            rotary_dim: head_dim,
            rope_base: rope.base,
            rope_scale: rope.scale,
            rope_factors: rope.llama3.is_some(),
            llama3: rope.llama3,
            window: None,
            tied: match self.boolean("tie_word_embeddings")? {
                Some(tied) => tied,
                None => (self.shape)("output.weight").is_none(),
            },
            biases,
            qk_norm: false,
        };
        config.check().map_err(|problem| self.error(problem, REPAIR))?;
        Ok(config)
    }

    /// A required count.
    ///
    /// # Errors
    /// When it is missing or no count.
    pub fn count(&self, key: &str) -> Result<usize, FormatError> {
        self.optional_count(key)?.ok_or_else(|| self.missing(key))
    }

    /// A count that may be missing or null.
    ///
    /// # Errors
    /// When it is something else than a count.
    pub fn optional_count(&self, key: &str) -> Result<Option<usize>, FormatError> {
        match &self.json[key] {
            Value::Null => Ok(None),
            value => match value.as_u64() {
                Some(count) if count <= MAX_COUNT as u64 => Ok(Some(count as usize)),
                _ => {
                    let problem = format!("\"{key}\" is {value}, not a count up to {MAX_COUNT}");
                    Err(self.error(problem, REPAIR))
                }
            },
        }
    }

    /// `when_set` if the key is true, nothing if it is false or missing.
    ///
    /// # Errors
    /// When the key is not a boolean.
    pub fn flag(
        &self,
        key: &str,
        when_set: &'static [Role],
    ) -> Result<&'static [Role], FormatError> {
        Ok(if self.boolean(key)?.unwrap_or(false) { when_set } else { &[] })
    }

    /// Qwen's `sliding_window`, which counts only with `use_sliding_window`.
    ///
    /// # Errors
    /// When only some layers use it.
    pub fn optional_window(&self, n_layers: usize) -> Result<Option<usize>, FormatError> {
        if !self.boolean("use_sliding_window")?.unwrap_or(false) {
            return Ok(None);
        }
        let first_layer = self.optional_count("max_window_layers")?.unwrap_or(0);
        if first_layer >= n_layers {
            return Ok(None);
        }
        if first_layer > 0 {
            let problem = "\"max_window_layers\" gives only some layers a sliding window, which is \
                           not supported";
            return Err(self.error(problem, "set \"use_sliding_window\" to false for short texts"));
        }
        self.optional_count("sliding_window")
    }

    fn rope(&self) -> Result<RopeKeys, FormatError> {
        let nested = &self.json["rope_parameters"];
        let scaling = if nested.is_null() { &self.json["rope_scaling"] } else { nested };
        let base = [&nested["rope_theta"], &self.json["rope_theta"]]
            .into_iter()
            .find(|value| !value.is_null())
            .map_or(Some(10_000.0), Value::as_f64)
            .ok_or_else(|| self.missing("rope_theta"))? as f32;
        let mut keys = RopeKeys { base, scale: 1.0, llama3: None };
        if scaling.is_null() {
            return Ok(keys);
        }
        let kind = [&scaling["rope_type"], &scaling["type"]].into_iter().find_map(Value::as_str);
        match kind {
            Some("default") => {}
            Some("linear") => keys.scale = self.need(scaling, "factor")? as f32,
            Some("llama3") if self.class == "LlamaForCausalLM" => {
                keys.llama3 = Some(self.llama3(scaling)?);
            }
            _ => {
                let kind = kind.unwrap_or("missing");
                let problem = format!("the RoPE scaling \"rope_type\" is {kind}");
                return Err(
                    self.error(problem, "supported are default, linear, and Llama's llama3")
                );
            }
        }
        Ok(keys)
    }

    fn llama3(&self, scaling: &Value) -> Result<Llama3Scaling, FormatError> {
        let scaling = Llama3Scaling {
            factor: self.need(scaling, "factor")?,
            low_freq_factor: self.need(scaling, "low_freq_factor")?,
            high_freq_factor: self.need(scaling, "high_freq_factor")?,
            original_context: self.need(scaling, "original_max_position_embeddings")?,
        };
        let Llama3Scaling { factor, low_freq_factor: low, high_freq_factor: high, .. } = scaling;
        if factor > 0.0 && low > 0.0 && high > low && scaling.original_context > 0.0 {
            return Ok(scaling);
        }
        let problem = "the llama3 RoPE scaling is not 0 < low_freq_factor < high_freq_factor with \
                       positive factor and length";
        Err(self.error(problem, REPAIR))
    }

    /// Refuses what no family's graph has, and activation functions other than its `hidden_act`.
    ///
    /// # Errors
    /// When a key asks for such.
    pub fn refuse_unsupported(&self, hidden_act: &str) -> Result<(), FormatError> {
        for key in ["num_local_experts", "num_experts", "n_routed_experts"] {
            if self.json[key].as_u64().is_some_and(|n| n > 0) {
                let problem = format!("\"{key}\" is set: mixtures of experts are not supported");
                return Err(self.error(problem, "use a dense model"));
            }
        }
        let act = &self.json["hidden_act"];
        if !act.is_null() && act != hidden_act {
            let problem = format!("\"hidden_act\" is {act}");
            return Err(self.error(problem, &format!("supported is {hidden_act}")));
        }
        let nested = &self.json["rope_parameters"]["partial_rotary_factor"];
        for partial in [&self.json["partial_rotary_factor"], nested] {
            if partial.as_f64().is_some_and(|f| f != 1.0) {
                let problem = format!("\"partial_rotary_factor\" is {partial}");
                return Err(self.error(problem, "supported is 1"));
            }
        }
        Ok(())
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>, FormatError> {
        match &self.json[key] {
            Value::Null => Ok(None),
            Value::Bool(value) => Ok(Some(*value)),
            other => Err(self.error(format!("\"{key}\" is {other}, not true or false"), REPAIR)),
        }
    }

    fn need(&self, json: &Value, key: &str) -> Result<f64, FormatError> {
        json[key].as_f64().ok_or_else(|| self.missing(key))
    }

    fn missing(&self, key: &str) -> FormatError {
        self.error(format!("\"{key}\" is missing or not a number"), REPAIR)
    }

    fn error(&self, problem: impl Into<String>, fix: &str) -> FormatError {
        FormatError::new(self.path, problem, fix)
    }
}

/// What the RoPE keys say.
struct RopeKeys {
    base: f32,
    scale: f32,
    llama3: Option<Llama3Scaling>,
}

const REPAIR: &str = "download config.json again, or correct it";
