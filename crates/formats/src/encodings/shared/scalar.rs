//! Single numbers as block encodings store and round them.

use bytemuck::{Pod, Zeroable};

/// A half-precision float as two little-endian bytes: aligned to 1, unlike `half::f16`.
#[repr(transparent)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Half([u8; 2]);

impl Half {
    /// Rounds to nearest, ties to even; beyond 65520 to infinity.
    pub fn new(value: f32) -> Self {
        Self(half::f16::from_f32(value).to_le_bytes())
    }

    /// The value, exactly.
    pub fn get(self) -> f32 {
        half::f16::from_le_bytes(self.0).to_f32()
    }
}

/// The value farthest from zero, with its sign; the first of equals.
pub fn signed_max(values: &[f32]) -> f32 {
    let farther = |max: f32, &x: &f32| if x.abs() > max.abs() { x } else { max };
    values[1..].iter().fold(values[0], farther)
}

/// `1 / x`, or 0 where that is not finite: a block too small to scale becomes zeros.
pub fn reciprocal(x: f32) -> f32 {
    let inverse = 1.0 / x;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// Rounds halves away from zero, as the reference encoders do, for `|x| < 2^22`.
///
/// `f32::round` is a library call on baseline x86-64. The largest float below one half is added
/// because one half itself would carry 0.49999997 up to 1.
pub fn round_half_away(x: f32) -> i32 {
    (x + 0.499_999_97_f32.copysign(x)) as i32
}
