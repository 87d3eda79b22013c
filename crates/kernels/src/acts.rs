//! Activations prepared for linear layers: int8 codes for block encodings, f32 for float ones.
//!
//! Rows are grouped in tiles of [`TILES`] widths, and inside a tile the rows of one input position
//! lie side by side, so that a kernel walks one stream; where the ISA has a tile unit, the codes of
//! full tiles lie row by row within a chunk instead. The numbers do not depend on the layout.

use crate::isa::{Isa, Kernel, Line, TILE_ROWS};

/// Activations of one row that share a scale.
pub const CHUNK: usize = 256;

/// Which of a row's activation codes share a scale.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ScaleOver {
    /// Those of a chunk: what block encodings ask for.
    #[default]
    Chunk,
    /// All of them: what a layer says that sees its input as int8 codes (BitNet b1.58). Every chunk
    /// then has the row's scale, so the kernels are the same.
    Row,
    /// Those of all rows: the absolute maximum is given, and what is beyond it is clipped.
    All(f32),
}

/// The smallest absolute maximum that the scale of a row is made of: rows of zeros have one too.
pub const LEAST_ROW_MAX: f32 = 1e-5;

/// The widths of tiles, widest first.
pub const TILES: [usize; 4] = [TILE_ROWS, 4, 2, 1];

/// The tiles that `n_rows` rows are cut into: `(first row, width)`.
pub fn tiles(n_rows: usize) -> impl Iterator<Item = (usize, usize)> {
    tiles_by(n_rows, false)
}

/// The same, or, where a tile unit takes them all, with a last tile of any width.
#[inline(always)]
pub fn tiles_by(n_rows: usize, unit: bool) -> impl Iterator<Item = (usize, usize)> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let left = n_rows - first;
        let widest = TILES.into_iter().find(|&width| width <= left)?;
        let width = if unit { left.min(TILE_ROWS) } else { widest };
        first += width;
        Some((first - width, width))
    })
}

/// Sizes of the buffers that hold the quantized form of rows of `cols` values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantLayout {
    /// Values per row; a multiple of 16.
    pub cols: usize,
}

impl QuantLayout {
    /// Four codes to an i32.
    pub fn quads(self) -> usize {
        self.cols / 4
    }
    /// Sums over 16 codes.
    pub fn sums16(self) -> usize {
        self.cols / 16
    }
    /// Sums over 32 codes, the last perhaps over 16.
    pub fn sums32(self) -> usize {
        self.cols.div_ceil(32)
    }
    /// Chunks of up to 256 values, each with a scale and a sum.
    pub fn chunks(self) -> usize {
        self.cols.div_ceil(CHUNK)
    }
    /// i32 entries per row in all: quads, then sums over 16, 32 and 256.
    pub fn ints(self) -> usize {
        self.quads() + self.sums16() + self.sums32() + self.chunks()
    }
}

/// Quantized rows, read by kernels. Each slice holds `n_rows` times the row's entries, tile by
/// tile.
#[derive(Clone, Copy, Debug)]
pub struct QuantActs<'a> {
    /// Shape of a row.
    pub layout: QuantLayout,
    /// Rows.
    pub n_rows: usize,
    /// Tile by tile: quads, sums16, sums32, sums256, each `[entry][row of tile]`.
    pub ints: &'a [i32],
    /// Tile by tile: `[chunk][row of tile]`.
    pub scales: &'a [f32],
}

/// One tile of quantized rows.
#[derive(Clone, Copy, Debug)]
pub struct QuantTile<'a> {
    /// `[cols / 4][width]`, four codes each; `[chunk][width][64]` for the tile unit.
    pub quads: &'a [i32],
    /// `[cols / 16][width]`.
    pub sums16: &'a [i32],
    /// `[cols / 32][width]`.
    pub sums32: &'a [i32],
    /// `[chunks][width]`.
    pub sums256: &'a [i32],
    /// `[chunks][width]`.
    pub scales: &'a [f32],
}

