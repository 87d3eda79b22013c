//! Q5_1: 32 values as 5-bit codes from a min upwards: `value = scale * code + min`.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::shared::{Affine, Block, Half, above, pack, reciprocal, unpack};
use super::{Codes, Grid};

/// One block: 24 bytes for 32 values, 6 bits per value. Codes lie as in Q5_0.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q5_1 {
    scale: Half,
    min: Half,
    high: [u8; 4],
    nibbles: [u8; 16],
}

const _: () = assert!(size_of::<Q5_1>() == 24);

impl Block for Q5_1 {
    const NAME: &'static str = "Q5_1";
    const GGML_TYPE: u32 = 7;
    const LEN: usize = 32;
    const FACTORS: &'static [usize] = &[offset_of!(Q5_1, scale), offset_of!(Q5_1, min)];
    const CODES: Codes = Codes::Range(0, 31);
    const GRID: Grid = Grid { group_len: 32, has_min: true, code_min: 0 };

    fn read(&self, codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]) {
        unpack::<4, 16>(&self.nibbles, codes);
        let mut high = [0; 32];
        unpack::<1, 1>(&self.high, &mut high);
        for (code, high) in codes.iter_mut().zip(high) {
            *code += 16 * high;
        }
        scales[0] = self.scale.get();
        mins[0] = self.min.get();
    }

    fn set_codes(&mut self, codes: &[i8]) {
        let codes = above::<32>(0, codes);
        pack::<4, 16>(&codes, &mut self.nibbles);
        pack::<1, 1>(&codes.map(|code| code >> 4), &mut self.high);
    }

    /// The codes span from the smallest value to the largest, as in ggml's reference. Given
    /// importance, both ends are searched for instead.
    fn write(values: &[f32], importance: Option<&[f32]>) -> Self {
        let (scale, min) = match importance {
            None => {
                let min = values.iter().copied().fold(values[0], f32::min);
                let max = values.iter().copied().fold(values[0], f32::max);
                ((max - min) / 31.0, min)
            }
            Some(_) => {
                let insets = &[0.0, 0.4, 0.8, 1.2];
                let search = Affine::<31> { insets, group_len: 32, max_scale: 1.0 };
                search.single_scales(values, importance)
            }
        };
        let inverse = reciprocal(scale);
        let mut codes = [0; 32];
        for (code, x) in codes.iter_mut().zip(values) {
            *code = (((x - min) * inverse + 0.5) as u8).min(31) as i8;
        }
        let mut block = Self { scale: Half::new(scale), min: Half::new(min), ..Self::zeroed() };
        block.set_codes(&codes);
        block
    }
}
