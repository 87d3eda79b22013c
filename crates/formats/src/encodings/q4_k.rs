//! Q4_K: 256 values in 8 groups of 4-bit codes from a min upwards.
//!
//! `value = (scale * s) * code - (min * m)` with a 6-bit `s` and `m` per group.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::shared::{
    Affine, Block, Half, above, pack, pack_group_scales, unpack, unpack_group_scales,
};
use super::{Codes, Grid};

/// One block: 144 bytes for 256 values, 4.5 bits per value. 32 bytes hold two groups.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q4K {
    scale: Half,
    min: Half,
    group_scales: [u8; 12],
    nibbles: [u8; 128],
}

const _: () = assert!(size_of::<Q4K>() == 144);

impl Block for Q4K {
    const NAME: &'static str = "Q4_K";
    const GGML_TYPE: u32 = 12;
    const LEN: usize = 256;
    const FACTORS: &'static [usize] = &[offset_of!(Q4K, scale), offset_of!(Q4K, min)];
    const CODES: Codes = Codes::Range(0, 15);
    const GRID: Grid = Grid { group_len: 32, has_min: true, code_min: 0 };

    fn read(&self, codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]) {
        unpack::<4, 32>(&self.nibbles, codes);
        let (group_scales, group_mins) = unpack_group_scales(&self.group_scales);
        let (scale, min) = (self.scale.get(), self.min.get());
        for i in 0..8 {
            scales[i] = scale * f32::from(group_scales[i]);
            mins[i] = -(min * f32::from(group_mins[i]));
        }
    }

    fn set_codes(&mut self, codes: &[i8]) {
        pack::<4, 32>(&above::<256>(0, codes), &mut self.nibbles);
    }

    fn write(values: &[f32], importance: Option<&[f32]>) -> Self {
        let search = Affine::<15> { insets: &INSETS, group_len: 32, max_scale: 63.0 };
        let found = search.search(values, importance);
        let mut block = Self { scale: found.scale, min: found.min, ..Self::zeroed() };
        let (scales, mins) = (found.group_scales, found.group_mins);
        block.group_scales = pack_group_scales(&scales, &mins);
        block.set_codes(&found.codes.map(|code| code as i8));
        block
    }
}

/// Cutting off up to a step and a half at either end pays for itself inside.
const INSETS: [f32; 3] = [0.0, 0.6, 1.2];
