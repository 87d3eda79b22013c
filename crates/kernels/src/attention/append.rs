//! Puts new keys and values into a slot.

use super::floats::{F16, F32, Floats};
use super::q8_0::Q8_0;
use super::{KvEncoding, KvShape, PAGE_LEN};
use crate::isa::{Isa, Kernel, Line};

/// Writes the keys and values of consecutive positions into a slot.
pub struct KvAppend<'a> {
    /// The slot's shape.
    pub shape: KvShape,
    /// The slot of the page that the positions lie in.
    pub slot: &'a mut [Line],
    /// The first position within the page.
    pub at: usize,
    /// Positions; they end in the same page.
    pub n: usize,
    /// The positions' keys.
    pub keys: Rows<'a>,
    /// The positions' values.
    pub values: Rows<'a>,
}

/// `head_dim` features of each of some positions.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// Beginning with those of the first position.
    pub features: &'a [f32],
    /// From one position's to the next one's.
    pub stride: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    fn row(self, i: usize, head_dim: usize) -> &'a [f32] {
        &self.features[i * self.stride..][..head_dim]
    }
}

/// How an encoding stores rows of features.
pub trait Append {
    /// The keys of 16 positions from `at` on, a multiple of 16.
    #[inline(always)]
    fn keys<I: Isa>(isa: I, shape: KvShape, keys: &mut [Line], at: usize, rows: [&[f32]; 16]) {
        for (r, row) in rows.into_iter().enumerate() {
            Self::key(isa, shape, keys, at + r, row);
        }
    }
    /// The key of position `at`.
    fn key<I: Isa>(isa: I, shape: KvShape, keys: &mut [Line], at: usize, row: &[f32]);
    /// The value of position `at`.
    fn value<I: Isa>(isa: I, shape: KvShape, values: &mut [Line], at: usize, row: &[f32]);
}

impl Kernel for KvAppend<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        match self.shape.encoding {
            KvEncoding::F16 => append::<I, Floats<F16>>(isa, self),
            KvEncoding::F32 => append::<I, Floats<F32>>(isa, self),
            KvEncoding::Q8_0 => append::<I, Q8_0>(isa, self),
        }
    }
}

#[inline(always)]
fn append<I: Isa, A: Append>(isa: I, call: KvAppend<'_>) {
    let KvAppend { shape, slot, at, n, keys, values } = call;
    assert!(at + n <= PAGE_LEN);
    let (key_lines, value_lines) = slot.split_at_mut(shape.key_lines());
    let mut i = 0;
    while i < n {
        if (at + i).is_multiple_of(16) && i + 16 <= n {
            let rows = std::array::from_fn(|r| keys.row(i + r, shape.head_dim));
            A::keys(isa, shape, key_lines, at + i, rows);
            i += 16;
        } else {
            A::key(isa, shape, key_lines, at + i, keys.row(i, shape.head_dim));
            i += 1;
        }
    }
    for i in 0..n {
        A::value(isa, shape, value_lines, at + i, values.row(i, shape.head_dim));
    }
}
