//! Ternary weights (TQ2_0, and TQ1_0 which holds the same numbers): two bits each, one f32 scale
//! per 256: 2.125 bits per weight.

use super::pack::{by_blocks, by_view, pair_word};
use super::{Blocks, RowChunk};
use crate::isa::{Isa, Line};
use sterna_formats::EncodingRef;

/// The packed format of the ternary encodings.
pub struct Tq2_0;

impl Blocks for Tq2_0 {
    const NAME: &str = "tq2_0";
    const GROUP: usize = 256;
    const HAS_MIN: bool = false;
    // Two bits hold 3 too, which no encoder makes but a file may.
    const MAX_CODE: u8 = 3;
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

    fn pack(encoding: EncodingRef, rows: &[u8], cols: usize, panel: &mut [Line]) {
        if encoding.name() != "TQ2_0" {
            return by_view::<Self>(encoding, rows, cols, panel);
        }
        // Block: twice 32 bytes of 128 codes, 2 bits each; d f16.
        by_blocks::<Self, 66, 256>((encoding, rows, cols), panel, |four, header, lines| {
            for (row, block) in four.rows() {
                let bits = u16::from_le_bytes([block[64], block[65]]);
                header[0].floats_mut()[row] = half::f16::from_bits(bits).to_f32();
            }
            for (n, lines) in lines.chunks_exact_mut(8).enumerate() {
                for half in 0..2 {
                    let words = four.words(32 * n + 16 * half);
                    for part in 0..4 {
                        let shift = 2 * part as u32;
                        let words = words.map(|w| [pair_word(w, shift)]);
                        four.put(&mut lines[2 * part + half..], words);
                    }
                }
            }
        });
    }

    fn pack_unit(quads: &[Line; 4], lines: &mut [Line]) {
        lines[0] =
            Line(std::array::from_fn(|i| (0..4).fold(0, |all, q| all | quads[q].0[i] << (2 * q))));
    }

    fn pack_header(row: usize, chunk: &RowChunk<'_>, header: &mut [Line]) {
        header[0].floats_mut()[row] = chunk.scales[0];
    }
}
