//! `bitnet-b1.58` and `bitnet`: BitNet b1.58, whose layers are ternary matrices on int8
//! activations.
//!
//! Llama's graph with a norm before attention's output and before the MLP's down matrix, and, in
//! `bitnet-b1.58`, a squared ReLU for the gate:
//!
//! ```text
//! x += output(norm(attention(rope(q(norm x)), rope(k(norm x)), v(norm x))))
//! x += down(norm(relu(gate(norm x))^2 * up(norm x)))
//! ```
//!
//! `bitnet-b1.58` is what Microsoft's release of the 2B4T model calls itself in GGUF; `bitnet` is
//! llama.cpp's name for the same layers with SiLU. Files hold the matrices already ternary. The
//! checkpoints of Hugging Face do not: see `model/bind.rs`.

use super::llama::{Gate, Recipe};
use super::{Arch, llama};
use crate::Graph;
use crate::config::{Config, GgufKeys, JsonKeys};
use crate::ops::{Activations, RopeLayout};
use std::collections::BTreeSet;
use sterna_formats::FormatError;

/// BitNet b1.58, by what its gate is.
pub struct BitNet {
    name: &'static str,
    classes: &'static [&'static str],
    gate: Gate,
}

/// As the 2B4T release: squared ReLU.
pub const B158: BitNet = BitNet {
    name: "bitnet-b1.58",
    classes: &["BitNetForCausalLM", "BitnetForCausalLM"],
    gate: Gate::Relu2,
};

/// As llama.cpp's `bitnet`: SiLU.
pub const SILU: BitNet = BitNet { name: "bitnet", classes: &[], gate: Gate::Silu };

impl Arch for BitNet {
    fn name(&self) -> &'static str {
        self.name
    }

    fn classes(&self) -> &'static [&'static str] {
        self.classes
    }

    fn config_from_gguf(&self, keys: &GgufKeys<'_>) -> Result<Config, FormatError> {
        for part in ["attn_q", "attn_output", "ffn_gate", "ffn_down"] {
            let scale = format!("blk.0.{part}.scale");
            if (keys.shape)(&scale).is_some() {
                let problem = format!("has scales beside its matrices, e.g. {scale}");
                let fix = "convert the model again: current converters put scales into matrices";
                return Err(FormatError::new(keys.path, problem, fix));
            }
        }
        keys.config(RopeLayout::Half, keys.biases())
    }

    fn config_from_json(&self, keys: &JsonKeys<'_>) -> Result<Config, FormatError> {
        keys.refuse_unsupported("relu2")?;
        refuse_other_quantization(keys)?;
        let biases = keys.flag("attention_bias", llama::ATTENTION_MATRICES)?;
        let biases: BTreeSet<_> = biases.iter().copied().collect();
        keys.numbers("rms_norm_eps", RopeLayout::Half, biases)
    }

    fn graph(&self, config: &Config) -> Result<Graph, String> {
        let activations = Activations::Int8PerToken;
        llama::graph_by(config, Recipe { gate: self.gate, activations, sub_norms: true })
    }
}

/// Ternary weights are read in the two forms of the 2B4T release: rounded when used ("online") and
/// packed ("offline").
fn refuse_other_quantization(keys: &JsonKeys<'_>) -> Result<(), FormatError> {
    let how = &keys.json["quantization_config"];
    if how.is_null() {
        return Ok(());
    }
    let wants = |key: &str, known: &[&str]| match how[key].as_str() {
        Some(value) if known.contains(&value) => None,
        value => Some(format!("{key} {}", value.unwrap_or("missing"))),
    };
    let other = wants("quant_method", &["bitnet"])
        .or_else(|| wants("linear_class", &["autobitlinear"]))
        .or_else(|| wants("quantization_mode", &["online", "offline"]))
        .or_else(|| (how["use_rms_norm"] == true).then(|| "use_rms_norm true".into()));
    match other {
        None => Ok(()),
        Some(other) => {
            let problem = format!("\"quantization_config\" has {other}");
            let fix =
                "supported is bitnet's autobitlinear, online or offline: use the bf16 release";
            Err(FormatError::new(keys.path, problem, fix))
        }
    }
}
