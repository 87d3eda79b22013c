//! A block prepared for a search: values of order one, each with the weight of its squared error.
//!
//! Searches compare candidates by sums over a group. These run in [`LANES`] independent lanes,
//! which the compiler turns into vector code; a plain float sum has to stay in order and cannot
//! be.

use super::Half;

/// Values in the largest block.
const MAX_LEN: usize = 256;

/// Sums that run side by side; every group is a multiple of this.
const LANES: usize = 8;

/// Where importance is zero a value still weighs this much, so that it decodes to something near.
const LIGHTEST: f32 = 1e-6;

/// The smallest and the largest number a half-precision scale can take; a scale beyond them
/// saturates instead of becoming 0 or infinite.
const HALF_RANGE: (f32, f32) = (5.960_464_5e-8, 65504.0);

/// Values divided by a power of two near the largest, so that neither squares nor sums overflow.
pub struct Weighted {
    len: usize,
    unit: f32,
    values: [f32; MAX_LEN],
    weights: [f32; MAX_LEN],
}

impl Weighted {
    /// `None` when every value is zero, or so small that no half-precision scale can hold it.
    pub fn new(values: &[f32], importance: Option<&[f32]>) -> Option<Self> {
        let largest = values.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
        if largest.is_nan() || largest < HALF_RANGE.0 / 2.0 {
            return None;
        }
        let unit = f32::from_bits(largest.min(f32::MAX).to_bits() & 0x7f80_0000);
        let mut block =
            Self { len: values.len(), unit, values: [0.0; MAX_LEN], weights: [1.0; MAX_LEN] };
        for (scaled, x) in block.values.iter_mut().zip(values) {
            *scaled = x / unit;
        }
        let importance = importance.unwrap_or(&[]);
        let heaviest = importance.iter().copied().fold(0.0, f32::max);
        if heaviest > 0.0 {
            for (weight, importance) in block.weights.iter_mut().zip(importance) {
                *weight = (importance / heaviest).max(LIGHTEST);
            }
        }
        Some(block)
    }

    /// The groups' values and weights.
    pub fn groups(&self, group_len: usize) -> impl Iterator<Item = Group<'_>> {
        let values = self.values[..self.len].chunks_exact(group_len);
        let weights = self.weights[..self.len].chunks_exact(group_len);
        values.zip(weights).map(|(values, weights)| Group { values, weights })
    }

    /// A divided value as it was before.
    pub fn restored(&self, x: f32) -> f32 {
        x * self.unit
    }

    /// The half nearest to a scale of the divided values.
    pub fn half(&self, scale: f32) -> Half {
        let real = scale * self.unit;
        Half::new(real.abs().clamp(HALF_RANGE.0, HALF_RANGE.1).copysign(real))
    }

    /// The scale of the divided values that a stored half stands for.
    pub fn scale(&self, half: Half) -> f32 {
        half.get() / self.unit
    }

    /// `scale` as it will be after it was stored.
    pub fn stored(&self, scale: f32) -> f32 {
        self.scale(self.half(scale))
    }
}

/// The values that share a scale.
#[derive(Clone, Copy)]
pub struct Group<'a> {
    /// Divided values.
    pub values: &'a [f32],
    /// The weight of each one's squared error, at most 1.
    pub weights: &'a [f32],
}

impl Group<'_> {
    /// Sums `term(value, weight)` over the group, for `N` terms at once.
    pub fn sums<const N: usize>(&self, term: impl Fn(f32, f32) -> [f32; N]) -> [f32; N] {
        let mut lanes = [[0.0; LANES]; N];
        let (values, _) = self.values.as_chunks::<LANES>();
        let (weights, _) = self.weights.as_chunks::<LANES>();
        for (values, weights) in values.iter().zip(weights) {
            for lane in 0..LANES {
                let terms = term(values[lane], weights[lane]);
                for (lanes, term) in lanes.iter_mut().zip(terms) {
                    lanes[lane] += term;
                }
            }
        }
        lanes.map(|[a, b, c, d, e, f, g, h]| ((a + e) + (c + g)) + ((b + f) + (d + h)))
    }

    /// The smallest and the largest value.
    pub fn range(&self) -> (f32, f32) {
        let first = (self.values[0], self.values[0]);
        self.values.iter().fold(first, |(min, max), &x| (min.min(x), max.max(x)))
    }
}

/// Rounds to the nearest integer, ties to even, for `|x| < 2^22`: adding 1.5 * 2^23 leaves no bits
/// for a fraction. Unlike a library call it is vector code on every CPU.
pub fn round(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT) - SHIFT
}
