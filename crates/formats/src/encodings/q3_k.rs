//! Q3_K: 256 values in 16 groups of 3-bit codes around zero.
//!
//! `value = (scale * s) * code` with a 6-bit `s` from -32 to 31 per group and codes from -4 to 3.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::shared::{Block, Half, Symmetric, above, pack, round, unpack};
use super::{Codes, Grid};

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
    const FACTORS: &'static [usize] = &[offset_of!(Q3K, scale)];
    const CODES: Codes = Codes::Range(-4, 3);
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

    fn set_codes(&mut self, codes: &[i8]) {
        let codes = above::<256>(-4, codes);
        pack::<2, 32>(&codes, &mut self.pairs);
        pack::<1, 32>(&codes.map(|code| code >> 2), &mut self.high);
    }

    fn write(values: &[f32], importance: Option<&[f32]>) -> Self {
        let nearest = |x: f32| round(x.clamp(-4.0, 3.0));
        let (group_len, scale_range) = (16, (-32.0, 31.0));
        let search = Symmetric { nearest, targets: &TARGETS, group_len, scale_range };
        let found = search.search(values, importance);
        let mut block = Self { scale: found.scale, ..Self::zeroed() };
        block.set_codes(&found.codes);
        let group_scales = found.group_scales.map(|s| (s + 32) as u8);
        pack::<4, 8>(&group_scales, &mut block.group_nibbles);
        pack::<2, 4>(&group_scales.map(|s| s >> 4), &mut block.group_high);
        block
    }
}

/// Below -4 and above 3 the largest value is cut off, so that the others get finer steps.
const TARGETS: [f32; 16] =
    [-5.2, -4.9, -4.6, -4.4, -4.2, -4.0, -3.8, -3.6, -3.4, -3.2, -3.0, 2.6, 2.9, 3.2, 3.5, 3.8];
