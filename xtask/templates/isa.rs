//! {{UPPER}}: which CPUs have it, and what one of its vectors holds.
//!
//! Starts as the plain definition; override the operations by the CPU's own instructions, `dot`
//! first. Tests hold every operation and kernel against [`Scalar`], bit for bit.

use super::scalar::Scalar;
use super::{Isa, Kernel, Line};

/// Exists only on a CPU with the instructions.
#[derive(Clone, Copy)]
pub struct {{Camel}}(());

impl {{Camel}} {
    /// The token, if this CPU has the instructions.
    pub fn detect() -> Option<Self> {
        // Ask for each feature that the operations below use.
        cfg!(target_pointer_width = "64").then_some(Self(()))
    }
}

impl Isa for {{Camel}} {
    const REGISTERS: usize = 32;
    type F = [f32; 16];
    type I = [i32; 16];
    type B = [u8; 64];

    fn run<K: Kernel>(self, kernel: K) -> K::Out {
        // Calls a function with `#[target_feature(enable = "...")]`; see avx2.rs.
        kernel.run(self)
    }

    fn splat(self, x: f32) -> [f32; 16] {
        Scalar.splat(x)
    }
    fn load(self, from: &[f32; 16]) -> [f32; 16] {
        Scalar.load(from)
    }
    fn store(self, x: [f32; 16], to: &mut [f32; 16]) {
        Scalar.store(x, to)
    }
    fn load_f16(self, from: &[u8; 32]) -> [f32; 16] {
        Scalar.load_f16(from)
    }
    fn load_bf16(self, from: &[u8; 32]) -> [f32; 16] {
        Scalar.load_bf16(from)
    }
    fn to_f16(self, x: [f32; 16]) -> [u16; 16] {
        Scalar.to_f16(x)
    }
    fn load_u8(self, from: &[u8; 16]) -> [f32; 16] {
        Scalar.load_u8(from)
    }
    fn load_i8(self, from: &[u8; 16]) -> [f32; 16] {
        Scalar.load_i8(from)
    }
    fn add(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        Scalar.add(a, b)
    }
    fn sub(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        Scalar.sub(a, b)
    }
    fn mul(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        Scalar.mul(a, b)
    }
    fn div(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        Scalar.div(a, b)
    }
    fn fma(self, a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
        Scalar.fma(a, b, c)
    }
    fn max(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        Scalar.max(a, b)
    }
    fn select_lt(self, a: [f32; 16], b: [f32; 16], x: [f32; 16], y: [f32; 16]) -> [f32; 16] {
        Scalar.select_lt(a, b, x, y)
    }
    fn abs(self, x: [f32; 16]) -> [f32; 16] {
        Scalar.abs(x)
    }
    fn round(self, x: [f32; 16]) -> [f32; 16] {
        Scalar.round(x)
    }
    fn exp2_int(self, x: [f32; 16]) -> [f32; 16] {
        Scalar.exp2_int(x)
    }
    fn sum(self, x: [f32; 16]) -> f32 {
        Scalar.sum(x)
    }
    fn max_lane(self, x: [f32; 16]) -> f32 {
        Scalar.max_lane(x)
    }
    fn to_i8(self, x: [f32; 16]) -> [i8; 16] {
        Scalar.to_i8(x)
    }
    fn add_i(self, a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        Scalar.add_i(a, b)
    }
    fn splat_i(self, x: i32) -> [i32; 16] {
        Scalar.splat_i(x)
    }
    fn from_i(self, x: [i32; 16]) -> [f32; 16] {
        Scalar.from_i(x)
    }
    fn dot(self, sum: [i32; 16], w: [u8; 64], a: i32) -> [i32; 16] {
        Scalar.dot(sum, w, a)
    }
    fn dot_small(self, sum: [i32; 16], w: [u8; 64], a: i32) -> [i32; 16] {
        Scalar.dot_small(sum, w, a)
    }
    fn load_b(self, from: &Line) -> [u8; 64] {
        Scalar.load_b(from)
    }
    fn store_b(self, x: [u8; 64], to: &mut Line) {
        Scalar.store_b(x, to)
    }
    fn shr_and<const SHIFT: u32>(self, x: [u8; 64], mask: u8) -> [u8; 64] {
        Scalar.shr_and::<SHIFT>(x, mask)
    }
    fn shl_and<const SHIFT: u32>(self, x: [u8; 64], mask: u8) -> [u8; 64] {
        Scalar.shl_and::<SHIFT>(x, mask)
    }
    fn or(self, a: [u8; 64], b: [u8; 64]) -> [u8; 64] {
        Scalar.or(a, b)
    }
}
