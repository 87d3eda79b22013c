//! The encodings: how a tensor's numbers are stored.
//!
//! An encoding is one file, plus one line in [`ENCODINGS`]. Its `decode` is the definition of the
//! numbers; kernels are faster roads to the same values. Float encodings implement [`Encoding`];
//! block encodings implement the smaller [`Block`](shared::Block), read [`q4_0`] for the example.

pub mod shared;

pub mod bfloat16;
pub mod float16;
pub mod float32;
pub mod iq4_nl;
pub mod iq4_xs;
pub mod q1_0;
pub mod q2_k;
pub mod q3_k;
pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub mod q5_1;
pub mod q5_k;
pub mod q6_k;
pub mod q8_0;
pub mod tq1_0;
pub mod tq2_0;

#[cfg(test)]
mod tests;

use shared::of;
pub use shared::{Codes, Tunable};

/// A registered encoding. Encodings are compared by [`Encoding::name`].
pub type EncodingRef = &'static dyn Encoding;

/// Every encoding Sterna can decode, in the order they are listed to users.
pub const ENCODINGS: &[EncodingRef] = &[
    &float32::F32,
    &float16::F16,
    &bfloat16::Bf16,
    of::<q8_0::Q8_0>(),
    of::<q6_k::Q6K>(),
    of::<q5_k::Q5K>(),
    of::<q5_1::Q5_1>(),
    of::<q5_0::Q5_0>(),
    of::<q4_k::Q4K>(),
    of::<q4_1::Q4_1>(),
    of::<q4_0::Q4_0>(),
    of::<iq4_nl::Iq4Nl>(),
    of::<iq4_xs::Iq4Xs>(),
    of::<q3_k::Q3K>(),
    of::<q2_k::Q2K>(),
    of::<tq2_0::Tq2_0>(),
    of::<tq1_0::Tq1_0>(),
    of::<q1_0::Q1_0>(),
];

/// The integer view of a block encoding: a row is groups of `group_len` codes, and
/// `value = scale[group] * code (+ min[group])`, each operation rounded to f32 in that order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Codes that share one scale: 16, 32 or 256 (ternary).
    pub group_len: usize,
    /// Whether groups carry a min that is added after the multiplication.
    pub has_min: bool,
    /// The smallest code; `code - code_min` always fits in a `u8`, which is how kernels store
    /// codes.
    pub code_min: i8,
}

/// How numbers become bytes and back, in blocks along a row.
pub trait Encoding: Sync + Send {
    /// The name users know, e.g. `Q4_0`.
    fn name(&self) -> &'static str;
    /// The type number in GGUF files.
    fn ggml_type(&self) -> u32;
    /// Values per block; a row's length must be a multiple of it.
    fn block_len(&self) -> usize;
    /// Bytes per block.
    fn block_bytes(&self) -> usize;

    /// Decodes whole blocks: `bytes.len() / block_bytes() * block_len() == values.len()`.
    fn decode(&self, bytes: &[u8], values: &mut [f32]);

    /// The integer view, or `None` for float encodings.
    fn grid(&self) -> Option<Grid> {
        None
    }

    /// Reads whole blocks into the integer view; only called when [`Encoding::grid`] is `Some`.
    /// `codes` has one entry per value, `scales` and `mins` one per group (`mins` is left alone
    /// when the grid has none).
    fn read_grid(&self, bytes: &[u8], codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]) {
        let _ = (bytes, codes, scales, mins);
        unreachable!("{} has no integer view", self.name());
    }

    /// What can be changed of its blocks in their place; `None` for float encodings.
    fn tunable(&self) -> Option<&dyn Tunable> {
        None
    }

    /// Whether [`Encoding::encode`] works.
    fn can_encode(&self) -> bool {
        true
    }

    /// Encodes whole blocks of finite values. `importance` weighs each value's squared error (an
    /// importance matrix row, same length as `values`). Without it, the encodings that have a
    /// reference formula (F16, BF16, Q8_0, Q5_1, Q5_0, Q4_1, Q4_0, TQ2_0, TQ1_0, Q1_0) give the
    /// bytes of that formula and the others search for the scales with the least squared error.
    /// With it, Q5_1, Q5_0, Q4_1 and Q4_0 search as well; the other formulas have nothing to weigh.
    ///
    /// # Panics
    /// When [`Encoding::can_encode`] is false; callers check at the edge.
    fn encode(&self, values: &[f32], importance: Option<&[f32]>, bytes: &mut [u8]);
}

impl std::fmt::Debug for dyn Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for dyn Encoding {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl dyn Encoding {
    /// Whether rows of `cols` values divide into this encoding's blocks.
    pub fn fits(&self, cols: usize) -> bool {
        cols > 0 && cols.is_multiple_of(self.block_len())
    }

    /// Bytes of one row of `cols` values; `cols` must fit.
    pub fn row_bytes(&self, cols: usize) -> usize {
        debug_assert!(self.fits(cols));
        cols / self.block_len() * self.block_bytes()
    }

    /// Bits per weight.
    pub fn bits(&self) -> f64 {
        self.block_bytes() as f64 * 8.0 / self.block_len() as f64
    }
}

/// Finds an encoding by name, ignoring case.
pub fn by_name(name: &str) -> Option<EncodingRef> {
    ENCODINGS.iter().copied().find(|e| e.name().eq_ignore_ascii_case(name))
}

/// Finds an encoding by its GGUF type number.
pub fn by_ggml_type(number: u32) -> Option<EncodingRef> {
    ENCODINGS.iter().copied().find(|e| e.ggml_type() == number)
}
