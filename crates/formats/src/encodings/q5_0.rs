//! Q5_0: 32 values as 5-bit codes around zero: `value = scale * (code - 16)`.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::shared::{Block, Half, Symmetric, above, pack, reciprocal, round, signed_max, unpack};
use super::{Codes, Grid};

/// One block: 22 bytes for 32 values, 5.5 bits per value. The codes' low nibbles lie as in Q4_0,
/// their highest bits in value order.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q5_0 {
    scale: Half,
    high: [u8; 4],
    nibbles: [u8; 16],
}

const _: () = assert!(size_of::<Q5_0>() == 22);

impl Block for Q5_0 {
    const NAME: &'static str = "Q5_0";
    const GGML_TYPE: u32 = 6;
    const LEN: usize = 32;
    const FACTORS: &'static [usize] = &[offset_of!(Q5_0, scale)];
    const CODES: Codes = Codes::Range(-16, 15);
    const GRID: Grid = Grid { group_len: 32, has_min: false, code_min: -16 };

    fn read(&self, codes: &mut [i8], scales: &mut [f32], _mins: &mut [f32]) {
        unpack::<4, 16>(&self.nibbles, codes);
        let mut high = [0; 32];
        unpack::<1, 1>(&self.high, &mut high);
        for (code, high) in codes.iter_mut().zip(high) {
            *code += 16 * high - 16;
        }
        scales[0] = self.scale.get();
    }

    fn set_codes(&mut self, codes: &[i8]) {
        let codes = above::<32>(-16, codes);
        pack::<4, 16>(&codes, &mut self.nibbles);
        pack::<1, 1>(&codes.map(|code| code >> 4), &mut self.high);
    }

    /// The value farthest from zero becomes code -16, as in ggml's reference. Given importance, the
    /// scale is searched for instead.
    fn write(values: &[f32], importance: Option<&[f32]>) -> Self {
        let scale = match importance {
            None => signed_max(values) / -16.0,
            Some(_) => search_scale(values, importance),
        };
        let inverse = reciprocal(scale);
        let mut codes = [0; 32];
        for (code, x) in codes.iter_mut().zip(values) {
            *code = ((x * inverse + 16.5) as u8).min(31) as i8 - 16;
        }
        let mut block = Self { scale: Half::new(scale), ..Self::zeroed() };
        block.set_codes(&codes);
        block
    }
}

/// The scale with the least weighted error, as in Q4_0.
fn search_scale(values: &[f32], importance: Option<&[f32]>) -> f32 {
    let nearest = |x: f32| round(x.clamp(-16.0, 15.0));
    let targets =
        &[-17.5, -17.0, -16.7, -16.3, -16.0, -15.7, -15.3, -15.0, 14.5, 14.9, 15.2, 15.6, 16.0];
    let search = Symmetric { nearest, targets, group_len: 32, scale_range: (1.0, 1.0) };
    search.single_scale(values, importance).get()
}
