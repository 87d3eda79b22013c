//! `{{snake}}`: replace this by what it computes and where it is specified.

use super::{Cost, EvalInputs, Op, expect_counts};
use std::any::Any;

/// Reads one value; writes its positive part, of the same features.
#[derive(Clone, Debug)]
pub struct {{Camel}};

impl Op for {{Camel}} {
    fn name(&self) -> &'static str {
        "{{snake}}"
    }

    fn about(&self) -> &'static str {
        "max(x, 0)"
    }

    fn out_features(&self, inputs: &[usize], weights: &[&[usize]]) -> Result<Vec<usize>, String> {
        expect_counts(self, inputs, weights, 1, 0..=0)?;
        Ok(vec![inputs[0]])
    }

    fn cost(&self, inputs: &[usize], _weights: &[&[usize]], _context: usize) -> Cost {
        Cost { macs: inputs[0] as f64, ..Cost::default() }
    }

    fn eval(&self, from: &EvalInputs<'_>, outputs: &mut [&mut [f32]]) {
        for (y, &x) in outputs[0].iter_mut().zip(from.inputs[0]) {
            *y = x.max(0.0);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let mut y = [f32::NAN; 2];
        let from = EvalInputs { n_rows: 2, inputs: &[&[-1.0, 3.0]], weights: &[] };
        {{Camel}}.eval(&from, &mut [&mut y]);
        assert_eq!(y, [0.0, 3.0]);
    }
}
