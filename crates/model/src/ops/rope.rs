//! `rope`: rotary position embedding. Its angles are defined here once; the runtime takes its
//! tables from the same [`Rope::table`].

use super::{Cost, EvalInputs, Op, expect_counts};
use std::any::Any;
use std::ops::Range;

/// Which two features of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeLayout {
    /// Features `2i` and `2i + 1` (GGUF `llama`).
    Interleaved,
    /// Features `i` and `i + rotary_dim / 2` (Qwen, and every Hugging Face model).
    Half,
}

/// Reads one value `[rows, n_heads * head_dim]` and optionally one weight `[rotary_dim / 2]` of
/// factors that divide the frequencies (`rope_freqs.weight`); writes the turned value.
#[derive(Clone, Debug)]
pub struct Rope {
    /// Features per head.
    pub head_dim: usize,
    /// The first features of each head that turn; the others pass through.
    pub rotary_dim: usize,
    /// Which features are pairs.
    pub layout: RopeLayout,
    /// Pair `i` turns by `base^(-2i / rotary_dim)` per position.
    pub base: f32,
    /// Linear scaling: positions are divided by it; 1 is none.
    pub scale: f32,
}

/// Cosines and sines, `[positions, rotary_dim / 2]` each.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeTable {
    /// Cosines.
    pub cos: Vec<f32>,
    /// Sines.
    pub sin: Vec<f32>,
}

impl Rope {
    /// Radians per position of each pair.
    pub fn frequencies(&self, factors: Option<&[f32]>) -> Vec<f64> {
        let pair = |i: usize| {
            let exponent = (2 * i) as f64 / self.rotary_dim as f64;
            let factor = factors.map_or(1.0, |f| f64::from(f[i]));
            f64::from(self.base).powf(-exponent) / factor / f64::from(self.scale)
        };
        (0..self.rotary_dim / 2).map(pair).collect()
    }

    /// The table for `positions`: computed in f64, rounded once to f32.
    pub fn table(&self, factors: Option<&[f32]>, positions: Range<usize>) -> RopeTable {
        let frequencies = self.frequencies(factors);
        let n = positions.len() * frequencies.len();
        let mut table = RopeTable { cos: Vec::with_capacity(n), sin: Vec::with_capacity(n) };
        for position in positions {
            for frequency in &frequencies {
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                table.cos.push(cos as f32);
                table.sin.push(sin as f32);
            }
        }
        table
    }

    /// The two features of pair `i` of a head.
    pub fn pair(&self, i: usize) -> (usize, usize) {
        match self.layout {
            RopeLayout::Interleaved => (2 * i, 2 * i + 1),
            RopeLayout::Half => (i, i + self.rotary_dim / 2),
        }
    }
}

impl Op for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn about(&self) -> &'static str {
        "turns pairs of each head's features by the position"
    }

    fn out_features(&self, inputs: &[usize], weights: &[&[usize]]) -> Result<Vec<usize>, String> {
        expect_counts(self, inputs, weights, 1, 0..=1)?;
        if self.head_dim == 0 || !inputs[0].is_multiple_of(self.head_dim) {
            return Err(format!("{} features do not divide by {}", inputs[0], self.head_dim));
        }
        if self.rotary_dim > self.head_dim || !self.rotary_dim.is_multiple_of(2) {
            return Err(format!(
                "rope cannot turn {} of {} features: the number must be even and no larger",
                self.rotary_dim, self.head_dim
            ));
        }
        match weights.first() {
            Some(factors) if *factors != [self.rotary_dim / 2] => {
                Err(format!("rope of {} got factors {factors:?}", self.rotary_dim))
            }
            _ => Ok(vec![inputs[0]]),
        }
    }

    fn cost(&self, inputs: &[usize], _weights: &[&[usize]], _context: usize) -> Cost {
        Cost { macs: 2.0 * inputs[0] as f64, ..Cost::default() }
    }

    fn eval(&self, from: &EvalInputs<'_>, outputs: &mut [&mut [f32]]) {
        let features = from.inputs[0].len() / from.n_rows;
        let n_pairs = self.rotary_dim / 2;
        let table = self.table(from.weights.first().copied(), 0..from.n_rows);
        outputs[0].copy_from_slice(from.inputs[0]);
        for (position, row) in outputs[0].chunks_exact_mut(features).enumerate() {
            for head in row.chunks_exact_mut(self.head_dim) {
                for i in 0..n_pairs {
                    let (cos, sin) =
                        (table.cos[position * n_pairs + i], table.sin[position * n_pairs + i]);
                    let (a, b) = self.pair(i);
                    let (x0, x1) = (head[a], head[b]);
                    head[a] = x0.mul_add(cos, -(x1 * sin));
                    head[b] = x0.mul_add(sin, x1 * cos);
                }
            }
        }
    }

    fn attributes(&self) -> String {
        let layout = match self.layout {
            RopeLayout::Interleaved => "interleaved",
            RopeLayout::Half => "half",
        };
        let scale =
            if self.scale == 1.0 { String::new() } else { format!(" scale={}", self.scale) };
        format!(
            "{layout} head={} rotary={} base={}{scale}",
            self.head_dim, self.rotary_dim, self.base
        )
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Llama 3's scaling, as the factors that divide each pair's frequency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Llama3Scaling {
    /// What the slow pairs are divided by.
    pub factor: f64,
    /// Pairs slower than `original_context / low_freq_factor` are divided by the whole factor.
    pub low_freq_factor: f64,
    /// Pairs faster than `original_context / high_freq_factor` are left alone.
    pub high_freq_factor: f64,
    /// The context length the model was first trained with.
    pub original_context: f64,
}

impl Llama3Scaling {
    /// The factors for a head of `rotary_dim` features, as `rope_freqs.weight` stores them. Between
    /// the two wavelengths the frequency is interpolated, as Llama 3.1's reference code does.
    pub fn factors(&self, base: f32, rotary_dim: usize) -> Vec<f32> {
        let factor = |i: usize| {
            let exponent = (2 * i) as f64 / rotary_dim as f64;
            let wavelength = std::f64::consts::TAU * f64::from(base).powf(exponent);
            if wavelength < self.original_context / self.high_freq_factor {
                return 1.0;
            }
            if wavelength > self.original_context / self.low_freq_factor {
                return self.factor;
            }
            let smooth = (self.original_context / wavelength - self.low_freq_factor)
                / (self.high_freq_factor - self.low_freq_factor);
            1.0 / ((1.0 - smooth) / self.factor + smooth)
        };
        (0..rotary_dim / 2).map(|i| factor(i) as f32).collect()
    }
}
