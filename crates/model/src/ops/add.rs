//! `add`: the residual sum.

use super::{Cost, EvalInputs, Op, expect_counts};
use std::any::Any;

/// Reads two values of the same features; writes their sum.
#[derive(Clone, Debug)]
pub struct Add;

impl Op for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn about(&self) -> &'static str {
        "x + y"
    }

    fn out_features(&self, inputs: &[usize], weights: &[&[usize]]) -> Result<Vec<usize>, String> {
        expect_counts(self, inputs, weights, 2, 0..=0)?;
        if inputs[0] != inputs[1] {
            return Err(format!("add of {} and {} features", inputs[0], inputs[1]));
        }
        Ok(vec![inputs[0]])
    }

    fn cost(&self, inputs: &[usize], _weights: &[&[usize]], _context: usize) -> Cost {
        Cost { macs: inputs[0] as f64, ..Cost::default() }
    }

    fn eval(&self, from: &EvalInputs<'_>, outputs: &mut [&mut [f32]]) {
        for ((y, &a), &b) in outputs[0].iter_mut().zip(from.inputs[0]).zip(from.inputs[1]) {
            *y = a + b;
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
