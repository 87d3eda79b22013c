//! The ops, one file each. Each has shapes, cost and an obviously right `eval`; speed is elsewhere.

use std::any::Any;
use std::fmt::Debug;

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
