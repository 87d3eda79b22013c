//! `linear`: one input through N matrices, each with its own output and an optional bias.

use super::{Cost, EvalInputs, Op, expect_counts};
use std::any::Any;

/// Reads one value; weights are the N matrices `[out, in]` first, then the biases `[out]` of those
/// outputs that have one, both in output order; writes N values.
///
/// More than one matrix means that they share their input (fused QKV, gate and up): the runtime
/// prepares the input once. The weights stay separate tensors, so files stay standard.
#[derive(Clone, Debug)]
pub struct Linear {
    /// One entry per output: whether it adds a bias.
    pub biases: Vec<bool>,
}

impl Linear {
    /// One matrix, with a bias or without.
    pub fn new(bias: bool) -> Self {
        Self { biases: vec![bias] }
    }

    /// How many matrices, and so outputs, there are.
    pub fn n_outputs(&self) -> usize {
        self.biases.len()
    }

    /// Index among the node's weights of the bias of `output`, if it has one.
    pub fn bias_of(&self, output: usize) -> Option<usize> {
        let before = self.biases[..output].iter().filter(|&&b| b).count();
        self.biases[output].then_some(self.n_outputs() + before)
    }
}

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn about(&self) -> &'static str {
        "W x (+ bias), for one or more W that share x"
    }

    fn out_features(&self, inputs: &[usize], weights: &[&[usize]]) -> Result<Vec<usize>, String> {
        let n_biases = self.biases.iter().filter(|&&b| b).count();
        let n_weights = self.n_outputs() + n_biases;
        expect_counts(self, inputs, weights, 1, n_weights..=n_weights)?;
        let mut features = Vec::new();
        for output in 0..self.n_outputs() {
            let &[rows, cols] = weights[output] else {
                return Err(format!("linear wants matrices, not {:?}", weights[output]));
            };
            if cols != inputs[0] {
                return Err(format!("a {rows}x{cols} matrix does not fit {} inputs", inputs[0]));
            }
            if let Some(bias) = self.bias_of(output)
                && weights[bias] != [rows]
            {
                return Err(format!("bias {:?} does not fit {rows} outputs", weights[bias]));
            }
            features.push(rows);
        }
        Ok(features)
    }

    fn cost(&self, _inputs: &[usize], weights: &[&[usize]], _context: usize) -> Cost {
        let matrices = &weights[..self.n_outputs()];
        let macs = matrices.iter().map(|w| w.iter().product::<usize>() as f64).sum();
        Cost { macs, ..Cost::default() }
    }

    fn eval(&self, from: &EvalInputs<'_>, outputs: &mut [&mut [f32]]) {
        let cols = from.inputs[0].len() / from.n_rows;
        for (output, y) in outputs.iter_mut().enumerate() {
            let bias = self.bias_of(output).map(|b| from.weights[b]);
            let rows = y.len() / from.n_rows;
            for (x, y) in from.inputs[0].chunks_exact(cols).zip(y.chunks_exact_mut(rows)) {
                let matrix = from.weights[output].chunks_exact(cols);
                for (row, (w, y)) in matrix.zip(y.iter_mut()).enumerate() {
                    let dot = w.iter().zip(x).fold(0.0, |acc, (&w, &x)| f32::mul_add(w, x, acc));
                    *y = dot + bias.map_or(0.0, |b| b[row]);
                }
            }
        }
    }

    fn attributes(&self) -> String {
        let named: Vec<&str> = self.biases.iter().map(|&b| if b { "bias" } else { "-" }).collect();
        if self.biases.contains(&true) { format!("({})", named.join(" ")) } else { String::new() }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
