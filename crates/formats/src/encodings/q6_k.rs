//! Q6_K: 256 values in 16 groups of 6-bit codes around zero.
//!
//! `value = (scale * s) * code` with a signed byte `s` per group and codes from -32 to 31.

use bytemuck::{Pod, Zeroable};

use super::Grid;
use super::shared::{Block, Half, unpack};

/// One block: 210 bytes for 256 values, 6.56 bits per value. `code + 32` is what is stored.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q6K {
    nibbles: [u8; 128],
    pairs: [u8; 64],
    group_scales: [i8; 16],
    scale: Half,
}

const _: () = assert!(size_of::<Q6K>() == 210);

impl Block for Q6K {
    const NAME: &'static str = "Q6_K";
    const GGML_TYPE: u32 = 14;
    const LEN: usize = 256;
    const GRID: Grid = Grid { group_len: 16, has_min: false, code_min: -32 };

    fn read(&self, codes: &mut [i8], scales: &mut [f32], _mins: &mut [f32]) {
        unpack::<4, 64>(&self.nibbles, codes);
        let mut high = [0; 256];
        unpack::<2, 32>(&self.pairs, &mut high);
        for (code, high) in codes.iter_mut().zip(high) {
            *code += 16 * high - 32;
        }
        let scale = self.scale.get();
        for (out, &s) in scales.iter_mut().zip(&self.group_scales) {
            *out = scale * f32::from(s);
        }
    }

    const CAN_ENCODE: bool = false;
}
