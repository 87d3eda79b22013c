//! Loops that reach this CPU's ceilings: what the machine profile measures and benchmarks are held
//! to.
//!
//! Each pass does a known amount of work on registers or memory and returns a value that depends on
//! all of it, so that nothing is optimized away. Timing is the caller's.

use crate::isa::{Isa, Kernel, Line};
use std::hint::black_box;

/// Accumulators in flight: enough to hide the latency of dots and FMAs on every CPU of today.
const CHAINS: usize = 12;

/// Reads memory once.
pub struct ReadPass<'a> {
    /// What is read.
    pub lines: &'a [Line],
}

impl Kernel for ReadPass<'_> {
    type Out = u64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> u64 {
        let mut sums = [isa.splat_i(0); 8];
        let (blocks, _) = self.lines.as_chunks::<8>();
        for block in blocks {
            for (sum, line) in sums.iter_mut().zip(block) {
                *sum = isa.add_i(*sum, isa.as_i(isa.load_b(line)));
            }
        }
        let folded = sums.into_iter().fold(isa.splat_i(0), |a, b| isa.add_i(a, b));
        isa.sum(isa.to_f(folded)).to_bits().into()
    }
}

/// int8 dots on registers: [`Int8Pass::macs`] multiply-accumulates.
pub struct Int8Pass {
    /// Rounds of dots.
    pub rounds: u64,
}

impl Int8Pass {
    /// Multiply-accumulates of the pass.
    pub fn macs(&self) -> u64 {
        self.rounds * CHAINS as u64 * 64
    }
}

impl Kernel for Int8Pass {
    type Out = u64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> u64 {
        let w = isa.load_b(black_box(&Line([3; 64])));
        let mut sums = [isa.splat_i(0); CHAINS];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = isa.dot_small(*sum, w, 0x0101_0101);
            }
        }
        let folded = sums.into_iter().fold(isa.splat_i(0), |a, b| isa.add_i(a, b));
        isa.sum(isa.to_f(folded)).to_bits().into()
    }
}

/// f32 FMAs on registers: [`FmaPass::flops`] operations.
pub struct FmaPass {
    /// Rounds of FMAs.
    pub rounds: u64,
}

impl FmaPass {
    /// Floating-point operations of the pass, two per FMA and lane.
    pub fn flops(&self) -> u64 {
        self.rounds * CHAINS as u64 * 32
    }
}

impl Kernel for FmaPass {
    type Out = u64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> u64 {
        let a = isa.splat(black_box(0.999));
        let b = isa.splat(black_box(0.001));
        let mut sums = [isa.splat(1.0); CHAINS];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = isa.fma(*sum, a, b);
            }
        }
        let folded = sums.into_iter().fold(isa.splat(0.0), |x, y| isa.add(x, y));
        isa.sum(folded).to_bits().into()
    }
}

/// Two bf16 of 1.0.
const ONES: u32 = 0x3f80_3f80;

/// bf16 dots on registers: [`Bf16Pass::flops`] operations.
pub struct Bf16Pass {
    /// Rounds of dots.
    pub rounds: u64,
}

impl Bf16Pass {
    /// Floating-point operations of the pass, four per dot and lane.
    pub fn flops(&self) -> u64 {
        self.rounds * CHAINS as u64 * 64
    }
}

impl Kernel for Bf16Pass {
    type Out = u64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> u64 {
        let w = isa.load_b(black_box(&Line(bytemuck::cast([ONES; 16]))));
        let mut sums = [isa.splat(1.0); CHAINS];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = isa.dot_bf16(*sum, w, ONES as i32);
            }
        }
        let folded = sums.into_iter().fold(isa.splat(0.0), |x, y| isa.add(x, y));
        isa.sum(folded).to_bits().into()
    }
}
