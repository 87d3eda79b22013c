//! How encoded rows become a panel: through the encoding's integer view, which says what a packed
//! format means; or, where its bits need only be moved, block by block at the speed of memory.

use super::{Blocks, PANEL, RowChunk};
use crate::acts::CHUNK;
use crate::isa::Line;
use sterna_formats::EncodingRef;

/// Packs rows through the encoding's integer view: codes as `code - code_min`, one byte each, then
/// through the format's own packing.
pub fn by_view<B: Blocks>(encoding: EncodingRef, rows: &[u8], cols: usize, panel: &mut [Line]) {
    let grid = encoding.grid().expect("a block format packs block encodings");
    let row_bytes = encoding.row_bytes(cols);
    let n_groups = cols / grid.group_len;
    panel.fill(Line::ZERO);
    let chunk_lines = B::HEADER_LINES + CHUNK / 16 * B::UNIT_LINES;
    // [units][4 quads], one byte a code. Missing rows keep the code of value zero.
    let zero = 0i32.wrapping_sub(i32::from(grid.code_min)) as u8;
    let mut quads = vec![[Line([zero; 64]); 4]; cols / 16];
    let mut codes = vec![0i8; cols];
    let (mut scales, mut mins) = (vec![0f32; n_groups], vec![0f32; n_groups]);
    for (row, bytes) in rows.chunks_exact(row_bytes).enumerate() {
        encoding.read_grid(bytes, &mut codes, &mut scales, &mut mins);
        let fours = codes.as_chunks::<4>().0;
        for (to, four) in quads.as_flattened_mut().iter_mut().zip(fours) {
            let stored = four.map(|code| code.wrapping_sub(grid.code_min) as u8);
            to.0[row * 4..][..4].copy_from_slice(&stored);
        }
        for c in 0..cols.div_ceil(CHUNK) {
            let columns = c * CHUNK..cols.min((c + 1) * CHUNK);
            let groups = columns.start / grid.group_len..columns.end / grid.group_len;
            let blocks =
                encoding.row_bytes(columns.start + encoding.block_len()) - encoding.block_bytes();
            let chunk = RowChunk {
                bytes: &bytes[blocks..],
                scales: &scales[groups.clone()],
                mins: if grid.has_min { &mins[groups] } else { &[] },
            };
            B::pack_header(row, &chunk, &mut panel[c * chunk_lines..][..B::HEADER_LINES]);
        }
    }
    for (u, quads) in quads.iter().enumerate() {
        let at =
            u / (CHUNK / 16) * chunk_lines + B::HEADER_LINES + u % (CHUNK / 16) * B::UNIT_LINES;
        B::pack_unit(quads, &mut panel[at..][..B::UNIT_LINES]);
    }
}

/// The encoded blocks of `BYTES` of four neighbouring rows, on their way into a panel.
pub struct FourBlocks<'a, const BYTES: usize> {
    /// The first of the rows, a multiple of 4.
    row: usize,
    /// Their place among the blocks of their chunk of 256 columns.
    pub index: usize,
    bytes: [&'a [u8; BYTES]; 4],
}

impl<'a, const BYTES: usize> FourBlocks<'a, BYTES> {
    /// Each row with its block.
    #[inline(always)]
    pub fn rows(&self) -> impl Iterator<Item = (usize, &'a [u8; BYTES])> {
        (self.row..).zip(self.bytes)
    }

    /// Of each row, sixteen bytes from `at` on, as four words of four.
    #[inline(always)]
    pub fn words(&self, at: usize) -> [[u32; 4]; 4] {
        self.bytes.map(|bytes| {
            let (words, _) = bytes[at..at + 16].as_chunks::<4>();
            std::array::from_fn(|i| u32::from_le_bytes(words[i]))
        })
    }

    /// Writes the rows' words, `[row][line]`, into the first lines: together, because the processor
    /// stores sixteen bytes as fast as four.
    #[inline(always)]
    pub fn put<const N: usize>(&self, lines: &mut [Line], words: [[u32; N]; 4]) {
        for (n, line) in lines[..N].iter_mut().enumerate() {
            let four: [[u8; 4]; 4] = std::array::from_fn(|row| words[row][n].to_le_bytes());
            line.0.as_chunks_mut::<16>().0[self.row / 4 % 4] = bytemuck::cast(four);
        }
    }
}

