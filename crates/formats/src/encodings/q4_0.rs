//! Q4_0: 32 values as 4-bit codes around zero, times one scale. The example of a block encoding.
//!
//! `value = scale * (nibble - 8)`. A nibble pairs value `i` (low bits) with value `i + 16` (high
//! bits), so that vector code splits a block with one mask and one shift.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::shared::{Block, Half, Symmetric, above, pack, reciprocal, round, signed_max, unpack};
use super::{Codes, Grid};

/// One block: 18 bytes for 32 values, 4.5 bits per value.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q4_0 {
    scale: Half,
    nibbles: [u8; 16],
}

const _: () = assert!(size_of::<Q4_0>() == 18);

impl Block for Q4_0 {
    const NAME: &'static str = "Q4_0";
    const GGML_TYPE: u32 = 2;
    const LEN: usize = 32;
    const FACTORS: &'static [usize] = &[offset_of!(Q4_0, scale)];
    const CODES: Codes = Codes::Range(-8, 7);
    const GRID: Grid = Grid { group_len: 32, has_min: false, code_min: -8 };

    fn read(&self, codes: &mut [i8], scales: &mut [f32], _mins: &mut [f32]) {
        unpack::<4, 16>(&self.nibbles, codes);
        for code in codes {
            *code -= 8;
        }
        scales[0] = self.scale.get();
    }

    fn set_codes(&mut self, codes: &[i8]) {
        pack::<4, 16>(&above::<32>(-8, codes), &mut self.nibbles);
    }

    /// The codes reach from -8 to 7, one farther below zero than above, so the value farthest from
    /// zero becomes -8: the scale's sign follows it. This gives the bytes of ggml's reference.
    /// Given importance, the scale is searched for instead.
    fn write(values: &[f32], importance: Option<&[f32]>) -> Self {
        let scale = match importance {
            None => signed_max(values) / -8.0,
            Some(_) => search_scale(values, importance),
        };
        let inverse = reciprocal(scale);
        let mut codes = [0; 32];
        for (code, x) in codes.iter_mut().zip(values) {
            *code = ((x * inverse + 8.5) as u8).min(15) as i8 - 8;
        }
        let mut block = Self { scale: Half::new(scale), ..Self::zeroed() };
        block.set_codes(&codes);
        block
    }
}

/// The scale with the least weighted error among those that put the value farthest from zero near
/// either end of the codes, or cut it off so that the others get finer steps.
fn search_scale(values: &[f32], importance: Option<&[f32]>) -> f32 {
    let nearest = |x: f32| round(x.clamp(-8.0, 7.0));
    let targets = &[-9.6, -9.2, -8.8, -8.4, -8.0, -7.7, -7.4, -7.0, 6.6, 7.0, 7.4, 7.8, 8.2];
    let search = Symmetric { nearest, targets, group_len: 32, scale_range: (1.0, 1.0) };
    search.single_scale(values, importance).get()
}
