//! IQ4_XS: 256 values in 8 groups of IQ4_NL's 4-bit table.
//!
//! `value = (scale * s) * LEVELS[nibble]` with a 6-bit `s` from -32 to 31 per group.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::iq4_nl::{LEVELS, place, search};
use super::shared::{Block, Half, pack, unpack};
use super::{Codes, Grid};

/// One block: 136 bytes for 256 values, 4.25 bits per value. Each group's nibbles lie as in Q4_0.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Iq4Xs {
    scale: Half,
    /// The groups' `s + 32`: their two highest bits, then low nibbles.
    group_high: [u8; 2],
    group_nibbles: [u8; 4],
    nibbles: [u8; 128],
}

const _: () = assert!(size_of::<Iq4Xs>() == 136);

impl Block for Iq4Xs {
    const NAME: &'static str = "IQ4_XS";
    const GGML_TYPE: u32 = 23;
    const LEN: usize = 256;
    const FACTORS: &'static [usize] = &[offset_of!(Iq4Xs, scale)];
    const CODES: Codes = Codes::Table(&LEVELS);
    const GRID: Grid = Grid { group_len: 32, has_min: false, code_min: -127 };

    fn read(&self, codes: &mut [i8], scales: &mut [f32], _mins: &mut [f32]) {
        unpack::<4, 16>(&self.nibbles, codes);
        for code in codes {
            *code = LEVELS[*code as usize & 15];
        }
        let (mut low, mut high) = ([0; 8], [0; 8]);
        unpack::<4, 1>(&self.group_nibbles, &mut low);
        unpack::<2, 1>(&self.group_high, &mut high);
        let scale = self.scale.get();
        for (i, out) in scales.iter_mut().enumerate() {
            *out = scale * f32::from(low[i] + 16 * high[i] - 32);
        }
    }

    fn set_codes(&mut self, codes: &[i8]) {
        let mut places = [0; 256];
        places.iter_mut().zip(codes).for_each(|(place_of, &level)| *place_of = place(level));
        pack::<4, 16>(&places, &mut self.nibbles);
    }

    fn write(values: &[f32], importance: Option<&[f32]>) -> Self {
        let found = search(32).search(values, importance);
        let mut block = Self { scale: found.scale, ..Self::zeroed() };
        block.set_codes(&found.codes);
        let group_scales: [u8; 8] = std::array::from_fn(|i| (found.group_scales[i] + 32) as u8);
        pack::<4, 1>(&group_scales, &mut block.group_nibbles);
        pack::<2, 1>(&group_scales.map(|s| s >> 4), &mut block.group_high);
        block
    }
}
