//! Q2_K: 256 values in 16 groups of 2-bit codes from a min upwards.
//!
//! `value = (scale * s) * code - (min * m)` with a 4-bit `s` and `m` per group.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::shared::{Affine, Block, Half, above, pack, unpack};
use super::{Codes, Grid};

/// One block: 84 bytes for 256 values, 2.625 bits per value. 32 bytes hold 128 codes.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q2K {
    /// Per group: `s` in the low nibble, `m` in the high one.
    group_scales: [u8; 16],
    pairs: [u8; 64],
    scale: Half,
    min: Half,
}

const _: () = assert!(size_of::<Q2K>() == 84);

impl Block for Q2K {
    const NAME: &'static str = "Q2_K";
    const GGML_TYPE: u32 = 10;
    const LEN: usize = 256;
    const FACTORS: &'static [usize] = &[offset_of!(Q2K, scale), offset_of!(Q2K, min)];
    const CODES: Codes = Codes::Range(0, 3);
    const GRID: Grid = Grid { group_len: 16, has_min: true, code_min: 0 };

    fn read(&self, codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]) {
        unpack::<2, 32>(&self.pairs, codes);
        let (scale, min) = (self.scale.get(), self.min.get());
        for (i, byte) in self.group_scales.iter().enumerate() {
            scales[i] = scale * f32::from(byte & 15);
            mins[i] = -(min * f32::from(byte >> 4));
        }
    }

    fn set_codes(&mut self, codes: &[i8]) {
        pack::<2, 32>(&above::<256>(0, codes), &mut self.pairs);
    }

    fn write(values: &[f32], importance: Option<&[f32]>) -> Self {
        let search = Affine::<3> { insets: &INSETS, group_len: 16, max_scale: 15.0 };
        let found = search.search(values, importance);
        let mut block = Self { scale: found.scale, min: found.min, ..Self::zeroed() };
        for (i, byte) in block.group_scales.iter_mut().enumerate() {
            *byte = found.group_scales[i] | found.group_mins[i] << 4;
        }
        block.set_codes(&found.codes.map(|code| code as i8));
        block
    }
}

/// At 2 bits the ends of a group are worth cutting off deeply.
const INSETS: [f32; 4] = [0.0, 0.2, 0.4, 0.6];
