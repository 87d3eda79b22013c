//! Q6_K: 256 values in 16 groups of 6-bit codes around zero.
//!
//! `value = (scale * s) * code` with a signed byte `s` per group and codes from -32 to 31.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::shared::{Block, Half, Symmetric, above, pack, round, unpack};
use super::{Codes, Grid};

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
    const FACTORS: &'static [usize] = &[offset_of!(Q6K, scale)];
    const CODES: Codes = Codes::Range(-32, 31);
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

    fn set_codes(&mut self, codes: &[i8]) {
        let codes = above::<256>(-32, codes);
        pack::<4, 64>(&codes, &mut self.nibbles);
        pack::<2, 32>(&codes.map(|code| code >> 4), &mut self.pairs);
    }

    fn write(values: &[f32], importance: Option<&[f32]>) -> Self {
        let nearest = |x: f32| round(x.clamp(-32.0, 31.0));
        let (group_len, scale_range) = (16, (-128.0, 127.0));
        let search = Symmetric { nearest, targets: &TARGETS, group_len, scale_range };
        let found = search.search(values, importance);
        let mut block = Self { scale: found.scale, ..Self::zeroed() };
        block.set_codes(&found.codes);
        block.group_scales = found.group_scales;
        block
    }
}

/// The largest value at either end of the codes, or cut off by up to a step.
const TARGETS: [f32; 12] =
    [-33.0, -32.6, -32.3, -32.0, -31.7, -31.3, -31.0, 30.6, 30.9, 31.2, 31.5, 31.9];
