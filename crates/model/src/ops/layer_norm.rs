//! `layer_norm`: each row moved to mean 0 and variance 1, then scaled and shifted.

use super::rms_norm::lane_sum;
use super::{Cost, EvalInputs, Op, expect_counts};
use std::any::Any;

/// Reads one value and two weights, scale and shift, one number per feature each.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f32,
}

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn about(&self) -> &'static str {
        "(x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * w + b, per row"
    }

    fn out_features(&self, inputs: &[usize], weights: &[&[usize]]) -> Result<Vec<usize>, String> {
        expect_counts(self, inputs, weights, 1, 2..=2)?;
        if let Some(weight) = weights.iter().find(|w| **w != inputs) {
            return Err(format!("layer_norm of {} features got weight {weight:?}", inputs[0]));
        }
        Ok(vec![inputs[0]])
    }

    fn cost(&self, inputs: &[usize], _weights: &[&[usize]], _context: usize) -> Cost {
        Cost { macs: 3.0 * inputs[0] as f64, ..Cost::default() }
    }

    fn eval(&self, from: &EvalInputs<'_>, outputs: &mut [&mut [f32]]) {
        let n = from.weights[0].len();
        let (weight, bias) = (from.weights[0], from.weights[1]);
        for (x, y) in from.inputs[0].chunks_exact(n).zip(outputs[0].chunks_exact_mut(n)) {
            let mean = lane_sum(x, |x, sum| sum + x) / n as f32;
            let variance = lane_sum(x, |x, sum| (x - mean).mul_add(x - mean, sum)) / n as f32;
            let scale = 1.0 / (variance + self.eps).sqrt();
            for (i, y) in y.iter_mut().enumerate() {
                *y = ((x[i] - mean) * scale).mul_add(weight[i], bias[i]);
            }
        }
    }

    fn attributes(&self) -> String {
        format!("eps={:e}", self.eps)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
