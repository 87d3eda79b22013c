//! A [`Config`] from GGUF metadata (llama2.c files are described in the same keys).

use super::{Config, MAX_COUNT};
use crate::Role;
use crate::ops::RopeLayout;
use std::collections::BTreeSet;
use std::path::Path;
use sterna_formats::{Array, FormatError, Metadata, Value};

/// Metadata of one architecture in one file, with the shapes of the file's tensors.
pub struct GgufKeys<'a> {
    /// The file, for messages.
    pub path: &'a Path,
    /// Its metadata.
    pub metadata: &'a Metadata,
    /// The architecture's name, with which keys begin.
    pub arch: &'a str,
    /// Shape of the tensor of that GGUF name, outermost first.
    pub shape: &'a dyn Fn(&str) -> Option<Vec<usize>>,
}

/// Matrices that may have a bias, by the name of their tensor.
const MAY_HAVE_BIAS: &[(&str, Role)] = &[
    ("attn_q", Role::AttentionQuery),
    ("attn_k", Role::AttentionKey),
    ("attn_v", Role::AttentionValue),
    ("attn_output", Role::AttentionOutput),
    ("ffn_gate", Role::MlpGate),
    ("ffn_up", Role::MlpUp),
    ("ffn_down", Role::MlpDown),
];

/// Keys that change what a model computes in ways Sterna does not know, when they are not zero.
const UNSUPPORTED: &[&str] = &[
    "expert_count",
    "attention.scale",
    "attention.clamp_kqv",
    "attention.max_alibi_bias",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "logit_scale",
    "residual_scale",
    "embedding_scale",
    "rope.scaling.attn_factor",
    "attention.temperature_length",
];

