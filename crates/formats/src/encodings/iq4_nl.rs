//! IQ4_NL: 32 values as 4-bit places in a table that is denser around zero, times one scale.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::shared::{Block, Half, Symmetric, pack, reciprocal, unpack};
use super::{Codes, Grid};

/// What the 16 codes mean (ggml's `kvalues_iq4nl`).
pub(super) const LEVELS: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// One block: 18 bytes for 32 values, 4.5 bits per value. Nibbles lie as in Q4_0.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Iq4Nl {
    scale: Half,
    nibbles: [u8; 16],
}

const _: () = assert!(size_of::<Iq4Nl>() == 18);

impl Block for Iq4Nl {
    const NAME: &'static str = "IQ4_NL";
    const GGML_TYPE: u32 = 20;
    const LEN: usize = 32;
    const FACTORS: &'static [usize] = &[offset_of!(Iq4Nl, scale)];
    const CODES: Codes = Codes::Table(&LEVELS);
    const GRID: Grid = Grid { group_len: 32, has_min: false, code_min: -127 };

    fn read(&self, codes: &mut [i8], scales: &mut [f32], _mins: &mut [f32]) {
        unpack::<4, 16>(&self.nibbles, codes);
        for code in codes {
            *code = LEVELS[*code as usize & 15];
        }
        scales[0] = self.scale.get();
    }

    fn set_codes(&mut self, codes: &[i8]) {
        let mut places = [0; 32];
        places.iter_mut().zip(codes).for_each(|(place_of, &level)| *place_of = place(level));
        pack::<4, 16>(&places, &mut self.nibbles);
    }

    fn write(values: &[f32], importance: Option<&[f32]>) -> Self {
        let scale = search(32).single_scale(values, importance);
        let inverse = reciprocal(scale.get());
        let mut codes = [0; 32];
        for (code, x) in codes.iter_mut().zip(values) {
            *code = nearest(x * inverse) as i8;
        }
        let mut block = Self { scale, ..Self::zeroed() };
        block.set_codes(&codes);
        block
    }
}

/// The search for groups of `group_len` values; the scales of IQ4_XS reach from -32 to 31.
pub(super) fn search(group_len: usize) -> Symmetric<'static, impl Fn(f32) -> f32> {
    Symmetric { nearest, targets: &TARGETS, group_len, scale_range: (-32.0, 31.0) }
}

/// The value farthest from zero at either end of the levels, inside them, or cut off.
const TARGETS: [f32; 12] =
    [-145.0, -136.0, -127.0, -120.0, -113.0, -106.0, -98.0, -90.0, 99.0, 106.0, 113.0, 122.0];

/// The level nearest to `x`.
fn nearest(x: f32) -> f32 {
    NEAREST[((x.clamp(-128.0, 127.0) + 128.0) * 2.0) as usize]
}

/// The nearest level in each interval of one half from -128 up. The middle between two levels is
/// always a multiple of one half, so no interval has two answers.
const NEAREST: [f32; 512] = {
    let mut table = [0.0; 512];
    let mut i = 0;
    while i < 512 {
        // In quarters, the middle of the interval is odd and so never as near to two levels.
        let middle = 2 * i as i32 + 1 - 512;
        let mut best = LEVELS[0];
        let mut k = 1;
        while k < 16 {
            let nearer = (4 * LEVELS[k] as i32 - middle).abs() < (4 * best as i32 - middle).abs();
            best = if nearer { LEVELS[k] } else { best };
            k += 1;
        }
        table[i] = best as f32;
        i += 1;
    }
    table
};

/// The nibble of a level.
pub(super) fn place(level: i8) -> u8 {
    LEVELS.partition_point(|&below| below < level) as u8
}
