//! TQ2_0: 256 ternary values, 2 bits each, times one scale: `value = scale * (code - 1)`.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::shared::{Block, Half, above, pack, reciprocal, round_half_away, unpack};
use super::{Codes, Grid};

/// One block: 66 bytes for 256 values, 2.06 bits per value. 32 bytes hold 128 codes.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Tq2_0 {
    pairs: [u8; 64],
    scale: Half,
}

const _: () = assert!(size_of::<Tq2_0>() == 66);

impl Block for Tq2_0 {
    const NAME: &'static str = "TQ2_0";
    const GGML_TYPE: u32 = 35;
    const LEN: usize = 256;
    const FACTORS: &'static [usize] = &[offset_of!(Tq2_0, scale)];
    const CODES: Codes = Codes::Range(-1, 1);
    const GRID: Grid = Grid { group_len: 256, has_min: false, code_min: -1 };

    fn read(&self, codes: &mut [i8], scales: &mut [f32], _mins: &mut [f32]) {
        unpack::<2, 32>(&self.pairs, codes);
        for code in codes {
            *code -= 1;
        }
        scales[0] = self.scale.get();
    }

    fn set_codes(&mut self, codes: &[i8]) {
        pack::<2, 32>(&above::<256>(-1, codes), &mut self.pairs);
    }

    fn write(values: &[f32], _importance: Option<&[f32]>) -> Self {
        let (codes, scale) = ternary(values);
        let mut block = Self { scale, ..Self::zeroed() };
        block.set_codes(&codes);
        block
    }
}

/// Ternary codes and their scale, for weights that were trained to be ternary: the scale is
/// the largest magnitude, as in ggml's reference, so that such weights are kept exactly.
pub(super) fn ternary(values: &[f32]) -> ([i8; 256], Half) {
    let scale = values.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
    let inverse = reciprocal(scale);
    let mut codes = [0; 256];
    for (code, x) in codes.iter_mut().zip(values) {
        *code = round_half_away(x * inverse) as i8;
    }
    (codes, Half::new(scale))
}
