//! SwiGLU and addition.

use crate::isa::{Isa, Kernel};
use crate::math::exp;

/// `out = silu(gate) * up`, with `silu(g) = g / (1 + e^-g)`; all of one length.
pub struct SwiGlu<'a> {
    /// Gate.
    pub gate: &'a [f32],
    /// Up.
    pub up: &'a [f32],
    /// Output.
    pub out: &'a mut [f32],
}

impl Kernel for SwiGlu<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (gate16, gate_tail) = self.gate.as_chunks::<16>();
        let (up16, up_tail) = self.up.as_chunks::<16>();
        let (out16, out_tail) = self.out.as_chunks_mut::<16>();
        for ((gate, up), out) in gate16.iter().zip(up16).zip(out16) {
            isa.store(swiglu(isa, isa.load(gate), isa.load(up)), out);
        }
        let (mut gate, mut up, mut out) = ([0.0; 16], [0.0; 16], [0.0; 16]);
        gate[..gate_tail.len()].copy_from_slice(gate_tail);
        up[..up_tail.len()].copy_from_slice(up_tail);
        isa.store(swiglu(isa, isa.load(&gate), isa.load(&up)), &mut out);
        out_tail.copy_from_slice(&out[..out_tail.len()]);
    }
}

#[inline(always)]
fn swiglu<I: Isa>(isa: I, gate: I::F, up: I::F) -> I::F {
    let negative = isa.sub(isa.splat(0.0), gate);
    let divisor = isa.add(isa.splat(1.0), exp(isa, negative));
    isa.mul(isa.div(gate, divisor), up)
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
