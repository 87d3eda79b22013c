//! `type_embedding`: adds the learned row of a text that stands alone.

use super::{Cost, EvalInputs, Op, expect_counts};
use std::any::Any;

/// Reads one value and one weight `[types, features]`; adds row 0 to every row. BERT tells the two
/// texts of a pair by these rows; a single text is of type 0 throughout.
#[derive(Clone, Debug)]
pub struct TypeEmbedding;

impl Op for TypeEmbedding {
    fn name(&self) -> &'static str {
        "type_embedding"
    }

    fn about(&self) -> &'static str {
        "x + the table's row for a single text"
    }

    fn out_features(&self, inputs: &[usize], weights: &[&[usize]]) -> Result<Vec<usize>, String> {
        expect_counts(self, inputs, weights, 1, 1..=1)?;
        match (inputs, weights[0]) {
            ([x], [types, features]) if x == features && *types > 0 => Ok(vec![*features]),
            _ => Err(format!(
                "type_embedding of {} features got a table {:?}, not [types, features]",
                inputs[0], weights[0]
            )),
        }
    }

    fn cost(&self, inputs: &[usize], _weights: &[&[usize]], _context: usize) -> Cost {
        Cost { macs: inputs[0] as f64, ..Cost::default() }
    }

    fn eval(&self, from: &EvalInputs<'_>, outputs: &mut [&mut [f32]]) {
        let n = outputs[0].len() / from.n_rows;
        for (out, x) in outputs[0].chunks_exact_mut(n).zip(from.inputs[0].chunks_exact(n)) {
            for ((y, x), learned) in out.iter_mut().zip(x).zip(from.weights[0]) {
                *y = x + learned;
            }
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