impl<'a> QuantTile<'a> {
    /// The sums over groups of 16, 32 or 256 codes.
    #[inline(always)]
    pub fn sums_of(&self, group: usize) -> &'a [i32] {
        match group {
            16 => self.sums16,
            32 => self.sums32,
            _ => self.sums256,
        }
    }
}

impl<'a> QuantActs<'a> {
    /// The tile of `width` rows that starts at row `first`.
    #[inline(always)]
    pub fn tile(&self, first: usize, width: usize) -> QuantTile<'a> {
        let layout = self.layout;
        let ints = &self.ints[first * layout.ints()..][..width * layout.ints()];
        let (quads, rest) = ints.split_at(width * layout.quads());
        let (sums16, rest) = rest.split_at(width * layout.sums16());
        let (sums32, sums256) = rest.split_at(width * layout.sums32());
        let scales = &self.scales[first * layout.chunks()..][..width * layout.chunks()];
        QuantTile { quads, sums16, sums32, sums256, scales }
    }
}

/// Quantizes one tile: `x` is `[width, cols]`, the outputs are laid out as [`QuantTile`].
pub struct QuantizeTile<'a> {
    /// Shape of a row.
    pub layout: QuantLayout,
    /// What shares a scale.
    pub over: ScaleOver,
    /// Rows in the tile.
    pub width: usize,
    /// The rows, `[width, cols]`.
    pub x: &'a [f32],
    /// `width * layout.ints()` entries.
    pub ints: &'a mut [i32],
    /// `width * layout.chunks()` entries.
    pub scales: &'a mut [f32],
}

impl Kernel for QuantizeTile<'_> {
    type Out = ();
    const UNITS: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { layout, over, width, x, ints, scales } = self;
        let (quads, sums) = ints.split_at_mut(width * layout.quads());
        let (sums16, sums) = sums.split_at_mut(width * layout.sums16());
        let (sums32, sums256) = sums.split_at_mut(width * layout.sums32());
        sums32.fill(0);
        let by_row = I::TILES && width == TILE_ROWS;
        for row in 0..width {
            let x = &x[row * layout.cols..][..layout.cols];
            let whole = over.whole(isa, x);
            let is_clipped = matches!(over, ScaleOver::All(_));
            for (c, chunk) in x.chunks(CHUNK).enumerate() {
                let (blocks, _) = chunk.as_chunks::<16>();
                let (scale, inverse) = match whole {
                    Some(scale) => scale,
                    None => chunk_scale(isa, blocks),
                };
                scales[c * width + row] = scale;
                let n_quads = chunk.len() / 4;
                let quads = &mut quads[c * (CHUNK / 4) * width..][..n_quads * width];
                let mut codes = [Line::ZERO; CHUNK / 64];
                let bytes: &mut [[i8; 16]; CHUNK / 16] = bytemuck::cast_mut(&mut codes);
                for (codes, block) in bytes.iter_mut().zip(blocks) {
                    let x = isa.mul(isa.load(block), isa.splat(inverse));
                    *codes = isa.to_i8(if is_clipped { clipped(isa, x) } else { x });
                }
                let found: &[i32; CHUNK / 4] = bytemuck::cast_ref(&codes);
                if by_row {
                    quads[row * n_quads..][..n_quads].copy_from_slice(&found[..n_quads]);
                } else {
                    for (to, &quad) in quads.chunks_exact_mut(width).zip(found) {
                        to[row] = quad;
                    }
                }
                let mut chunk_sum = 0;
                for (b, sum) in sums_of_16(isa, &codes).into_iter().take(blocks.len()).enumerate() {
                    let b = c * (CHUNK / 16) + b;
                    sums16[b * width + row] = sum;
                    sums32[b / 2 * width + row] += sum;
                    chunk_sum += sum;
                }
                sums256[c * width + row] = chunk_sum;
            }
        }
    }
}

