//! Gates, GELU and addition: functions of single numbers, 16 at a time.

use crate::isa::{Isa, Kernel};
use crate::math::exp;

/// A function of two numbers.
trait Pair {
    fn of<I: Isa>(isa: I, a: I::F, b: I::F) -> I::F;
}

/// Applies it to slices of one length.
#[inline(always)]
fn pairs<I: Isa, P: Pair>(isa: I, a: &[f32], b: &[f32], out: &mut [f32]) {
    let (a16, a_tail) = a.as_chunks::<16>();
    let (b16, b_tail) = b.as_chunks::<16>();
    let (out16, out_tail) = out.as_chunks_mut::<16>();
    for ((a, b), out) in a16.iter().zip(b16).zip(out16) {
        isa.store(P::of(isa, isa.load(a), isa.load(b)), out);
    }
    let (mut a, mut b, mut out) = ([0.0; 16], [0.0; 16], [0.0; 16]);
    a[..a_tail.len()].copy_from_slice(a_tail);
    b[..b_tail.len()].copy_from_slice(b_tail);
    isa.store(P::of(isa, isa.load(&a), isa.load(&b)), &mut out);
    out_tail.copy_from_slice(&out[..out_tail.len()]);
}

/// `out = silu(gate) * up`, with `silu(g) = g / (1 + e^-g)`; all of one length.
pub struct SwiGlu<'a> {
    /// Gate.
    pub gate: &'a [f32],
    /// Up.
    pub up: &'a [f32],
    /// Output.
    pub out: &'a mut [f32],
}

struct Silu;

impl Pair for Silu {
    #[inline(always)]
    fn of<I: Isa>(isa: I, gate: I::F, up: I::F) -> I::F {
        let negative = isa.sub(isa.splat(0.0), gate);
        let divisor = isa.add(isa.splat(1.0), exp(isa, negative));
        isa.mul(isa.div(gate, divisor), up)
    }
}

impl Kernel for SwiGlu<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        pairs::<I, Silu>(isa, self.gate, self.up, self.out);
    }
}

/// `out = relu(gate)^2 * up`, all of one length.
pub struct Relu2<'a> {
    /// Gate.
    pub gate: &'a [f32],
    /// Up.
    pub up: &'a [f32],
    /// Output.
    pub out: &'a mut [f32],
}

struct Squared;

impl Pair for Squared {
    #[inline(always)]
    fn of<I: Isa>(isa: I, gate: I::F, up: I::F) -> I::F {
        let positive = isa.max(gate, isa.splat(0.0));
        isa.mul(isa.mul(positive, positive), up)
    }
}

impl Kernel for Relu2<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        pairs::<I, Squared>(isa, self.gate, self.up, self.out);
    }
}

/// The normal distribution's upper tail: `P(N(0, 1) > a) = e^(-a^2/2) * t * p(t)` for `a >= 0`,
/// with `t = 1 / (1 + scale * a)`; `(scale, p from the highest power down)`. Our own fit of `erfc(a
/// / sqrt 2) / 2 * e^(a^2/2) / t` on `0..14`, of relative error 1.5e-7.
pub const GELU_TAIL: (f32, [f32; 8]) = (
    0.3,
    [
        0.035_674_777,
        -0.157_203_1,
        0.206_353_53,
        -0.053_683_665,
        0.128_561_63,
        0.099_913_49,
        0.120_753_96,
        0.119_629_3,
    ],
);

/// `out = x * P(N(0, 1) < x) = x / 2 * (1 + erf(x / sqrt 2))`, to within `3e-7 * |x|`.
pub struct Gelu<'a> {
    /// Input.
    pub x: &'a [f32],
    /// Output, of the same length.
    pub out: &'a mut [f32],
}

/// Ignores its second argument.
struct GeluOf;

impl Pair for GeluOf {
    #[inline(always)]
    fn of<I: Isa>(isa: I, x: I::F, _: I::F) -> I::F {
        let (scale, [last, rest @ ..]) = GELU_TAIL;
        let a = isa.abs(x);
        let t = isa.div(isa.splat(1.0), isa.fma(isa.splat(scale), a, isa.splat(1.0)));
        let mut p = isa.splat(last);
        for c in rest {
            p = isa.fma(p, t, isa.splat(c));
        }
        let density = exp(isa, isa.mul(isa.mul(a, a), isa.splat(-0.5)));
        let tail = isa.mul(isa.mul(p, t), density);
        isa.sub(isa.max(x, isa.splat(0.0)), isa.mul(a, tail))
    }
}

impl Kernel for Gelu<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        pairs::<I, GeluOf>(isa, self.x, self.x, self.out);
    }
}

/// `out = out + x`, both of one length.
pub struct AddTo<'a> {
    /// What is added.
    pub x: &'a [f32],
    /// What it is added to.
    pub out: &'a mut [f32],
}

impl Kernel for AddTo<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (x16, x_tail) = self.x.as_chunks::<16>();
        let (out16, out_tail) = self.out.as_chunks_mut::<16>();
        for (x, out) in x16.iter().zip(out16) {
            isa.store(isa.add(isa.load(out), isa.load(x)), out);
        }
        for (x, out) in x_tail.iter().zip(out_tail) {
            *out += x;
        }
    }
}
