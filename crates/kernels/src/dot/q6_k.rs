//! Q6_K: four low bits and two high bits apart as stored, 8-bit scales, the super-scale in f16.
//! 6.625 bits per weight.

use super::pack::{by_blocks, nibble_words, pair_word};
use super::{Blocks, RowChunk, nibbles, put_f16};
use crate::isa::{Isa, Line};
use sterna_formats::EncodingRef;

/// The packed format of Q6_K. Header: line 0 has `d`, lines 1 to 4 a byte of scale per group and
/// row.
pub struct Q6K;

impl Blocks for Q6K {
    const NAME: &str = "q6_k";
    const GROUP: usize = 16;
    const HAS_MIN: bool = false;
    const MAX_CODE: u8 = 63;
    const UNIT_LINES: usize = 3;
    const HEADER_LINES: usize = 5;

    fn takes(encoding: EncodingRef) -> bool {
        encoding.name() == "Q6_K"
    }

    #[inline(always)]
    fn unit<I: Isa>(isa: I, lines: &[Line]) -> [I::B; 4] {
        let (a, b) = (isa.load_b(&lines[0]), isa.load_b(&lines[1]));
        let high = isa.load_b(&lines[2]);
        [
            isa.or(isa.shr_and::<0>(a, 15), isa.shl_and::<4>(high, 0x30)),
            isa.or(isa.shr_and::<4>(a, 15), isa.shl_and::<2>(high, 0x30)),
            isa.or(isa.shr_and::<0>(b, 15), isa.shr_and::<0>(high, 0x30)),
            isa.or(isa.shr_and::<4>(b, 15), isa.shr_and::<2>(high, 0x30)),
        ]
    }

    #[inline(always)]
    fn scale<I: Isa>(isa: I, header: &[Line], group: usize) -> I::F {
        let eight_bits = isa.load_i8(header[1 + group / 4].quarter(group % 4));
        isa.mul(isa.load_f16(header[0].half(0)), eight_bits)
    }

    fn pack(encoding: EncodingRef, rows: &[u8], cols: usize, panel: &mut [Line]) {
        by_blocks::<Self, 210, 256>((encoding, rows, cols), panel, |four, header, lines| {
            for (row, bytes) in four.rows() {
                Self::pack_header(row, &RowChunk { bytes, scales: &[], mins: &[] }, header);
            }
            // Of 128 columns: 64 bytes whose low nibbles are the first half, 32 of pairs of bits.
            for (n, lines) in lines.chunks_exact_mut(24).enumerate() {
                for half in 0..2 {
                    let pairs = four.words(128 + 32 * n + 16 * half);
                    for part in 0..4 {
                        let low = four.words(64 * n + 32 * (part % 2) + 16 * half);
                        let words = std::array::from_fn(|row| {
                            let (low, high) = (nibble_words(low[row]), part / 2 * 2);
                            [low[high], low[high + 1], pair_word(pairs[row], 2 * part as u32)]
                        });
                        four.put(&mut lines[3 * (2 * part + half)..], words);
                    }
                }
            }
        });
    }

    fn pack_unit(quads: &[Line; 4], lines: &mut [Line]) {
        lines[0] = nibbles(&quads[0], &quads[1]);
        lines[1] = nibbles(&quads[2], &quads[3]);
        lines[2] = Line(std::array::from_fn(|i| {
            (0..4).fold(0, |high, q| high | quads[q].0[i] >> 4 << (2 * q))
        }));
    }

    fn pack_header(row: usize, chunk: &RowChunk<'_>, header: &mut [Line]) {
        // Block: 128 bytes of low bits, 64 of high bits, 16 scales, d f16.
        put_f16(header, 0, row, u16::from_le_bytes([chunk.bytes[208], chunk.bytes[209]]));
        for group in 0..16 {
            header[1 + group / 4].0[group % 4 * 16 + row] = chunk.bytes[192 + group];
        }
    }
}