/// The sums of each 16 of a chunk's codes.
#[inline(always)]
fn sums_of_16<I: Isa>(isa: I, codes: &[Line; CHUNK / 64]) -> [i32; CHUNK / 16] {
    let mut fours = [[0; 16]; CHUNK / 64];
    for (line, fours) in codes.iter().zip(&mut fours) {
        // As unsigned bytes, each is 128 too large.
        let bytes = isa.add_b(isa.load_b(line), i8::MIN);
        *fours = isa.lanes(isa.dot(isa.splat_i(-4 * 128), bytes, 0x0101_0101));
    }
    let fours: &[[i32; 4]; CHUNK / 16] = bytemuck::cast_ref(&fours);
    let mut sums = [0; CHUNK / 16];
    for (sum, [a, b, c, d]) in sums.iter_mut().zip(fours) {
        *sum = a + b + c + d;
    }
    sums
}

/// `(absmax / 127, 127 / absmax)`, or zeros where every value is zero.
#[inline(always)]
pub(crate) fn chunk_scale<I: Isa>(isa: I, blocks: &[[f32; 16]]) -> (f32, f32) {
    let mut largest = isa.splat(0.0);
    for block in blocks {
        largest = isa.max(isa.abs(isa.load(block)), largest);
    }
    match isa.max_lane(largest) {
        0.0 => (0.0, 0.0),
        absmax => (absmax / 127.0, 127.0 / absmax),
    }
}

/// `(absmax / 127, 127 / absmax)` of a row of any length, absmax at least [`LEAST_ROW_MAX`].
#[inline(always)]
fn row_scale<I: Isa>(isa: I, row: &[f32]) -> (f32, f32) {
    let (blocks, tail) = row.as_chunks::<16>();
    let mut largest = isa.splat(LEAST_ROW_MAX);
    for block in blocks {
        largest = isa.max(isa.abs(isa.load(block)), largest);
    }
    let absmax = tail.iter().fold(isa.max_lane(largest), |m, x| m.max(x.abs()));
    (absmax / 127.0, 127.0 / absmax)
}

impl ScaleOver {
    /// The scale of a whole row and its inverse, where its chunks share one.
    #[inline(always)]
    fn whole<I: Isa>(self, isa: I, row: &[f32]) -> Option<(f32, f32)> {
        match self {
            ScaleOver::Chunk => None,
            ScaleOver::Row => Some(row_scale(isa, row)),
            ScaleOver::All(absmax) => Some((absmax / 127.0, 127.0 / absmax)),
        }
    }
}

/// Each lane between -127 and 127; what is no number stays none.
#[inline(always)]
fn clipped<I: Isa>(isa: I, x: I::F) -> I::F {
    let (least, most) = (isa.splat(-127.0), isa.splat(127.0));
    let x = isa.select_lt(x, least, least, x);
    isa.select_lt(most, x, most, x)
}

/// Rounds rows to int8 codes with a scale per row, or one for all, and back, in place: what layers
/// that see int8 codes compute with when their weights are floats. Chunks stay as they are.
pub struct RoundRows<'a> {
    /// What shares a scale.
    pub over: ScaleOver,
    /// Values per row.
    pub cols: usize,
    /// The rows, `[n, cols]`.
    pub x: &'a mut [f32],
}

impl Kernel for RoundRows<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for row in self.x.chunks_exact_mut(self.cols) {
            let Some((scale, inverse)) = self.over.whole(isa, row) else { return };
            let is_clipped = matches!(self.over, ScaleOver::All(_));
            let (blocks, tail) = row.as_chunks_mut::<16>();
            for block in blocks {
                let code = isa.mul(isa.load(block), isa.splat(inverse));
                let code = if is_clipped { clipped(isa, code) } else { code };
                isa.store(isa.mul(isa.round(code), isa.splat(scale)), block);
            }
            for x in tail {
                *x = (*x * inverse).clamp(-127.0, 127.0).round_ties_even() * scale;
            }
        }
    }
}

/// Lays `[width, cols]` rows side by side as `[cols][width]`, for float encodings.
pub fn interleave(x: &[f32], width: usize, cols: usize, out: &mut [f32]) {
    if width == 1 {
        out[..cols].copy_from_slice(&x[..cols]);
        return;
    }
    for row in 0..width {
        for (k, &value) in x[row * cols..][..cols].iter().enumerate() {
            out[k * width + row] = value;
        }
    }
}

