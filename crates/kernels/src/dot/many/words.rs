//! Formats that sum in f32 against many rows: two panels at a time, a chunk of columns unpacked
//! into the first cache and used by every tile of rows.
//!
//! A worker's panels go in groups: each chunk of the rows is used by the whole group before the
//! next, so rows that the second cache does not hold are read once a group. A tile's sums wait in
//! scratch while other chunks pass. What is summed in which order is the format's own.

use crate::acts::{TILES, tiles_by};
use crate::dot::LinearCall;
use crate::isa::{Isa, Line};

/// Rows whose sums wait in scratch at a time: whole tiles.
const ROWS: usize = 264;

/// Panels that share the loads of activations.
pub const PAIR: usize = 2;

/// Pairs of panels in a group, whose sums fit the second cache.
const GROUP: usize = 4;

/// Lines of an unpacked chunk: what fits the first cache beside a tile's activations.
const BLOCK: usize = PAIR * 128;

/// Lines of scratch that [`linear`] needs.
pub const SCRATCH: usize = BLOCK + GROUP * PAIR * ROWS;

/// A format whose weights are words: 4 bytes to a row, against 4 bytes of activations each.
pub trait Words: Sync + 'static {
    /// Words of each row in a packed line.
    const PER_LINE: usize;
    /// Words of each row that are unpacked at a time.
    const CHUNK: usize;

    /// The tile unit, where it takes so many rows.
    fn unit<I: Isa>(isa: I, n_rows: usize) -> Option<I::Tiles>;

    /// Unpacks one panel's chunk to `[p]` of each word of the block, for the tile unit or for
    /// vectors.
    fn unpack<I: Isa>(isa: I, packed: &[Line], block: &mut [[Line; PAIR]], p: usize, tiled: bool);

    /// Adds a chunk's part to the sums of a tile of rows, `x` being the tile's.
    fn pass<I: Isa>(
        isa: I,
        unit: Option<&I::Tiles>,
        block: &[[Line; PAIR]],
        x: &[i32],
        ask: Ask<'_>,
        sums: &mut [[Line; PAIR]],
    );
}

/// Weights that a pass asks for, as it goes, from memory: lines of the chunk after this one.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    lines: &'a [Line],
    at: usize,
    /// From one panel of the pair to the other.
    panel_lines: usize,
    /// Lines of each panel.
    share: usize,
    /// The pass's words over them, as a power of two.
    shift: u32,
    words: &'a [i32],
    /// Where the next tile's part of the chunk begins: no hardware guesses that it will be read.
    next: usize,
}

impl Ask<'_> {
    /// Asks for all that is due in a pass over so many words of a tile.
    #[inline(always)]
    pub fn all<I: Isa>(&self, isa: I, n_words: usize) {
        (0..n_words).step_by(16).for_each(|word| isa.prefetch(self.words, self.next + word));
        for line in self.at..self.at + self.share {
            isa.prefetch(self.lines, line);
            isa.prefetch(self.lines, line + self.panel_lines);
        }
    }

    /// Asks for what is due at a word of a pass over a tile of so many rows.
    #[inline(always)]
    pub fn at_word<I: Isa>(&self, isa: I, word: usize, width: usize) {
        isa.prefetch(self.words, self.next + word * width);
        let at = self.at + (word >> self.shift);
        isa.prefetch(self.lines, at);
        isa.prefetch(self.lines, at + self.panel_lines);
    }
}

/// Rows prepared for such a format: tile by tile `[word][row of tile]`.
#[derive(Clone, Copy)]
pub struct WordActs<'a> {
    /// Words per row.
    pub len: usize,
    /// Rows.
    pub n_rows: usize,
    /// `n_rows * len` words.
    pub words: &'a [i32],
}

