//! `linear`: one input through N matrices, each with its own output and an optional bias.

use super::{Cost, EvalInputs, Op, expect_counts};
use std::any::Any;

/// How a linear layer sees its input. It is part of what the graph means, whatever encoding the
/// weights are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activations {
    /// As it is. (Integer kernels may still round it for themselves: see `runtime`.)
    #[default]
    Float,
    /// Each row rounded to int8 codes with one scale, as BitNet b1.58 does: see
    /// [`Activations::round`].
    Int8PerToken,
    /// All rows rounded to int8 codes with one scale, found before on other text: static int8.
    Int8Static(Range),
}

/// The absolute maximum of static int8 codes; what is beyond it is clipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range(u32);

impl Range {
    /// A range; `None` where it is not a number above 0 that has a scale.
    pub fn new(absmax: f32) -> Option<Self> {
        let is_sound = (absmax / 127.0).is_normal() && absmax > 0.0 && (127.0 / absmax).is_normal();
        is_sound.then_some(Self(absmax.to_bits()))
    }

    /// The absolute maximum.
    pub fn get(self) -> f32 {
        f32::from_bits(self.0)
    }
}

impl Activations {
    /// The smallest absolute maximum of a row that a scale is made of, as in the reference
    /// implementation: a row of zeros has a scale too.
    pub const LEAST_MAX: f32 = 1e-5;

    /// `(scale, 1 / scale)` of the codes of one row: absmax/127 and 127/absmax.
    pub fn scale(row: &[f32]) -> (f32, f32) {
        let absmax = row.iter().fold(Self::LEAST_MAX, |m, x| m.max(x.abs()));
        (absmax / 127.0, 127.0 / absmax)
    }

    /// Makes one row what the layer sees: for int8, `scale * clamp(round(x / scale), -127, 127)`
    /// with ties to even.
    pub fn round(self, row: &mut [f32]) {
        let (scale, inverse) = match self {
            Self::Float => return,
            Self::Int8PerToken => Self::scale(row),
            Self::Int8Static(range) => (range.get() / 127.0, 127.0 / range.get()),
        };
        for x in row {
            *x = (*x * inverse).round_ties_even().clamp(-127.0, 127.0) * scale;
        }
    }

    /// Whether inputs are rounded to int8 codes.
    pub fn is_int8(self) -> bool {
        self != Self::Float
    }
}

/// Reads one value; weights are the N matrices `[out, in]` first, then the biases `[out]` of those
/// outputs that have one, both in output order; writes N values.
///
/// More than one matrix means that they share their input (fused QKV, gate and up): the runtime
/// prepares the input once. The weights stay separate tensors, so files stay standard.
#[derive(Clone, Debug)]
pub struct Linear {
    /// One entry per output: whether it adds a bias.
    pub biases: Vec<bool>,
    /// How the matrices see the input.
    pub activations: Activations,
}

impl Linear {
    /// One matrix, with a bias or without, on float activations.
    pub fn new(bias: bool) -> Self {
        Self { biases: vec![bias], activations: Activations::Float }
    }

    /// One matrix, with a bias or without, on int8 activations: BitNet's `BitLinear`.
    pub fn int8(bias: bool) -> Self {
        Self { biases: vec![bias], activations: Activations::Int8PerToken }
    }

    /// How many matrices, and so outputs, there are.
    pub fn n_outputs(&self) -> usize {
        self.biases.len()
    }

    /// A weight row times what is seen of an input row. For floats, one fma per column in order;
    /// for int8, which integer kernels compute exactly, so well that the order does not matter.
    fn dot(&self, w: &[f32], seen: &[f32]) -> f32 {
        let pairs = w.iter().zip(seen);
        match self.activations {
            Activations::Float => pairs.fold(0.0, |acc, (&w, &x)| f32::mul_add(w, x, acc)),
            Activations::Int8PerToken | Activations::Int8Static(_) => {
                pairs.map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>() as f32
            }
        }
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
        let mut seen = from.inputs[0].to_vec();
        seen.chunks_exact_mut(cols).for_each(|row| self.activations.round(row));
        for (output, y) in outputs.iter_mut().enumerate() {
            let bias = self.bias_of(output).map(|b| from.weights[b]);
            let rows = y.len() / from.n_rows;
            for (x, y) in seen.chunks_exact(cols).zip(y.chunks_exact_mut(rows)) {
                let matrix = from.weights[output].chunks_exact(cols);
                for (row, (w, y)) in matrix.zip(y.iter_mut()).enumerate() {
                    *y = self.dot(w, x) + bias.map_or(0.0, |b| b[row]);
                }
            }
        }
    }

    fn attributes(&self) -> String {
        let named: Vec<&str> = self.biases.iter().map(|&b| if b { "bias" } else { "-" }).collect();
        let biases = format!("({})", named.join(" "));
        let mut parts = Vec::new();
        if self.biases.contains(&true) {
            parts.push(biases);
        }
        match self.activations {
            Activations::Float => {}
            Activations::Int8PerToken => parts.push("activations=int8".into()),
            Activations::Int8Static(range) => {
                parts.push(format!("activations=int8 within {}", range.get()));
            }
        }
        parts.join(" ")
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
