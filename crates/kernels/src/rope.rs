//! Rotary position embedding, in place, from a table of cosines and sines.

use crate::isa::{Isa, Kernel};

/// Which features make a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// `(2i, 2i + 1)`, as GGUF's Llama.
    Interleaved,
    /// `(i, i + n/2)` of the `n` rotated features, as Qwen and Hugging Face.
    Half,
}

/// Rotates the first `2 * cos.len()` features of every head of one row:
/// `(fma(a, cos, -(b * sin)), fma(a, sin, b * cos))`.
pub struct Rope<'a> {
    /// The heads of one row, `[n_heads, head_dim]`.
    pub heads: &'a mut [f32],
    /// Features per head.
    pub head_dim: usize,
    /// Cosine per pair, at the row's position.
    pub cos: &'a [f32],
    /// Sine per pair.
    pub sin: &'a [f32],
    /// Which features make a pair.
    pub pairs: RopePairs,
}

impl Kernel for Rope<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let n = self.cos.len();
        for head in self.heads.chunks_exact_mut(self.head_dim) {
            match self.pairs {
                RopePairs::Interleaved => {
                    for ((pair, &cos), &sin) in
                        head.as_chunks_mut::<2>().0.iter_mut().zip(self.cos).zip(self.sin)
                    {
                        *pair = rotate(*pair, cos, sin);
                    }
                }
                RopePairs::Half => {
                    let (first, second) = head[..2 * n].split_at_mut(n);
                    rotate_halves(isa, first, second, self.cos, self.sin);
                }
            }
        }
    }
}

#[inline(always)]
fn rotate([a, b]: [f32; 2], cos: f32, sin: f32) -> [f32; 2] {
    [a.mul_add(cos, -(b * sin)), a.mul_add(sin, b * cos)]
}

#[inline(always)]
fn rotate_halves<I: Isa>(isa: I, a: &mut [f32], b: &mut [f32], cos: &[f32], sin: &[f32]) {
    let whole = a.len() / 16 * 16;
    let (a16, a_tail) = a.split_at_mut(whole);
    let (b16, b_tail) = b.split_at_mut(whole);
    let tables = cos.as_chunks::<16>().0.iter().zip(sin.as_chunks::<16>().0);
    let halves = a16.as_chunks_mut::<16>().0.iter_mut().zip(b16.as_chunks_mut::<16>().0);
    for ((a, b), (cos, sin)) in halves.zip(tables) {
        let (x, y) = (isa.load(a), isa.load(b));
        let (cos, sin) = (isa.load(cos), isa.load(sin));
        let negative = isa.sub(isa.splat(-0.0), isa.mul(y, sin));
        isa.store(isa.fma(x, cos, negative), a);
        isa.store(isa.fma(x, sin, isa.mul(y, cos)), b);
    }
    let tables = cos[whole..].iter().zip(&sin[whole..]);
    for ((a, b), (&cos, &sin)) in a_tail.iter_mut().zip(b_tail).zip(tables) {
        [*a, *b] = rotate([*a, *b], cos, sin);
    }
}