/// Packs 16 rows of blocks of `BYTES` for `COLS` columns: `place` puts those of four rows into
/// their chunk's header and into the lines of their units. Fewer rows go through the integer view.
#[inline(always)]
pub fn by_blocks<B: Blocks, const BYTES: usize, const COLS: usize>(
    (encoding, rows, cols): (EncodingRef, &[u8], usize),
    panel: &mut [Line],
    place: impl Fn(&FourBlocks<'_, BYTES>, &mut [Line], &mut [Line]),
) {
    const { assert!(CHUNK.is_multiple_of(COLS) && COLS.is_multiple_of(16)) };
    let (blocks, _) = rows.as_chunks::<BYTES>();
    let per_row = cols / COLS;
    if blocks.len() < PANEL * per_row {
        return by_view::<B>(encoding, rows, cols, panel);
    }
    let per_chunk = CHUNK / COLS;
    let block_lines = COLS / 16 * B::UNIT_LINES;
    for (c, chunk) in panel.chunks_mut(B::HEADER_LINES + per_chunk * block_lines).enumerate() {
        let (header, units) = chunk.split_at_mut(B::HEADER_LINES);
        // Of the last chunk not every group may be there.
        header.fill(Line::ZERO);
        for row in (0..PANEL).step_by(4) {
            let of_row = |r: usize| &blocks[r * per_row + c * per_chunk..(r + 1) * per_row];
            let four: [&[[u8; BYTES]]; 4] = std::array::from_fn(|r| of_row(row + r));
            for (index, lines) in units.chunks_exact_mut(block_lines).enumerate() {
                let bytes = four.map(|blocks| &blocks[index]);
                place(&FourBlocks { row, index, bytes }, header, lines);
            }
        }
    }
}

/// A row's words of two units, whose codes are the low nibbles of 16 bytes and the high ones.
#[inline(always)]
pub fn nibble_words(w: [u32; 4]) -> [u32; 4] {
    const LOW: u32 = 0x0f0f_0f0f;
    let low = |a: u32, b: u32| a & LOW | (b & LOW) << 4;
    let high = |a: u32, b: u32| a >> 4 & LOW | b & !LOW;
    [low(w[0], w[1]), low(w[2], w[3]), high(w[0], w[1]), high(w[2], w[3])]
}

/// A row's word of a unit whose codes are the pairs of bits from `shift` on of 16 bytes.
#[inline(always)]
pub fn pair_word(w: [u32; 4], shift: u32) -> u32 {
    (0..4).fold(0, |all, q| all | (w[q] >> shift & 0x0303_0303) << (2 * q))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PackedShape;
    use crate::dot::{q4_0::Q4_0, q4_k::Q4K, q6_k::Q6K, q8_0::Q8_0, tq2_0::Tq2_0};
    use sterna_formats::encodings::by_name;

    /// Random blocks, their scales finite, of some rows; packed both ways.
    fn check<B: Blocks>(name: &str, scales_at: &[usize]) {
        let encoding = by_name(name).unwrap();
        let mut state = 1u64;
        let mut byte = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        };
        let block = encoding.block_len();
        for cols in [block, 3 * block, 256.max(block), 256 + 2 * block, 2048] {
            for n_rows in [16, 1, 5, 15] {
                let mut rows: Vec<u8> =
                    (0..n_rows * encoding.row_bytes(cols)).map(|_| byte()).collect();
                for block in rows.chunks_exact_mut(encoding.block_bytes()) {
                    // Exponents below all ones: neither infinite nor no number.
                    scales_at.iter().for_each(|&at| block[at + 1] &= 0xbf);
                }
                let shape = PackedShape::new(encoding, n_rows, cols);
                let mut packed = vec![Line([0xee; 64]); shape.panel_lines];
                let mut wanted = vec![Line([0x11; 64]); shape.panel_lines];
                shape.pack(0..1, &rows, &mut packed);
                by_view::<B>(encoding, &rows, cols, &mut wanted);
                assert!(packed == wanted, "{name} {n_rows}x{cols}");
            }
        }
    }

    // proves P-10
    #[test]
    fn blocks_are_placed_where_their_integer_view_puts_them() {
        check::<Q8_0>("Q8_0", &[0]);
        check::<Q4_0>("Q4_0", &[0]);
        check::<Q4K>("Q4_K", &[0, 2]);
        check::<Q6K>("Q6_K", &[208]);
        check::<Tq2_0>("TQ2_0", &[64]);
        check::<Tq2_0>("TQ1_0", &[52]);
    }
}
