//! TQ1_0: 256 ternary values, five to a byte, times one scale: `value = scale * (code - 1)`.
//!
//! A byte is a fraction of 256 whose first base-3 digits are the codes: `byte = ceil(n * 256 /
//! 243)` for the digits' number `n < 243`. Multiplying by 3 moves the next digit above the byte,
//! which vector code does without a division.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::shared::{Block, Half, above};
use super::tq2_0::ternary;
use super::{Codes, Grid};

/// One block: 54 bytes for 256 values, 1.69 bits per value. Digit `d` of byte `i` in a run of
/// `width` bytes is code `d * width + i`: a run of 32 bytes, one of 16, and 4 bytes of four codes.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Tq1_0 {
    fives: [u8; 48],
    fours: [u8; 4],
    scale: Half,
}

const _: () = assert!(size_of::<Tq1_0>() == 54);

impl Block for Tq1_0 {
    const NAME: &'static str = "TQ1_0";
    const GGML_TYPE: u32 = 34;
    const LEN: usize = 256;
    const FACTORS: &'static [usize] = &[offset_of!(Tq1_0, scale)];
    const CODES: Codes = Codes::Range(-1, 1);
    const GRID: Grid = Grid { group_len: 256, has_min: false, code_min: -1 };

    fn read(&self, codes: &mut [i8], scales: &mut [f32], _mins: &mut [f32]) {
        unpack(&self.fives[..32], &mut codes[..160]);
        unpack(&self.fives[32..], &mut codes[160..240]);
        unpack(&self.fours, &mut codes[240..]);
        scales[0] = self.scale.get();
    }

    fn set_codes(&mut self, codes: &[i8]) {
        let codes = above::<256>(-1, codes);
        pack(&codes[..160], &mut self.fives[..32]);
        pack(&codes[160..240], &mut self.fives[32..]);
        pack(&codes[240..], &mut self.fours);
    }

    fn write(values: &[f32], _importance: Option<&[f32]>) -> Self {
        let (codes, scale) = ternary(values);
        let mut block = Self { scale, ..Self::zeroed() };
        block.set_codes(&codes);
        block
    }
}

/// Spreads a run of bytes into `codes.len() / bytes.len()` ternary codes each, less 1.
fn unpack(bytes: &[u8], codes: &mut [i8]) {
    let mut power = 1u8;
    for codes in codes.chunks_exact_mut(bytes.len()) {
        for (code, byte) in codes.iter_mut().zip(bytes) {
            let digits_left = byte.wrapping_mul(power);
            *code = ((u16::from(digits_left) * 3) >> 8) as i8 - 1;
        }
        power = power.wrapping_mul(3);
    }
}

/// The inverse of [`unpack`], for codes 0, 1, 2. A byte of four codes has 0 as its fifth.
fn pack(codes: &[u8], bytes: &mut [u8]) {
    let width = bytes.len();
    for (i, byte) in bytes.iter_mut().enumerate() {
        let digit = |d: usize| codes.get(d * width + i).map_or(0, |&code| u16::from(code));
        let number = (0..5).fold(0, |number, d| number * 3 + digit(d));
        *byte = (number * 256).div_ceil(243) as u8;
    }
}
