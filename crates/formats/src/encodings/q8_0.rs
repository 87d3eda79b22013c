//! Q8_0: 32 values as signed bytes, times one scale: `value = scale * code`.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::shared::{Block, Half, reciprocal, round_half_away};
use super::{Codes, Grid};

/// One block: 34 bytes for 32 values, 8.5 bits per value.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q8_0 {
    scale: Half,
    codes: [i8; 32],
}

const _: () = assert!(size_of::<Q8_0>() == 34);

impl Block for Q8_0 {
    const NAME: &'static str = "Q8_0";
    const GGML_TYPE: u32 = 8;
    const LEN: usize = 32;
    const FACTORS: &'static [usize] = &[offset_of!(Q8_0, scale)];
    const CODES: Codes = Codes::Range(-127, 127);
    const GRID: Grid = Grid { group_len: 32, has_min: false, code_min: -128 };

    fn read(&self, codes: &mut [i8], scales: &mut [f32], _mins: &mut [f32]) {
        codes.copy_from_slice(&self.codes);
        scales[0] = self.scale.get();
    }

    fn set_codes(&mut self, codes: &[i8]) {
        self.codes.copy_from_slice(codes);
    }

    /// The value farthest from zero becomes code 127 or -127, as in ggml's reference. At 8 bits no
    /// search for a better scale is worth its time, so importance changes nothing.
    fn write(values: &[f32], _importance: Option<&[f32]>) -> Self {
        let scale = values.iter().fold(0.0, |max: f32, x| max.max(x.abs())) / 127.0;
        let inverse = reciprocal(scale);
        let mut codes = [0; 32];
        for (code, x) in codes.iter_mut().zip(values) {
            *code = round_half_away(x * inverse) as i8;
        }
        Self { scale: Half::new(scale), codes }
    }
}
