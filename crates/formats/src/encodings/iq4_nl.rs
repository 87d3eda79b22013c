//! IQ4_NL: 32 values as 4-bit places in a table that is denser around zero, times one scale.

use bytemuck::{Pod, Zeroable};

use super::Grid;
use super::shared::{Block, Half, unpack};

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
    const GRID: Grid = Grid { group_len: 32, has_min: false, code_min: -127 };

    fn read(&self, codes: &mut [i8], scales: &mut [f32], _mins: &mut [f32]) {
        unpack::<4, 16>(&self.nibbles, codes);
        for code in codes {
            *code = LEVELS[*code as usize & 15];
        }
        scales[0] = self.scale.get();
    }

    const CAN_ENCODE: bool = false;
}
