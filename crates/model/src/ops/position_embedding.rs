//! `position_embedding`: adds the learned row of each position.

use super::{Cost, EvalInputs, Op, expect_counts};
use std::any::Any;

/// Reads one value and one weight `[positions, features]`; adds row `p` to the row at position `p`.
/// A sequence cannot be longer than the table.
#[derive(Clone, Debug)]
pub struct PositionEmbedding;

impl Op for PositionEmbedding {
    fn name(&self) -> &'static str {
        "position_embedding"
    }

    fn about(&self) -> &'static str {
        "x + the table's row for its position"
    }

    fn out_features(&self, inputs: &[usize], weights: &[&[usize]]) -> Result<Vec<usize>, String> {
        expect_counts(self, inputs, weights, 1, 1..=1)?;
        match (inputs, weights[0]) {
            ([x], [_, features]) if x == features => Ok(vec![*features]),
            _ => Err(format!(
                "position_embedding of {} features got a table {:?}, not [positions, features]",
                inputs[0], weights[0]
            )),
        }
    }

    fn cost(&self, inputs: &[usize], _weights: &[&[usize]], _context: usize) -> Cost {
        Cost { macs: inputs[0] as f64, ..Cost::default() }
    }

    fn eval(&self, from: &EvalInputs<'_>, outputs: &mut [&mut [f32]]) {
        let learned = from.inputs[0].iter().zip(from.weights[0]);
        for (y, (x, p)) in outputs[0].iter_mut().zip(learned) {
            *y = x + p;
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
