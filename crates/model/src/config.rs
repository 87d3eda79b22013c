//! Hyper-parameters of a decoder, read from GGUF metadata or a `config.json`, written as metadata.
//!
//! In: keys. Out: a [`Config`] whose numbers are in range, or one sentence that names the key. What
//! would change the model's meaning and is not supported is an error, never ignored.

mod gguf;
mod huggingface;
mod metadata;
#[cfg(test)]
mod tests;

pub use gguf::GgufKeys;
pub use huggingface::JsonKeys;
pub use metadata::metadata;

use crate::Role;
use crate::ops::{Llama3Scaling, RopeLayout};
use std::collections::BTreeSet;

/// Numbers that say how a decoder of the Llama family is built.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Layers.
    pub n_layers: usize,
    /// Features of the residual stream.
    pub dim: usize,
    /// Features inside the MLP.
    pub ffn_dim: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Features per head.
    pub head_dim: usize,
    /// Tokens in the vocabulary.
    pub vocab_len: usize,
    /// Positions the model was trained for.
    pub context_len: usize,
    /// Of every RMS norm.
    pub norm_eps: f32,
    /// Which features of a head turn together.
    pub rope_layout: RopeLayout,
    /// Features of each head that turn.
    pub rotary_dim: usize,
    /// Base of the rotation frequencies.
    pub rope_base: f32,
    /// Positions are divided by it.
    pub rope_scale: f32,
    /// Whether a weight `rope_freqs.weight` divides the frequencies.
    pub rope_factors: bool,
    /// Llama 3's scaling, from which that weight is made when the checkpoint has none.
    pub llama3: Option<Llama3Scaling>,
    /// Keys a query sees, itself included; all when `None`.
    pub window: Option<usize>,
    /// Whether the head is the token embedding.
    pub tied: bool,
    /// The matrices that have a bias.
    pub biases: BTreeSet<Role>,
    /// Whether every query and key head is normalised.
    pub qk_norm: bool,
}

/// No count in a model that fits a machine is larger; keeps products of counts far from overflow.
pub const MAX_COUNT: usize = 1 << 24;

impl Config {
    /// What does not fit: the problem as a sentence.
    ///
    /// # Errors
    /// When heads do not divide, a number is out of range or not finite.
    pub fn check(&self) -> Result<(), String> {
        let counts = [
            ("number of layers", self.n_layers),
            ("embedding length", self.dim),
            ("feed-forward length", self.ffn_dim),
            ("vocabulary", self.vocab_len),
            ("context length", self.context_len),
            ("length of all heads", self.n_heads * self.head_dim),
            ("length of all key and value heads", self.n_kv_heads * self.head_dim),
        ];
        if let Some((name, n)) = counts.iter().find(|(_, n)| *n == 0 || *n > MAX_COUNT) {
            return Err(format!("the {name} is {n}, not in 1..={MAX_COUNT}"));
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            let (q, kv) = (self.n_heads, self.n_kv_heads);
            return Err(format!("{q} attention heads do not divide by {kv} key and value heads"));
        }
        let rotary = self.rotary_dim;
        if rotary > self.head_dim || !rotary.is_multiple_of(2) {
            return Err(format!("{rotary} rotated features of heads of {}", self.head_dim));
        }
        let in_range = |x: f32| x.is_finite() && x > 0.0;
        if !in_range(self.rope_base) || !in_range(self.rope_scale) {
            return Err("the RoPE base or scale is not a positive number".into());
        }
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0) {
            return Err(format!("the norm's epsilon {} is not a small number", self.norm_eps));
        }
        if self.window == Some(0) {
            return Err("a sliding window of 0 sees nothing".into());
        }
        Ok(())
    }
}