/// Computes the call's panels for all rows.
#[inline(always)]
pub fn linear<I: Isa, W: Words>(isa: I, call: &mut LinearCall<'_>, acts: &WordActs<'_>) {
    let scratch = std::mem::take(&mut call.scratch);
    let (block, sums) = scratch[..SCRATCH].split_at_mut(BLOCK);
    let block = block.as_chunks_mut::<PAIR>().0;
    let sums = sums.as_chunks_mut::<PAIR>().0;
    let group_lines = GROUP * PAIR * call.panel_lines;
    let unit = W::unit(isa, acts.n_rows);
    for first in (0..acts.n_rows).step_by(ROWS) {
        let n_rows = ROWS.min(acts.n_rows - first);
        for at in (0..call.lines.len()).step_by(group_lines) {
            let n_panels = (call.lines.len() - at).min(group_lines) / call.panel_lines;
            let n_pairs = n_panels.div_ceil(PAIR);
            let sums = &mut sums[..n_pairs * n_rows];
            sums.fill([Line::ZERO; PAIR]);
            for i in 0..n_pairs * acts.len.div_ceil(W::CHUNK) {
                let (chunk, pair) = (i / n_pairs, i % n_pairs);
                let sums = &mut sums[pair * n_rows..][..n_rows];
                let place = Place { first, at, chunk, pair, n_pairs };
                one_chunk::<I, W>(isa, unit.as_ref(), call, acts, place, block, sums);
            }
            for row in 0..n_rows {
                for panel in 0..n_panels {
                    let sum = &sums[panel / PAIR * n_rows + row][panel % PAIR];
                    let (sum, panel) = (isa.load(sum.floats()), at / call.panel_lines + panel);
                    call.out.store(isa, sum, first + row, panel, call.accumulate);
                }
            }
        }
    }
    call.scratch = scratch;
}

/// Where the work is: rows from `first` on, the group of panels at line `at`, a chunk of a pair.
#[derive(Clone, Copy)]
struct Place {
    first: usize,
    at: usize,
    chunk: usize,
    pair: usize,
    n_pairs: usize,
}

impl Place {
    /// The first line of its chunk.
    fn line<W: Words>(self, panel_lines: usize) -> usize {
        self.at + self.pair * PAIR * panel_lines + self.chunk * (W::CHUNK / W::PER_LINE)
    }

    /// The chunk that is used after this one.
    fn next(self, n_chunks: usize) -> Self {
        match (self.pair + 1 < self.n_pairs, self.chunk + 1 < n_chunks) {
            (true, _) => Self { pair: self.pair + 1, ..self },
            (_, true) => Self { pair: 0, chunk: self.chunk + 1, ..self },
            // The pair after the group, which this worker or another reads soon.
            _ => Self { pair: self.n_pairs, chunk: 0, ..self },
        }
    }
}

/// Unpacks a chunk of a pair and adds it to the sums of every row.
#[inline(always)]
fn one_chunk<I: Isa, W: Words>(
    isa: I,
    unit: Option<&I::Tiles>,
    call: &LinearCall<'_>,
    acts: &WordActs<'_>,
    place: Place,
    block: &mut [[Line; PAIR]],
    sums: &mut [[Line; PAIR]],
) {
    let panel_lines = call.panel_lines;
    let n_words = W::CHUNK.min(acts.len - place.chunk * W::CHUNK);
    let block = &mut block[..n_words];
    let group_end = call.lines.len().min(place.at + place.n_pairs * PAIR * panel_lines);
    for p in 0..PAIR {
        let start = place.line::<W>(panel_lines) + p * panel_lines;
        if start < group_end {
            let packed = &call.lines[start..][..n_words.div_ceil(W::PER_LINE)];
            W::unpack(isa, packed, block, p, unit.is_some());
        } else {
            block.iter_mut().for_each(|lines| lines[p] = Line::ZERO);
        }
    }
    let n_rows = sums.len();
    let next = place.next(acts.len.div_ceil(W::CHUNK)).line::<W>(panel_lines);
    let n_tiles = n_rows.div_ceil(TILES[0]);
    // Each tile asks for a share of the next chunk's lines, a few words apart.
    let share = (W::CHUNK / W::PER_LINE).div_ceil(n_tiles);
    let shift = (W::CHUNK / share).ilog2();
    for (t, (at, width)) in tiles_by(n_rows, unit.is_some()).enumerate() {
        let from = (place.first + at) * acts.len + place.chunk * W::CHUNK * width;
        let x = &acts.words[from..][..n_words * width];
        let (words, at_line) = (acts.words, next + t * share);
        let next = from + width * acts.len;
        let ask = Ask { lines: call.lines, at: at_line, panel_lines, share, shift, words, next };
        W::pass(isa, unit, block, x, ask, &mut sums[at..at + width]);
    }
}

const _: () = assert!(ROWS.is_multiple_of(TILES[0]));
