//! Q4_K: nibbles as stored, 6-bit scales and mins widened to bytes, the super-scales in f16.
//! 4.625 bits per weight.

use super::pack::{by_blocks, nibble_words};
use super::{Blocks, RowChunk, nibbles, put_f16};
use crate::isa::{Isa, Line};
use sterna_formats::EncodingRef;

/// The packed format of Q4_K. Header: line 0 has `d` and `dmin`, lines 1 and 2 a byte of scale per
/// group and row, lines 3 and 4 a byte of min.
pub struct Q4K;

/// The 6-bit scale and min of a group in a block's 12 packed bytes.
fn scale_min(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        return (packed[group] & 63, packed[group + 4] & 63);
    }
    let low = packed[group + 4];
    (low & 15 | packed[group - 4] >> 6 << 4, low >> 4 | packed[group] >> 6 << 4)
}

impl Blocks for Q4K {
    const NAME: &str = "q4_k";
    const GROUP: usize = 32;
    const HAS_MIN: bool = true;
    const MAX_CODE: u8 = 15;
    const UNIT_LINES: usize = 2;
    const HEADER_LINES: usize = 5;

    fn takes(encoding: EncodingRef) -> bool {
        encoding.name() == "Q4_K"
    }

    #[inline(always)]
    fn unit<I: Isa>(isa: I, lines: &[Line]) -> [I::B; 4] {
        super::q4_0::Q4_0::unit(isa, lines)
    }

    #[inline(always)]
    fn scale<I: Isa>(isa: I, header: &[Line], group: usize) -> I::F {
        let six_bits = isa.load_u8(header[1 + group / 4].quarter(group % 4));
        isa.mul(isa.load_f16(header[0].half(0)), six_bits)
    }

    #[inline(always)]
    fn min<I: Isa>(isa: I, header: &[Line], group: usize) -> I::F {
        let six_bits = isa.load_u8(header[3 + group / 4].quarter(group % 4));
        let min = isa.mul(isa.load_f16(header[0].half(1)), six_bits);
        // 0 - m would give +0 for a zero min; -m is what the encoding says, and -1 * m is exact.
        isa.mul(isa.splat(-1.0), min)
    }

    fn pack(encoding: EncodingRef, rows: &[u8], cols: usize, panel: &mut [Line]) {
        by_blocks::<Self, 144, 256>((encoding, rows, cols), panel, |four, header, lines| {
            for (row, bytes) in four.rows() {
                Self::pack_header(row, &RowChunk { bytes, scales: &[], mins: &[] }, header);
            }
            // Of 32 bytes the low nibbles are two units, the high ones the next two.
            for (pair, lines) in lines.chunks_exact_mut(8).enumerate() {
                for half in 0..2 {
                    let words = four.words(16 + 32 * pair + 16 * half).map(nibble_words);
                    four.put(&mut lines[2 * half..], words.map(|w| [w[0], w[1]]));
                    four.put(&mut lines[4 + 2 * half..], words.map(|w| [w[2], w[3]]));
                }
            }
        });
    }

    fn pack_unit(quads: &[Line; 4], lines: &mut [Line]) {
        lines[0] = nibbles(&quads[0], &quads[1]);
        lines[1] = nibbles(&quads[2], &quads[3]);
    }

    fn pack_header(row: usize, chunk: &RowChunk<'_>, header: &mut [Line]) {
        // Block: d f16, dmin f16, 12 bytes of scales, 128 of nibbles.
        for half in 0..2 {
            let bits = u16::from_le_bytes([chunk.bytes[2 * half], chunk.bytes[2 * half + 1]]);
            put_f16(header, half, row, bits);
        }
        for group in 0..8 {
            let (scale, min) = scale_min(&chunk.bytes[4..16], group);
            header[1 + group / 4].0[group % 4 * 16 + row] = scale;
            header[3 + group / 4].0[group % 4 * 16 + row] = min;
        }
    }
}
