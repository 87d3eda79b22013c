//! Ternary weights (TQ2_0, and TQ1_0 which holds the same numbers): two bits each, one f32 scale
//! per 256: 2.125 bits per weight.

use super::{Blocks, RowChunk};
use crate::isa::{Isa, Line};
use sterna_formats::EncodingRef;

/// The packed format of the ternary encodings.
pub struct Tq2_0;

impl Blocks for Tq2_0 {
    const NAME: &str = "tq2_0";
    const GROUP: usize = 256;
    const HAS_MIN: bool = false;
    const MAX_CODE: u8 = 2;
    const UNIT_LINES: usize = 1;
    const HEADER_LINES: usize = 1;

    fn takes(encoding: EncodingRef) -> bool {
        matches!(encoding.name(), "TQ2_0" | "TQ1_0")
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
    fn scale<I: Isa>(isa: I, header: &[Line], _group: usize) -> I::F {
        isa.load(header[0].floats())
    }

    fn pack_unit(quads: &[Line; 4], lines: &mut [Line]) {
        lines[0] =
            Line(std::array::from_fn(|i| (0..4).fold(0, |all, q| all | quads[q].0[i] << (2 * q))));
    }

    fn pack_header(row: usize, chunk: &RowChunk<'_>, header: &mut [Line]) {
        header[0].floats_mut()[row] = chunk.scales[0];
    }
}
