//! The vocabulary in plain Rust: what every other ISA's operations are defined by.

use super::{Isa, Kernel, Line, NoTiles};
use half::{bf16, f16};
use std::array::from_fn;

/// Always there.
#[derive(Clone, Copy)]
pub struct Scalar;

/// Little-endian u16 number `i` of a half line.
#[inline(always)]
fn u16_at(bytes: &[u8; 32], i: usize) -> u16 {
    u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]])
}

/// Sums below this are tiny: rounded to 24 bits they stay below the least normal number.
const TINY: f64 = f32::MIN_POSITIVE as f64 * (1.0 - 1.0 / (1 << 25) as f64);

/// `a * b + c` rounded once, and flushed to a zero of its sign where rounding to 24 bits leaves it
/// below the least normal number; `a` and `b` are bf16 and, as `c`, normal or zero.
pub fn fma_flushed(a: f32, b: f32, c: f32) -> f32 {
    let sum = a.mul_add(b, c);
    // Exact wherever it is so small: the product has 16 bits, and a larger `c` would be normal.
    let wide = f64::from(a) * f64::from(b) + f64::from(c);
    if wide.abs() < TINY { 0f32.copysign(sum) } else { sum }
}

/// [`Isa::dot_bf16`] in plain Rust, where an ISA has no instruction for it.
#[inline(always)]
pub(super) fn dot_bf16_on<I: Isa>(isa: I, sum: I::F, w: I::B, x: i32) -> I::F {
    let (mut sums, mut line) = ([0.0; 16], Line::ZERO);
    isa.store(sum, &mut sums);
    isa.store_b(w, &mut line);
    let (upper, lower) =
        (|x: u32| f32::from_bits(x & 0xffff_0000), |x: u32| f32::from_bits(x << 16));
    let (w, x): (&[u32; 16], u32) = (bytemuck::cast_ref(&line), x as u32);
    for r in 0..16 {
        let first = fma_flushed(upper(w[r]), upper(x), sums[r]);
        sums[r] = fma_flushed(lower(w[r]), lower(x), first);
    }
    isa.load(&sums)
}

impl Isa for Scalar {
    const REGISTERS: usize = 32;
    type F = [f32; 16];
    type I = [i32; 16];
    type B = [u8; 64];
    type Short = [i32; 16];
    const SHORT_MAX: i32 = i32::MAX;
    type Tiles = NoTiles;

    fn run<K: Kernel>(self, kernel: K) -> K::Out {
        kernel.run(self)
    }

    fn tiles(self, _quads: usize) -> Option<NoTiles> {
        None
    }
    fn tiles_bf16(self, _rest: usize) -> Option<NoTiles> {
        None
    }
    fn prefetch<T>(self, _from: &[T], _at: usize) {}

