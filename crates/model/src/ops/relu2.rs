//! `relu2`: the gated activation `relu(gate)^2 * up` (squared ReLU, as in BitNet b1.58 2B4T).

use super::{Cost, EvalInputs, Op, expect_counts};
use std::any::Any;

/// Reads gate and up, of the same features; writes `relu(gate)^2 * up`.
#[derive(Clone, Debug)]
pub struct Relu2;

impl Op for Relu2 {
    fn name(&self) -> &'static str {
        "relu2"
    }

    fn about(&self) -> &'static str {
        "max(gate, 0)^2 * up"
    }

    fn out_features(&self, inputs: &[usize], weights: &[&[usize]]) -> Result<Vec<usize>, String> {
        expect_counts(self, inputs, weights, 2, 0..=0)?;
        if inputs[0] != inputs[1] {
            return Err(format!("gate has {} features, up {}", inputs[0], inputs[1]));
        }
        Ok(vec![inputs[0]])
    }

    fn cost(&self, inputs: &[usize], _weights: &[&[usize]], _context: usize) -> Cost {
        Cost { macs: 2.0 * inputs[0] as f64, ..Cost::default() }
    }

    fn eval(&self, from: &EvalInputs<'_>, outputs: &mut [&mut [f32]]) {
        for ((y, &gate), &up) in outputs[0].iter_mut().zip(from.inputs[0]).zip(from.inputs[1]) {
            let positive = gate.max(0.0);
            *y = positive * positive * up;
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
