//! Q8_0: codes stored unsigned (plus 128), scales in f16. 8.5 bits per weight, as in the file.

use super::pack::by_blocks;
use super::{Blocks, RowChunk, put_f16};
use crate::isa::{Isa, Line};
use sterna_formats::EncodingRef;

/// The packed format of Q8_0.
pub struct Q8_0;

impl Blocks for Q8_0 {
    const NAME: &str = "q8_0";
    const GROUP: usize = 32;
    const HAS_MIN: bool = false;
    const MAX_CODE: u8 = u8::MAX;
    const UNIT_LINES: usize = 4;
    const HEADER_LINES: usize = 4;

    fn takes(encoding: EncodingRef) -> bool {
        encoding.name() == "Q8_0"
    }

    #[inline(always)]
    fn unit<I: Isa>(isa: I, lines: &[Line]) -> [I::B; 4] {
        [isa.load_b(&lines[0]), isa.load_b(&lines[1]), isa.load_b(&lines[2]), isa.load_b(&lines[3])]
    }

    #[inline(always)]
    fn scale<I: Isa>(isa: I, header: &[Line], group: usize) -> I::F {
        isa.load_f16(header[group / 2].half(group % 2))
    }

    fn pack(encoding: EncodingRef, rows: &[u8], cols: usize, panel: &mut [Line]) {
        // Block: d f16, 32 codes.
        by_blocks::<Self, 34, 32>((encoding, rows, cols), panel, |four, header, lines| {
            for (row, block) in four.rows() {
                put_f16(header, four.index, row, u16::from_le_bytes([block[0], block[1]]));
            }
            for (half, lines) in lines.chunks_exact_mut(4).enumerate() {
                // Adding 128 to each signed byte flips its highest bit.
                let stored = |words: [u32; 4]| words.map(|word| word ^ 0x8080_8080);
                four.put(lines, four.words(2 + 16 * half).map(stored));
            }
        });
    }

    fn pack_unit(quads: &[Line; 4], lines: &mut [Line]) {
        lines.copy_from_slice(quads);
    }

    fn pack_header(row: usize, chunk: &RowChunk<'_>, header: &mut [Line]) {
        for (group, &scale) in chunk.scales.iter().enumerate() {
            put_f16(header, group, row, half::f16::from_f32(scale).to_bits());
        }
    }
}
