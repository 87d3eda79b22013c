//! `rms_norm`: divides by the root mean square, over whole rows or over each head.

use super::{Cost, EvalInputs, Op, expect_counts};
use std::any::Any;

/// Lanes of a float reduction: index `i` is added into lane `i % 16`, then lanes fold in halves.
const LANES: usize = 16;

/// Reads one value and one weight `[group_len]`; each group of `group_len` features is normalised
/// by itself and multiplied by the weight. `group_len` is the whole row, or one head (QK-norm).
#[derive(Clone, Debug)]
pub struct RmsNorm {
    /// Added to the mean square.
    pub eps: f32,
    /// Features normalised together.
    pub group_len: usize,
}

impl Op for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn about(&self) -> &'static str {
        "x / sqrt(mean(x^2) + eps) * w, per row or per head"
    }

    fn out_features(&self, inputs: &[usize], weights: &[&[usize]]) -> Result<Vec<usize>, String> {
        expect_counts(self, inputs, weights, 1, 1..=1)?;
        if weights[0] != [self.group_len] {
            return Err(format!("rms_norm of {} got weight {:?}", self.group_len, weights[0]));
        }
        if self.group_len == 0 || !inputs[0].is_multiple_of(self.group_len) {
            return Err(format!("{} features do not divide by {}", inputs[0], self.group_len));
        }
        Ok(vec![inputs[0]])
    }

    fn cost(&self, inputs: &[usize], _weights: &[&[usize]], _context: usize) -> Cost {
        Cost { macs: 2.0 * inputs[0] as f64, ..Cost::default() }
    }

    fn eval(&self, from: &EvalInputs<'_>, outputs: &mut [&mut [f32]]) {
        let groups = from.inputs[0].chunks_exact(self.group_len);
        for (x, y) in groups.zip(outputs[0].chunks_exact_mut(self.group_len)) {
            let mean = lane_sum(x, |x, sum| x.mul_add(x, sum)) / self.group_len as f32;
            let scale = 1.0 / (mean + self.eps).sqrt();
            for ((y, &x), &w) in y.iter_mut().zip(x).zip(from.weights[0]) {
                *y = (x * scale) * w;
            }
        }
    }

    fn attributes(&self) -> String {
        format!("eps={:e} group={}", self.eps, self.group_len)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Sums up `add(x, sum)` in 16 lanes.
pub(super) fn lane_sum(x: &[f32], add: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for (i, &x) in x.iter().enumerate() {
        lanes[i % LANES] = add(x, lanes[i % LANES]);
    }
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}
