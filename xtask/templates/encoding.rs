//! {{UPPER}}: 32 values as 8-bit codes around zero, times one scale.
//!
//! `value = scale * code`. Replace this by the layout of your format; say where it is specified.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::shared::{Block, Half, reciprocal};
use super::{Codes, Grid};

/// One block: 34 bytes for 32 values, 8.5 bits per value.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct {{Camel}} {
    scale: Half,
    codes: [i8; 32],
}

const _: () = assert!(size_of::<{{Camel}}>() == 34);

impl Block for {{Camel}} {
    const NAME: &'static str = "{{UPPER}}";
    // Private to Sterna until ggml assigns a number.
    const GGML_TYPE: u32 = 9000;
    const LEN: usize = 32;
    const FACTORS: &'static [usize] = &[offset_of!({{Camel}}, scale)];
    const CODES: Codes = Codes::Range(-127, 127);
    const GRID: Grid = Grid { group_len: 32, has_min: false, code_min: -127 };

    fn read(&self, codes: &mut [i8], scales: &mut [f32], _mins: &mut [f32]) {
        for (to, &from) in codes.iter_mut().zip(&self.codes) {
            *to = from.max(-127);
        }
        scales[0] = self.scale.get();
    }

    fn set_codes(&mut self, codes: &[i8]) {
        self.codes.copy_from_slice(codes);
    }

    fn write(values: &[f32], _importance: Option<&[f32]>) -> Self {
        let largest = values.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
        let scale = largest / 127.0;
        let inverse = reciprocal(scale);
        let mut codes = [0; 32];
        for (code, x) in codes.iter_mut().zip(values) {
            *code = (x * inverse).round_ties_even() as i8;
        }
        Self { scale: Half::new(scale), codes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_on_the_grid_come_back() {
        let values: Vec<f32> = (0..32).map(|i| (i * 8 - 127) as f32 * 0.5).collect();
        let block = {{Camel}}::write(&values, None);
        let (mut codes, mut scales) = ([0; 32], [0.0]);
        block.read(&mut codes, &mut scales, &mut []);
        let back: Vec<f32> = codes.iter().map(|&c| scales[0] * f32::from(c)).collect();
        assert_eq!(back, values);
    }
}