    fn splat(self, x: f32) -> [f32; 16] {
        [x; 16]
    }
    fn load(self, from: &[f32; 16]) -> [f32; 16] {
        *from
    }
    fn store(self, x: [f32; 16], to: &mut [f32; 16]) {
        *to = x;
    }
    fn load_f16(self, from: &[u8; 32]) -> [f32; 16] {
        from_fn(|i| f16::from_bits(u16_at(from, i)).to_f32())
    }
    fn load_bf16(self, from: &[u8; 32]) -> [f32; 16] {
        from_fn(|i| bf16::from_bits(u16_at(from, i)).to_f32())
    }
    fn to_f16(self, x: [f32; 16]) -> [u16; 16] {
        x.map(|x| f16::from_f32(x).to_bits())
    }
    fn load_u8(self, from: &[u8; 16]) -> [f32; 16] {
        from.map(f32::from)
    }
    fn load_i8(self, from: &[u8; 16]) -> [f32; 16] {
        from.map(|b| f32::from(b as i8))
    }
    fn add(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|i| a[i] + b[i])
    }
    fn sub(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|i| a[i] - b[i])
    }
    fn mul(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|i| a[i] * b[i])
    }
    fn div(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|i| a[i] / b[i])
    }
    fn fma(self, a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
        from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    fn max(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    fn select_lt(self, a: [f32; 16], b: [f32; 16], x: [f32; 16], y: [f32; 16]) -> [f32; 16] {
        from_fn(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }
    fn abs(self, x: [f32; 16]) -> [f32; 16] {
        x.map(f32::abs)
    }
    fn round(self, x: [f32; 16]) -> [f32; 16] {
        x.map(f32::round_ties_even)
    }
    fn exp2_int(self, x: [f32; 16]) -> [f32; 16] {
        x.map(|x| f32::from_bits(((x as i32 + 127) << 23) as u32))
    }
    fn sum(self, x: [f32; 16]) -> f32 {
        let eight: [f32; 8] = from_fn(|i| x[i] + x[i + 8]);
        let four: [f32; 4] = from_fn(|i| eight[i] + eight[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
    fn max_lane(self, x: [f32; 16]) -> f32 {
        x.into_iter().fold(f32::NEG_INFINITY, |m, v| if v > m { v } else { m })
    }
    fn to_i8(self, x: [f32; 16]) -> [i8; 16] {
        x.map(|x| x.round_ties_even() as i8)
    }

    fn add_i(self, a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        from_fn(|i| a[i].wrapping_add(b[i]))
    }
    fn splat_i(self, x: i32) -> [i32; 16] {
        [x; 16]
    }
    fn as_i(self, x: [u8; 64]) -> [i32; 16] {
        from_fn(|i| i32::from_le_bytes([x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]]))
    }
    fn lanes(self, x: [i32; 16]) -> [i32; 16] {
        x
    }
    fn to_f(self, x: [i32; 16]) -> [f32; 16] {
        x.map(|x| x as f32)
    }
    fn dot(self, sum: [i32; 16], w: [u8; 64], a: i32) -> [i32; 16] {
        let a = a.to_le_bytes().map(|b| i32::from(b as i8));
        from_fn(|r| sum[r] + (0..4).map(|k| i32::from(w[4 * r + k]) * a[k]).sum::<i32>())
    }
    fn begin(self, sum: [i32; 16]) -> [i32; 16] {
        sum
    }
    fn dot_short(self, sums: [i32; 16], w: [u8; 64], a: i32) -> [i32; 16] {
        self.dot(sums, w, a)
    }
    fn end(self, _sum: [i32; 16], sums: [i32; 16]) -> [i32; 16] {
        sums
    }
    fn even(self, x: [u8; 64]) -> [u8; 64] {
        from_fn(|i| i16::from(x[i / 2 * 2] as i8).to_le_bytes()[i % 2])
    }
    fn odd(self, x: [u8; 64]) -> [u8; 64] {
        from_fn(|i| i16::from(x[i / 2 * 2 + 1] as i8).to_le_bytes()[i % 2])
    }
    fn dot_pairs(self, sum: [i32; 16], w: [u8; 64], a: i32) -> [i32; 16] {
        let w = |i: usize| i32::from(i16::from_le_bytes([w[2 * i], w[2 * i + 1]]));
        from_fn(|r| sum[r] + w(2 * r) * i32::from(a as i16) + w(2 * r + 1) * (a >> 16))
    }

    fn load_b(self, from: &Line) -> [u8; 64] {
        from.0
    }
    fn store_b(self, x: [u8; 64], to: &mut Line) {
        to.0 = x;
    }
    fn shr_and<const SHIFT: u32>(self, x: [u8; 64], mask: u8) -> [u8; 64] {
        x.map(|b| (b >> SHIFT) & mask)
    }
    fn shl_and<const SHIFT: u32>(self, x: [u8; 64], mask: u8) -> [u8; 64] {
        x.map(|b| (b << SHIFT) & mask)
    }
    fn add_b(self, x: [u8; 64], byte: i8) -> [u8; 64] {
        x.map(|b| b.wrapping_add_signed(byte))
    }
    fn or(self, a: [u8; 64], b: [u8; 64]) -> [u8; 64] {
        from_fn(|i| a[i] | b[i])
    }
}