/// Float rows, read by kernels: tile by tile `[col][row of tile]`.
#[derive(Clone, Copy, Debug)]
pub struct FloatActs<'a> {
    /// Values per row.
    pub cols: usize,
    /// Rows.
    pub n_rows: usize,
    /// `n_rows * cols` values.
    pub values: &'a [f32],
}

impl<'a> FloatActs<'a> {
    /// The `[cols][width]` values of the tile that starts at row `first`.
    #[inline(always)]
    pub fn tile(&self, first: usize, width: usize) -> &'a [f32] {
        &self.values[first * self.cols..][..width * self.cols]
    }
}

/// Columns whose products are added up before they join the sum, in layers that compute with bf16.
pub const BF16_BLOCK: usize = 32;

/// Words per row of bf16 activations: two numbers each, whole blocks.
pub fn bf16_words(cols: usize) -> usize {
    cols.div_ceil(BF16_BLOCK) * BF16_BLOCK / 2
}

/// A value as bf16: rounded to nearest, ties to even, and to zero where that is subnormal.
#[inline(always)]
pub fn to_bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1))) >> 16;
    let not_a_number = bits >> 16 | 0x40;
    let flushed = if rounded & 0x7f80 == 0 { rounded & 0x8000 } else { rounded };
    if x.is_nan() { not_a_number } else { flushed }
}

/// Rounds rows to bf16 and lays them out for the kernels: tile by tile `[word][row of tile]`, or
/// where a tile unit will take them all, `[block][row of tile][word]`.
///
/// A block is [`BF16_BLOCK`] columns in two chains of 16, missing columns being zeros. Words hold
/// two numbers of one chain, the first in the upper half, and chains take turns; the tile unit's
/// words hold a number of each chain, the first's in the lower half.
pub struct RoundToBf16<'a> {
    /// Values per row.
    pub cols: usize,
    /// Rows of the whole call.
    pub n_rows: usize,
    /// Some of them, `[n, cols]`, from a full tile's first on.
    pub x: &'a [f32],
    /// `n * bf16_words(cols)` words.
    pub words: &'a mut [i32],
}

impl Kernel for RoundToBf16<'_> {
    type Out = ();
    const UNITS: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, _isa: I) {
        let Self { cols, n_rows, x, words } = self;
        let by_row = I::TILES && takes_tiles(n_rows);
        let len = bf16_words(cols);
        for (first, width) in tiles_by(x.len() / cols, by_row) {
            let words = &mut words[first * len..][..width * len];
            for (row, x) in x[first * cols..][..width * cols].chunks_exact(cols).enumerate() {
                let (blocks, rest) = x.as_chunks::<BF16_BLOCK>();
                let mut last = [0.0; BF16_BLOCK];
                last[..rest.len()].copy_from_slice(rest);
                let blocks = blocks.iter().chain((!rest.is_empty()).then_some(&last));
                for (x, words) in blocks.zip(words.chunks_exact_mut(16 * width)) {
                    let columns = x.map(to_bf16);
                    if by_row {
                        let to = words[row * 16..].first_chunk_mut::<16>().expect("a row's words");
                        *to = std::array::from_fn(|k| (columns[k] | columns[k + 16] << 16) as i32);
                    } else {
                        for (k, to) in words[row..].iter_mut().step_by(width).enumerate() {
                            let at = k % 2 * 16 + k / 2 * 2;
                            *to = (columns[at] << 16 | columns[at + 1]) as i32;
                        }
                    }
                }
            }
        }
    }
}

/// Whether the tile unit, where there is one, takes so many rows of bf16: with fewer, reading
/// weights takes longer than computing on vectors. (Compared: 8 rows on vectors, 12 on tiles.)
#[inline(always)]
pub fn takes_tiles(n_rows: usize) -> bool {
    n_rows > 4
}

/// Rows in bf16, read by kernels; see [`RoundToBf16`].
#[derive(Clone, Copy, Debug)]
pub struct Bf16Acts<'a> {
    /// Values per row.
    pub cols: usize,
    /// Rows.
    pub n_rows: usize,
    /// `n_rows * bf16_words(cols)` words.
    pub words: &'a [i32],
}
