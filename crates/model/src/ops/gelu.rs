//! `gelu`: `x * P(N(0, 1) < x)`, the exact form with erf that PyTorch calls `GELU()`.

use super::{Cost, EvalInputs, Op, expect_counts};
use std::any::Any;

/// Reads one value; writes `x / 2 * (1 + erf(x / sqrt 2))`.
#[derive(Clone, Debug)]
pub struct Gelu;

impl Op for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn about(&self) -> &'static str {
        "x / 2 * (1 + erf(x / sqrt 2))"
    }

    fn out_features(&self, inputs: &[usize], weights: &[&[usize]]) -> Result<Vec<usize>, String> {
        expect_counts(self, inputs, weights, 1, 0..=0)?;
        Ok(vec![inputs[0]])
    }

    fn cost(&self, inputs: &[usize], _weights: &[&[usize]], _context: usize) -> Cost {
        Cost { macs: 2.0 * inputs[0] as f64, ..Cost::default() }
    }

    fn eval(&self, from: &EvalInputs<'_>, outputs: &mut [&mut [f32]]) {
        for (y, &x) in outputs[0].iter_mut().zip(from.inputs[0]) {
            let x = f64::from(x);
            *y = (x * below(x)) as f32;
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The share of the standard normal distribution below `x`, to 1e-12: the series of the
/// distribution function around 0 (Marsaglia 2004), whose terms all have one sign.
fn below(x: f64) -> f64 {
    if x.abs() > 8.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while term.abs() > 1e-17 * sum.abs() {
        n += 2.0;
        term *= x * x / n;
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}
