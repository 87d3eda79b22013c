//! RMS norm: `y = (x * (1 / sqrt(mean(x^2) + eps))) * w`, per row or per group of a row (heads);
//! and layer norm: `y = fma((x - mean x) * (1 / sqrt(mean((x - mean x)^2) + eps)), w, b)` per row.

use crate::isa::{Isa, Kernel};

/// Normalizes rows. `x` and `out` are `[n, weight.len()]`: rows, or the heads of rows.
pub struct RmsNorm<'a> {
    /// Input.
    pub x: &'a [f32],
    /// One weight per feature.
    pub weight: &'a [f32],
    /// Added to the mean square.
    pub eps: f32,
    /// Output, same shape as the input.
    pub out: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let n = self.weight.len();
        for (x, out) in self.x.chunks_exact(n).zip(self.out.chunks_exact_mut(n)) {
            let scale = inverse_rms(isa, x, self.eps);
            normalize(isa, x, scale, self.weight, out);
        }
    }
}

/// `1 / sqrt(mean(x^2) + eps)`, squares summed in 16 lanes by index, lanes folded by halves.
#[inline(always)]
fn inverse_rms<I: Isa>(isa: I, x: &[f32], eps: f32) -> f32 {
    let (blocks, tail) = x.as_chunks::<16>();
    let mut sum = isa.splat(0.0);
    for block in blocks {
        let x = isa.load(block);
        sum = isa.fma(x, x, sum);
    }
    if !tail.is_empty() {
        let mut block = [0.0; 16];
        block[..tail.len()].copy_from_slice(tail);
        let x = isa.load(&block);
        sum = isa.fma(x, x, sum);
    }
    1.0 / (isa.sum(sum) / x.len() as f32 + eps).sqrt()
}

/// `(x * scale) * weight`.
#[inline(always)]
fn normalize<I: Isa>(isa: I, x: &[f32], scale: f32, weight: &[f32], out: &mut [f32]) {
    let (x16, x_tail) = x.as_chunks::<16>();
    let (w16, w_tail) = weight.as_chunks::<16>();
    let (out16, out_tail) = out.as_chunks_mut::<16>();
    let factor = isa.splat(scale);
    for ((x, w), out) in x16.iter().zip(w16).zip(out16) {
        isa.store(isa.mul(isa.mul(isa.load(x), factor), isa.load(w)), out);
    }
    for ((x, w), out) in x_tail.iter().zip(w_tail).zip(out_tail) {
        *out = x * scale * w;
    }
}

/// Normalizes rows to mean 0 and variance 1, then scales and shifts. `x` and `out` are
/// `[n, weight.len()]`.
pub struct LayerNorm<'a> {
    /// Input.
    pub x: &'a [f32],
    /// One weight per feature.
    pub weight: &'a [f32],
    /// One per feature, added last.
    pub bias: &'a [f32],
    /// Added to the variance.
    pub eps: f32,
    /// Output, same shape as the input.
    pub out: &'a mut [f32],
}

impl Kernel for LayerNorm<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { weight, bias, eps, .. } = self;
        let n = weight.len();
        for (x, out) in self.x.chunks_exact(n).zip(self.out.chunks_exact_mut(n)) {
            let mean = lane_sum(isa, x) / n as f32;
            let scale = 1.0 / (squares_around(isa, x, mean) / n as f32 + eps).sqrt();
            let (x16, x_tail) = x.as_chunks::<16>();
            let (w16, w_tail) = weight.as_chunks::<16>();
            let (b16, b_tail) = bias.as_chunks::<16>();
            let (out16, out_tail) = out.as_chunks_mut::<16>();
            for (((x, w), b), out) in x16.iter().zip(w16).zip(b16).zip(out16) {
                let centred = isa.sub(isa.load(x), isa.splat(mean));
                let scaled = isa.mul(centred, isa.splat(scale));
                isa.store(isa.fma(scaled, isa.load(w), isa.load(b)), out);
            }
            for (((x, w), b), out) in x_tail.iter().zip(w_tail).zip(b_tail).zip(out_tail) {
                *out = ((x - mean) * scale).mul_add(*w, *b);
            }
        }
    }
}

/// The sum in 16 lanes by index, lanes folded by halves.
#[inline(always)]
fn lane_sum<I: Isa>(isa: I, x: &[f32]) -> f32 {
    let (blocks, tail) = x.as_chunks::<16>();
    let mut sum = isa.splat(0.0);
    for block in blocks {
        sum = isa.add(sum, isa.load(block));
    }
    let mut last = [0.0; 16];
    last[..tail.len()].copy_from_slice(tail);
    isa.sum(isa.add(sum, isa.load(&last)))
}

/// The sum of `(x - mean)^2`, added up as [`lane_sum`] does.
#[inline(always)]
fn squares_around<I: Isa>(isa: I, x: &[f32], mean: f32) -> f32 {
    let (blocks, tail) = x.as_chunks::<16>();
    let centre = isa.splat(mean);
    let mut sum = isa.splat(0.0);
    for block in blocks {
        let x = isa.sub(isa.load(block), centre);
        sum = isa.fma(x, x, sum);
    }
    // Lanes past the end are the mean, and so add zero.
    let mut last = [mean; 16];
    last[..tail.len()].copy_from_slice(tail);
    let x = isa.sub(isa.load(&last), centre);
    isa.sum(isa.fma(x, x, sum))
}
