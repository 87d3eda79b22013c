//! The ops, one file each. Each has shapes, cost and an obviously right `eval`; speed is elsewhere.

pub mod add;
pub mod attention;
pub mod embedding;
pub mod gelu;
pub mod layer_norm;
pub mod linear;
pub mod position_embedding;
pub mod relu2;
pub mod rms_norm;
pub mod rope;
pub mod swiglu;
#[cfg(test)]
mod tests;
pub mod type_embedding;

pub use add::Add;
pub use attention::Attention;
pub use embedding::Embedding;
pub use gelu::Gelu;
pub use layer_norm::LayerNorm;
pub use linear::{Activations, Linear};
pub use position_embedding::PositionEmbedding;
pub use relu2::Relu2;
pub use rms_norm::RmsNorm;
pub use rope::{Llama3Scaling, Rope, RopeLayout, RopeTable};
pub use swiglu::Swiglu;
pub use type_embedding::TypeEmbedding;

use std::any::Any;
use std::fmt::Debug;
use std::ops::RangeInclusive;

/// Every op, with plain attributes: for documentation, lowering tables and checks.
pub const OPS: &[&dyn Op] = &[
    &embedding::Embedding,
    &position_embedding::PositionEmbedding,
    &type_embedding::TypeEmbedding,
    &linear::Linear { biases: Vec::new(), activations: Activations::Float },
    &rms_norm::RmsNorm { eps: 1e-5, group_len: 1 },
    &layer_norm::LayerNorm { eps: 1e-5 },
    &rope::Rope {
        head_dim: 2,
        rotary_dim: 2,
        layout: RopeLayout::Interleaved,
        base: 10_000.0,
        scale: 1.0,
    },
    &attention::Attention {
        n_heads: 1,
        n_kv_heads: 1,
        head_dim: 1,
        scale: 1.0,
        window: None,
        causal: true,
    },
    &swiglu::Swiglu,
    &relu2::Relu2,
    &gelu::Gelu,
    &add::Add,
];

/// What one row (token) through an op costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Multiply-accumulates per row, at a context of `Op::cost`'s argument.
    pub macs: f64,
    /// KV-cache elements appended per row.
    pub kv_elements: f64,
    /// KV-cache elements read per row.
    pub kv_read: f64,
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            macs: self.macs + other.macs,
            kv_elements: self.kv_elements + other.kv_elements,
            kv_read: self.kv_read + other.kv_read,
        }
    }
}

/// The rows an op is evaluated on: one sequence from its start, row `i` at position `i`.
pub struct EvalInputs<'a> {
    /// Rows (tokens).
    pub n_rows: usize,
    /// One `[n_rows, features]` slice per input value.
    pub inputs: &'a [&'a [f32]],
    /// Decoded weights.
    pub weights: &'a [&'a [f32]],
}

/// A computation on values.
pub trait Op: Any + Send + Sync + Debug {
    /// The op's name, e.g. `rms_norm`.
    fn name(&self) -> &'static str;
    /// What it computes, in a few words.
    fn about(&self) -> &'static str;
    /// Features of each output, from the features of the inputs and the shapes of the weights.
    ///
    /// # Errors
    /// A sentence saying which shape does not fit.
    fn out_features(&self, inputs: &[usize], weights: &[&[usize]]) -> Result<Vec<usize>, String>;
    /// Cost of one row when `context` positions are visible.
    fn cost(&self, inputs: &[usize], weights: &[&[usize]], context: usize) -> Cost;
    /// The definition: writes one `[n_rows, features]` slice per output. Slow and plain.
    fn eval(&self, from: &EvalInputs<'_>, outputs: &mut [&mut [f32]]);
    /// Attributes as text for printing a graph, e.g. `eps=1e-5`.
    fn attributes(&self) -> String {
        String::new()
    }
    /// For lowering tables: the concrete op behind the trait object.
    fn as_any(&self) -> &dyn Any;
}

/// The check every `out_features` starts with.
fn expect_counts(
    op: &dyn Op,
    inputs: &[usize],
    weights: &[&[usize]],
    n_inputs: usize,
    n_weights: RangeInclusive<usize>,
) -> Result<(), String> {
    if inputs.len() == n_inputs && n_weights.contains(&weights.len()) {
        return Ok(());
    }
    Err(format!(
        "{} wants {n_inputs} inputs and {n_weights:?} weights, not {} and {}",
        op.name(),
        inputs.len(),
        weights.len()
    ))
}
