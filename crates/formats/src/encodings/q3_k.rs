//! Q3_K: 256 values in 16 groups of 3-bit codes around zero.
//!
//! `value = (scale * s) * code` with a 6-bit `s` from -32 to 31 per group and codes from -4 to 3.

use bytemuck::{Pod, Zeroable};

use super::Grid;
use super::shared::{Block, Half, unpack};

/// One block: 110 bytes for 256 values, 3.44 bits per value.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q3K {
    /// The codes' highest bits, in planes of 32; `code + 4` is what is stored.
    high: [u8; 32],
    pairs: [u8; 64],
    /// The groups' `s + 32`: low nibbles, then their two highest bits.
    group_nibbles: [u8; 8],
    group_high: [u8; 4],
    scale: Half,
}

const _: () = assert!(size_of::<Q3K>() == 110);

impl Block for Q3K {
    const NAME: &'static str = "Q3_K";
    const GGML_TYPE: u32 = 11;
    const LEN: usize = 256;
    const GRID: Grid = Grid { group_len: 16, has_min: false, code_min: -4 };

    fn read(&self, codes: &mut [i8], scales: &mut [f32], _mins: &mut [f32]) {
        unpack::<2, 32>(&self.pairs, codes);
        let mut high = [0; 256];
        unpack::<1, 32>(&self.high, &mut high);
        for (code, high) in codes.iter_mut().zip(high) {
            *code += 4 * high - 4;
        }
        let (mut low, mut high) = ([0; 16], [0; 16]);
        unpack::<4, 8>(&self.group_nibbles, &mut low);
        unpack::<2, 4>(&self.group_high, &mut high);
        let scale = self.scale.get();
        for (i, out) in scales.iter_mut().enumerate() {
            *out = scale * f32::from(low[i] + 16 * high[i] - 32);
        }
    }

    const CAN_ENCODE: bool = false;
}
