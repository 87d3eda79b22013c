//! Q1_0: 128 values as signs, times one scale: `value = scale` or `-scale`.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::shared::{Block, Half};
use super::{Codes, Grid};

/// One block: 18 bytes for 128 values, 1.125 bits per value. Bit `i % 8` of byte `i / 8` is 1 where
/// value `i` is positive.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q1_0 {
    scale: Half,
    signs: [u8; 16],
}

const _: () = assert!(size_of::<Q1_0>() == 18);

impl Block for Q1_0 {
    const NAME: &'static str = "Q1_0";
    const GGML_TYPE: u32 = 41;
    const LEN: usize = 128;
    const FACTORS: &'static [usize] = &[offset_of!(Q1_0, scale)];
    const CODES: Codes = Codes::Table(&[-1, 1]);
    // Kernels know groups of 32: four of them share the scale.
    const GRID: Grid = Grid { group_len: 32, has_min: false, code_min: -1 };

    fn read(&self, codes: &mut [i8], scales: &mut [f32], _mins: &mut [f32]) {
        for (i, code) in codes.iter_mut().enumerate() {
            *code = if self.signs[i / 8] >> (i % 8) & 1 == 1 { 1 } else { -1 };
        }
        scales.fill(self.scale.get());
    }

    fn set_codes(&mut self, codes: &[i8]) {
        self.signs = [0; 16];
        for (i, code) in codes.iter().enumerate() {
            self.signs[i / 8] |= u8::from(*code > 0) << (i % 8);
        }
    }

    /// The scale is the mean magnitude, as in ggml's reference: the one of least squared error, and
    /// for weights that were trained to be binary their own, so that they are kept exactly.
    fn write(values: &[f32], _importance: Option<&[f32]>) -> Self {
        let sum: f32 = values.iter().map(|x| x.abs()).sum();
        let mut codes = [-1; 128];
        codes.iter_mut().zip(values).filter(|(_, x)| **x >= 0.0).for_each(|(code, _)| *code = 1);
        let mut block = Self { scale: Half::new(sum / 128.0), ..Self::zeroed() };
        block.set_codes(&codes);
        block
    }
}
