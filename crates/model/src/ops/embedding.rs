//! `embedding`: looks up a row of the table for each token id.

use super::{Cost, EvalInputs, Op, expect_counts};
use std::any::Any;

/// Reads `tokens` (one feature, the id) and one weight `[vocabulary, features]`; writes the rows.
#[derive(Clone, Debug)]
pub struct Embedding;

impl Op for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn about(&self) -> &'static str {
        "the table's row for each token id"
    }

    fn out_features(&self, inputs: &[usize], weights: &[&[usize]]) -> Result<Vec<usize>, String> {
        expect_counts(self, inputs, weights, 1, 1..=1)?;
        match (inputs, weights[0]) {
            ([1], [_, features]) => Ok(vec![*features]),
            _ => Err(format!(
                "embedding wants token ids [1] and a table [vocabulary, features], \
                 not {inputs:?} and {:?}",
                weights[0]
            )),
        }
    }

    fn cost(&self, _inputs: &[usize], _weights: &[&[usize]], _context: usize) -> Cost {
        Cost::default()
    }

    fn eval(&self, from: &EvalInputs<'_>, outputs: &mut [&mut [f32]]) {
        let features = outputs[0].len() / from.n_rows;
        for (row, &token) in outputs[0].chunks_exact_mut(features).zip(from.inputs[0]) {
            // Ids below 2^24 are exact in f32, and no vocabulary is that large.
            let start = token as usize * features;
            row.copy_from_slice(&from.weights[0][start..start + features]);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
