//! Q4_0: nibbles as stored, scales in f16. 4.5 bits per weight, as in the file.

use super::pack::{by_blocks, nibble_words};
use super::{Blocks, RowChunk, nibbles, put_f16};
use crate::isa::{Isa, Line};
use sterna_formats::EncodingRef;

/// The packed format of Q4_0.
pub struct Q4_0;

impl Blocks for Q4_0 {
    const NAME: &str = "q4_0";
    const GROUP: usize = 32;
    const HAS_MIN: bool = false;
    const MAX_CODE: u8 = 15;
    const UNIT_LINES: usize = 2;
    const HEADER_LINES: usize = 4;

    fn takes(encoding: EncodingRef) -> bool {
        encoding.name() == "Q4_0"
    }

    #[inline(always)]
    fn unit<I: Isa>(isa: I, lines: &[Line]) -> [I::B; 4] {
        let (a, b) = (isa.load_b(&lines[0]), isa.load_b(&lines[1]));
        [
            isa.shr_and::<0>(a, 15),
            isa.shr_and::<4>(a, 15),
            isa.shr_and::<0>(b, 15),
            isa.shr_and::<4>(b, 15),
        ]
    }

    #[inline(always)]
    fn scale<I: Isa>(isa: I, header: &[Line], group: usize) -> I::F {
        isa.load_f16(header[group / 2].half(group % 2))
    }

    fn pack(encoding: EncodingRef, rows: &[u8], cols: usize, panel: &mut [Line]) {
        // Block: d f16, 16 bytes whose low nibbles are the first unit.
        by_blocks::<Self, 18, 32>((encoding, rows, cols), panel, |four, header, lines| {
            for (row, block) in four.rows() {
                put_f16(header, four.index, row, u16::from_le_bytes([block[0], block[1]]));
            }
            four.put(lines, four.words(2).map(nibble_words));
        });
    }

    fn pack_unit(quads: &[Line; 4], lines: &mut [Line]) {
        lines[0] = nibbles(&quads[0], &quads[1]);
        lines[1] = nibbles(&quads[2], &quads[3]);
    }

    fn pack_header(row: usize, chunk: &RowChunk<'_>, header: &mut [Line]) {
        for (group, &scale) in chunk.scales.iter().enumerate() {
            put_f16(header, group, row, half::f16::from_f32(scale).to_bits());
        }
    }
}