impl GgufKeys<'_> {
    /// Reads the family's keys. QK-norm is off; the architecture turns it on.
    ///
    /// # Errors
    /// When a key is missing, of the wrong type or out of range, or asks for the unsupported.
    pub fn config(
        &self,
        layout: RopeLayout,
        biases: BTreeSet<Role>,
    ) -> Result<Config, FormatError> {
        self.config_with_eps("attention.layer_norm_rms_epsilon", layout, biases)
    }

    /// [`GgufKeys::config`] with another key for the norms' epsilon.
    ///
    /// # Errors
    /// As [`GgufKeys::config`].
    pub fn config_with_eps(
        &self,
        eps: &str,
        layout: RopeLayout,
        biases: BTreeSet<Role>,
    ) -> Result<Config, FormatError> {
        self.refuse_unsupported()?;
        self.check_causal(true)?;
        self.numbers(eps, layout, biases)
    }

    /// [`GgufKeys::config_with_eps`] of a family that encodes texts.
    ///
    /// # Errors
    /// As [`GgufKeys::config`].
    pub fn encoder(
        &self,
        eps: &str,
        layout: RopeLayout,
        biases: BTreeSet<Role>,
    ) -> Result<Config, FormatError> {
        self.refuse_unsupported()?;
        self.check_causal(false)?;
        self.numbers(eps, layout, biases)
    }

    fn numbers(
        &self,
        eps: &str,
        layout: RopeLayout,
        biases: BTreeSet<Role>,
    ) -> Result<Config, FormatError> {
        let dim = self.need("embedding_length")?;
        let n_heads = self.need("attention.head_count")?;
        let head_dim = self.head_dim(dim, n_heads)?;
        let embedding = (self.shape)("token_embd.weight").unwrap_or_default();
        let vocab_len = match embedding.first() {
            Some(rows) => *rows,
            None => self.need("vocab_size")?,
        };
        let config = Config {
            n_layers: self.need("block_count")?,
            dim,
            ffn_dim: self.need("feed_forward_length")?,
            n_heads,
            n_kv_heads: self.count("attention.head_count_kv")?.unwrap_or(n_heads),
            head_dim,
            vocab_len,
            context_len: self.need("context_length")?,
            norm_eps: self.need_f32(eps)?,
            rope_layout: layout,
            rotary_dim: self.count("rope.dimension_count")?.unwrap_or(head_dim),
            rope_base: self.f32("rope.freq_base")?.unwrap_or(10_000.0),
            rope_scale: self.rope_scale()?,
            rope_factors: (self.shape)("rope_freqs.weight").is_some(),
            llama3: None,
            window: self.count("attention.sliding_window")?.filter(|&w| w > 0),
            tied: (self.shape)("output.weight").is_none(),
            biases,
            qk_norm: false,
        };
        config.check().map_err(|problem| self.error(problem, CONVERT))?;
        Ok(config)
    }

    /// The matrices whose bias is in the file.
    pub fn biases(&self) -> BTreeSet<Role> {
        let has = |part: &str| (self.shape)(&format!("blk.0.{part}.bias")).is_some();
        MAY_HAVE_BIAS.iter().filter(|(part, _)| has(part)).map(|(_, role)| *role).collect()
    }

    fn head_dim(&self, dim: usize, n_heads: usize) -> Result<usize, FormatError> {
        let key = self.count("attention.key_length")?;
        let value = self.count("attention.value_length")?;
        let default = dim.checked_div(n_heads).unwrap_or(0);
        let (key, value) = (key.unwrap_or(default), value.unwrap_or(default));
        if key != value {
            let problem = format!(
                "{0}.attention.key_length {key} differs from {0}.attention.value_length {value}, \
                 which is not supported",
                self.arch
            );
            return Err(self.error(problem, "use a model whose heads are of one size"));
        }
        Ok(key)
    }

    fn rope_scale(&self) -> Result<f32, FormatError> {
        let kind = self.metadata.str(&self.key("rope.scaling.type")).unwrap_or("linear");
        let factor = self.f32("rope.scaling.factor")?.or(self.f32("rope.scale_linear")?);
        match kind {
            "none" => Ok(1.0),
            // Writers store 0 for no scaling.
            "linear" => Ok(factor.filter(|&f| f != 0.0).unwrap_or(1.0)),
            other => Err(self.error(
                format!("{} is \"{other}\"", self.key("rope.scaling.type")),
                "supported are none, linear, and llama3 as rope_freqs.weight",
            )),
        }
    }

    fn refuse_unsupported(&self) -> Result<(), FormatError> {
        for name in UNSUPPORTED {
            let key = self.key(name);
            let set = self.metadata.u64(&key).is_some_and(|v| v != 0)
                || self.metadata.f32(&key).is_some_and(|v| v != 0.0);
            if set {
                let problem = format!("metadata key {key} is set, which is not supported");
                return Err(self.error(problem, "use a dense model of a supported architecture"));
            }
        }
        Ok(())
    }

    /// Refuses attention that is of the other kind than the family's.
    fn check_causal(&self, wanted: bool) -> Result<(), FormatError> {
        match self.metadata.bool(&self.key("attention.causal")) {
            Some(causal) if causal != wanted => {
                let problem = format!("{} is {causal}", self.key("attention.causal"));
                let kind = if wanted { "only causal" } else { "no causal" };
                let fix = format!("{kind} models of this architecture are supported");
                Err(self.error(problem, &fix))
            }
            _ => Ok(()),
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.arch)
    }

    fn error(&self, problem: impl Into<String>, fix: &str) -> FormatError {
        FormatError::new(self.path, problem, fix)
    }

    fn need(&self, name: &str) -> Result<usize, FormatError> {
        self.count(name)?.ok_or_else(|| self.missing(name))
    }

    fn need_f32(&self, name: &str) -> Result<f32, FormatError> {
        self.f32(name)?.ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> FormatError {
        self.error(format!("metadata key {} is missing", self.key(name)), CONVERT)
    }

    fn count(&self, name: &str) -> Result<Option<usize>, FormatError> {
        let key = self.key(name);
        let Some(value) = self.metadata.get(&key) else { return Ok(None) };
        let number = match value {
            Value::Array(array) => same_everywhere(array).ok_or_else(|| {
                let problem = format!("metadata key {key} differs between layers");
                self.error(problem, "use a model whose layers are alike")
            })?,
            _ => self
                .metadata
                .u64(&key)
                .ok_or_else(|| self.error(format!("metadata key {key} is not a count"), CONVERT))?,
        };
        if number > MAX_COUNT as u64 {
            let problem = format!("metadata key {key} is {number}, more than {MAX_COUNT}");
            return Err(self.error(problem, CONVERT));
        }
        Ok(Some(number as usize))
    }

    fn f32(&self, name: &str) -> Result<Option<f32>, FormatError> {
        let key = self.key(name);
        if self.metadata.get(&key).is_none() {
            return Ok(None);
        }
        match self.metadata.f32(&key) {
            Some(value) => Ok(Some(value)),
            None => Err(self.error(format!("metadata key {key} is not a float"), CONVERT)),
        }
    }
}

const CONVERT: &str = "convert the model again with a current converter";

/// The one number of an array that gives each layer's.
fn same_everywhere(array: &Array) -> Option<u64> {
    let numbers: Vec<u64> = match array {
        Array::U32(v) => v.iter().map(|&n| n.into()).collect(),
        Array::I32(v) => v.iter().map(|&n| n.try_into().ok()).collect::<Option<_>>()?,
        Array::U64(v) => v.clone(),
        _ => return None,
    };
    let first = *numbers.first()?;
    numbers.iter().all(|&n| n == first).then_some(first)
}
