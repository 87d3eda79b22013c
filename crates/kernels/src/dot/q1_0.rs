//! Binary weights (Q1_0): two bits each, as they stand beside ternary ones, and one f16 scale per
//! 128: 2.125 bits per weight.

use super::{Blocks, RowChunk, put_f16};
use crate::isa::{Isa, Line};
use sterna_formats::EncodingRef;

/// The packed format of the binary encoding. Four groups of 32 columns share a scale.
pub struct Q1_0;

impl Blocks for Q1_0 {
    const NAME: &str = "q1_0";
    const GROUP: usize = 32;
    const HAS_MIN: bool = false;
    const MAX_CODE: u8 = 2;
    const UNIT_LINES: usize = 1;
    const HEADER_LINES: usize = 1;

    fn takes(encoding: EncodingRef) -> bool {
        encoding.name() == "Q1_0"
    }

    #[inline(always)]
    fn unit<I: Isa>(isa: I, lines: &[Line]) -> [I::B; 4] {
        let all = isa.load_b(&lines[0]);
        [
            isa.shr_and::<0>(all, 3),
            isa.shr_and::<2>(all, 3),
            isa.shr_and::<4>(all, 3),
            isa.shr_and::<6>(all, 3),
        ]
    }

    #[inline(always)]
    fn scale<I: Isa>(isa: I, header: &[Line], group: usize) -> I::F {
        isa.load_f16(header[0].half(group / 4))
    }

    fn pack_unit(quads: &[Line; 4], lines: &mut [Line]) {
        lines[0] =
            Line(std::array::from_fn(|i| (0..4).fold(0, |all, q| all | quads[q].0[i] << (2 * q))));
    }

    fn pack_header(row: usize, chunk: &RowChunk<'_>, header: &mut [Line]) {
        for (block, scales) in chunk.scales.chunks(4).enumerate() {
            put_f16(header, block, row, half::f16::from_f32(scales[0]).to_bits());
        }
    }
}
