//! Loops that reach this CPU's ceilings: what the machine profile measures and benchmarks are held
//! to.
//!
//! Each pass does a known amount of work on registers or memory and returns a value that depends on
//! all of it, so that nothing is optimized away. Timing is the caller's.

use crate::isa::{Isa, Kernel, Line};
use std::hint::black_box;

/// Accumulators of a pass: enough to hide the latency of dots and FMAs on every CPU of today. Where
/// registers are few, half of them are in flight at a time, each in two registers.
const CHAINS: usize = 12;

/// Rounds of dots that are summed short: [`CODE`] is as large as their sums allow.
const SHORT_ROUNDS: u64 = 8;

/// The weights' code.
const CODE: u8 = 15;

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
        let w = isa.load_b(black_box(&Line([CODE; 64])));
        let dots = if I::SHORT_MAX < i32::MAX {
            short_dots(isa, &[Line([CODE; 64]); CHAINS / 2], 2 * self.rounds)
        } else if I::REGISTERS >= 32 {
            dots::<I, CHAINS>(isa, w, self.rounds)
        } else {
            let half = dots::<I, { CHAINS / 2 }>(isa, w, self.rounds);
            isa.add_i(half, dots::<I, { CHAINS / 2 }>(isa, w, self.rounds))
        };
        isa.sum(isa.to_f(dots)).to_bits().into()
    }
}

/// Rounds of `N` dots.
#[inline(always)]
fn dots<I: Isa, const N: usize>(isa: I, w: I::B, rounds: u64) -> I::I {
    let mut sums = [isa.splat_i(0); N];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = isa.dot(*sum, w, 0x0101_0101);
        }
    }
    sums.into_iter().fold(isa.splat_i(0), |a, b| isa.add_i(a, b))
}

/// The same where products and sums are apart. Each dot has codes of its own, loaded anew in every
/// round: products of the same codes would be computed once.
#[inline(always)]
fn short_dots<I: Isa, const N: usize>(isa: I, lines: &[Line; N], rounds: u64) -> I::I {
    let mut sums = [isa.splat_i(0); N];
    let mut left = rounds;
    while left > 0 {
        let mut short = sums.map(|sum| isa.begin(sum));
        for _ in 0..left.min(SHORT_ROUNDS) {
            for (short, line) in short.iter_mut().zip(black_box(lines)) {
                *short = isa.dot_short(*short, isa.load_b(line), 0x0101_0101);
            }
        }
        for (sum, short) in sums.iter_mut().zip(short) {
            *sum = isa.end(*sum, short);
        }
        left = left.saturating_sub(SHORT_ROUNDS);
    }
    sums.into_iter().fold(isa.splat_i(0), |a, b| isa.add_i(a, b))
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
        let sum = if I::REGISTERS >= 32 {
            fmas::<I, CHAINS>(isa, a, b, self.rounds)
        } else {
            let half = fmas::<I, { CHAINS / 2 }>(isa, a, b, self.rounds);
            isa.add(half, fmas::<I, { CHAINS / 2 }>(isa, a, b, self.rounds))
        };
        isa.sum(sum).to_bits().into()
    }
}

/// Rounds of `N` FMAs.
#[inline(always)]
fn fmas<I: Isa, const N: usize>(isa: I, a: I::F, b: I::F, rounds: u64) -> I::F {
    let mut sums = [isa.splat(1.0); N];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = isa.fma(*sum, a, b);
        }
    }
    sums.into_iter().fold(isa.splat(0.0), |x, y| isa.add(x, y))
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
    const UNITS: bool = true;

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
