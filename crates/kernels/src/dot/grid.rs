//! The integer view of any block encoding, at one byte a code with f32 scales and mins: what every
//! encoding runs through until it has its own packed format, and what all of them are unpacked to
//! for many rows.

use super::{Blocks, RowChunk};
use crate::isa::{Isa, Line};
use sterna_formats::EncodingRef;

/// One byte a code; `GROUP` columns share a scale (and a min).
pub struct Grid8<const GROUP: usize, const MIN: bool>;

impl<const GROUP: usize, const MIN: bool> Blocks for Grid8<GROUP, MIN> {
    const NAME: &str = "grid8";
    const GROUP: usize = GROUP;
    const HAS_MIN: bool = MIN;
    const MAX_CODE: u8 = u8::MAX;
    const UNIT_LINES: usize = 4;
    // Scales of all groups, then mins of all groups, a line each.
    const HEADER_LINES: usize = 256 / GROUP * if MIN { 2 } else { 1 };

    fn takes(encoding: EncodingRef) -> bool {
        encoding.grid().is_some_and(|g| g.group_len == GROUP && g.has_min == MIN)
    }

    #[inline(always)]
    fn unit<I: Isa>(isa: I, lines: &[Line]) -> [I::B; 4] {
        [isa.load_b(&lines[0]), isa.load_b(&lines[1]), isa.load_b(&lines[2]), isa.load_b(&lines[3])]
    }

    #[inline(always)]
    fn scale<I: Isa>(isa: I, header: &[Line], group: usize) -> I::F {
        isa.load(header[group].floats())
    }

    #[inline(always)]
    fn min<I: Isa>(isa: I, header: &[Line], group: usize) -> I::F {
        isa.load(header[256 / GROUP + group].floats())
    }

    fn pack_unit(quads: &[Line; 4], lines: &mut [Line]) {
        lines.copy_from_slice(quads);
    }

    fn pack_header(row: usize, chunk: &RowChunk<'_>, header: &mut [Line]) {
        for (group, &scale) in chunk.scales.iter().enumerate() {
            header[group].floats_mut()[row] = scale;
        }
        for (group, &min) in chunk.mins.iter().enumerate() {
            header[256 / GROUP + group].floats_mut()[row] = min;
        }
    }
}
