//! `swiglu`: the gated activation `silu(gate) * up`.

use super::{Cost, EvalInputs, Op, expect_counts};
use std::any::Any;

/// Reads gate and up, of the same features; writes `silu(gate) * up`.
#[derive(Clone, Debug)]
pub struct Swiglu;

impl Op for Swiglu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn about(&self) -> &'static str {
        "gate / (1 + exp(-gate)) * up"
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
            *y = gate / (1.0 + (-gate).exp()) * up;
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
