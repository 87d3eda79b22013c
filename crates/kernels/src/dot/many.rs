//! Block formats against many rows: two panels at a time, a chunk of 256 columns unpacked to one
//! byte a code and used by every tile of rows while it is in the first cache.
//!
//! A tile's dots stay in registers; its sums over chunks wait in scratch while other tiles pass.

mod tile;
mod vector;
pub mod words;

use super::{Blocks, LinearCall, PANEL};
use crate::acts::{CHUNK, QuantActs, QuantTile, tiles};
use crate::isa::{Isa, Line, TILE_ROWS, short_dots};
use std::ops::Range;
use vector::Part;

/// Rows whose sums wait in scratch at a time: whole tiles, whose sums fit the second cache.
const ROWS: usize = 264;

/// Panels that share the loads of activations.
const PAIR: usize = 2;

/// Quads in a chunk.
const QUADS: usize = CHUNK / 4;

/// The most groups in a chunk.
const GROUPS: usize = CHUNK / 16;

/// Lines of an unpacked chunk: codes of up to 16 bits, then scales, then mins, each with the pair
/// side by side.
const BLOCK: usize = PAIR * (2 * QUADS + 2 * GROUPS);

/// Lines of a tile's quads in a chunk.
const TILE_QUADS: usize = QUADS * TILE_ROWS / 16;

/// Lines of scratch for a tile's chunk: its groups' corrections, its even and its odd codes.
const TILE_WORK: usize = GROUPS * TILE_ROWS / 16 + 2 * TILE_QUADS;

/// Lines of scratch that [`linear`] needs.
pub const SCRATCH: usize = BLOCK + TILE_WORK + PAIR * ROWS;

/// A pair of panels' chunk.
struct Block<'a> {
    /// Four codes of a row in a byte each, or the even and then the odd ones in 16 bits: [`parts`].
    codes: &'a [[Line; PAIR]],
    scales: &'a [[Line; PAIR]],
    mins: &'a [[Line; PAIR]],
}

/// What is asked for while a chunk is multiplied, so that it has come from memory when it is
/// unpacked: as many lines of either panel as a chunk has, from half a chunk beyond the next one's
/// first on, for those asked for last are to have time as well. All at once they would hold up what
/// they are to go beside, since a core waits for few lines at a time; so each step of a tile asks
/// for some.
#[derive(Clone)]
struct Ahead<'a> {
    pair: &'a [Line],
    panel_lines: usize,
    /// Lines of either panel, counted on into the next pair.
    lines: Range<usize>,
    /// All rows' codes.
    ints: &'a [i32],
    /// Of them, the chunk of the tile that comes next: the hardware does not guess where it is.
    next: Range<usize>,
}

impl<'a> Ahead<'a> {
    /// While chunk `c` is multiplied.
    #[inline(always)]
    fn new<B: Blocks>(
        pair: &'a [Line],
        call: &LinearCall<'_>,
        acts: &QuantActs<'a>,
        c: usize,
    ) -> Self {
        let chunk_lines = B::HEADER_LINES + CHUNK / 16 * B::UNIT_LINES;
        let first = (c + 1) * chunk_lines + chunk_lines / 2;
        let lines = first..first + chunk_lines;
        Self { pair, panel_lines: call.panel_lines, lines, ints: acts.ints, next: 0..0 }
    }

    /// Part `i` of `n`.
    #[inline(always)]
    fn part(&self, i: usize, n: usize) -> Self {
        self.parts(i..i + 1, n)
    }

    /// Some of `n` parts.
    #[inline(always)]
    fn parts(&self, parts: Range<usize>, n: usize) -> Self {
        let part = |all: &Range<usize>| {
            let at = |part: usize| all.start + part * all.len() / n;
            at(parts.start)..at(parts.end)
        };
        Self { lines: part(&self.lines), next: part(&self.next), ..*self }
    }

    #[inline(always)]
    fn ask<I: Isa>(&self, isa: I) {
        for line in self.lines.clone() {
            let at = if line < self.panel_lines { line } else { line + self.panel_lines };
            isa.prefetch(self.pair, at);
            isa.prefetch(self.pair, at + self.panel_lines);
        }
        for at in self.next.clone().step_by(16) {
            isa.prefetch(self.ints, at);
        }
    }
}

/// How many lines a quad is multiplied as: its even and its odd codes apart, signed and in 16 bits,
/// where codes are too large for this ISA's short sums.
const fn parts<I: Isa, B: Blocks>() -> usize {
    if short_dots::<I>(B::MAX_CODE) == 0 { 2 } else { 1 }
}

/// Computes the call's panels for all rows.
#[inline(always)]
pub fn linear<I: Isa, B: Blocks>(isa: I, call: &mut LinearCall<'_>, acts: &QuantActs<'_>) {
    let scratch = std::mem::take(&mut call.scratch);
    let (block, rest) = scratch[..SCRATCH].split_at_mut(BLOCK);
    let (work, sums) = rest.split_at_mut(TILE_WORK);
    let sums = sums.as_chunks_mut::<PAIR>().0;
    let unit = isa.tiles(B::GROUP / 4);
    for first in (0..acts.n_rows).step_by(ROWS) {
        let n_rows = ROWS.min(acts.n_rows - first);
        for (p, pair) in call.lines.chunks(PAIR * call.panel_lines).enumerate() {
            let sums = &mut sums[..n_rows];
            sums.fill([Line::ZERO; PAIR]);
            for c in 0..call.cols.div_ceil(CHUNK) {
                // The tile unit takes the full tiles; the codes it multiplies are signed.
                let n_tiled = if unit.is_some() { n_rows / TILE_ROWS * TILE_ROWS } else { 0 };
                let ahead = Ahead::new::<B>(pair, call, acts, c);
                if let Some(unit) = unit.as_ref().filter(|_| n_tiled > 0) {
                    let block = unpack::<I, B>(isa, pair, call, c, call.code_min, block);
                    for at in (0..n_tiled).step_by(TILE_ROWS) {
                        let tile = acts.tile(first + at, TILE_ROWS);
                        let next = (acts.layout.ints() + c * QUADS) * TILE_ROWS;
                        let ahead = ahead.part(at / TILE_ROWS, n_tiled / TILE_ROWS);
                        let sums = &mut sums[at..];
                        tile::pass::<I, B>(isa, unit, &block, &tile, c, (next, &ahead), sums);
                    }
                }
                if n_tiled == n_rows {
                    continue;
                }
                let add = if parts::<I, B>() == 2 { call.code_min } else { 0 };
                let block = unpack::<I, B>(isa, pair, call, c, add, block);
                for (at, width) in tiles(n_rows).filter(|&(at, _)| at >= n_tiled) {
                    // The tile unit has asked already.
                    let rows = if n_tiled == 0 { at..at + width } else { 0..0 };
                    let mut ahead = ahead.parts(rows, n_rows);
                    let after = at + width;
                    let next_width = tiles(n_rows - after).next().map_or(0, |(_, width)| width);
                    let next = (first + after) * acts.layout.ints() + c * QUADS * next_width;
                    ahead.next = next..next + QUADS * next_width;
                    let tile = acts.tile(first + at, width);
                    let sums = &mut sums[at..at + width];
                    chunk::<I, B>(isa, &block, &tile, c, (call.code_min - add, &ahead), work, sums);
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                for (panel, sum) in sums.iter().take(pair.len() / call.panel_lines).enumerate() {
                    let sum = isa.load(sum.floats());
                    call.out.store(isa, sum, first + row, p * PAIR + panel, call.accumulate);
                }
            }
        }
    }
    call.scratch = scratch;
}

/// Unpacks chunk `c` of one or two panels, `add` added to the codes. A missing second panel is
/// zeros: its sums are not used.
#[inline(always)]
fn unpack<'b, I: Isa, B: Blocks>(
    isa: I,
    pair: &[Line],
    call: &LinearCall<'_>,
    c: usize,
    add: i32,
    block: &'b mut [Line],
) -> Block<'b> {
    let LinearCall { cols, panel_lines, .. } = *call;
    let n_units = (CHUNK / 16).min((cols - c * CHUNK) / 16);
    let n_groups = n_units * 16 / B::GROUP;
    let block = block.as_chunks_mut::<PAIR>().0;
    let (codes, rest) = block.split_at_mut(parts::<I, B>() * QUADS);
    let (scales, mins) = rest.split_at_mut(GROUPS);
    if pair.len() == panel_lines {
        for lines in codes.iter_mut().chain(&mut *scales).chain(&mut *mins) {
            lines[1] = Line::ZERO;
        }
    }
    let chunk_lines = B::HEADER_LINES + CHUNK / 16 * B::UNIT_LINES;
    for (p, panel) in pair.chunks_exact(panel_lines).enumerate() {
        let chunk = &panel[c * chunk_lines..][..B::HEADER_LINES + n_units * B::UNIT_LINES];
        let (header, units) = chunk.split_at(B::HEADER_LINES);
        for g in 0..n_groups {
            isa.store(B::scale(isa, header, g), scales[g][p].floats_mut());
            if B::HAS_MIN {
                isa.store(B::min(isa, header, g), mins[g][p].floats_mut());
            }
        }
        let quads = codes.chunks_exact_mut(4 * parts::<I, B>());
        for (unit, quads) in units.chunks_exact(B::UNIT_LINES).zip(quads) {
            let bytes = B::unit(isa, unit);
            for q in 0..4 {
                let bytes = isa.add_b(bytes[q], add as i8);
                if parts::<I, B>() == 1 {
                    isa.store_b(bytes, &mut quads[q][p]);
                } else {
                    isa.store_b(isa.even(bytes), &mut quads[2 * q][p]);
                    isa.store_b(isa.odd(bytes), &mut quads[2 * q + 1][p]);
                }
            }
        }
    }
    let codes = &codes[..n_units * 4 * parts::<I, B>()];
    Block { codes, scales: &scales[..n_groups], mins: &mins[..n_groups] }
}

/// Adds a chunk's part to the sums of a tile, in as many passes as its registers ask for.
#[inline(always)]
fn chunk<I: Isa, B: Blocks>(
    isa: I,
    block: &Block<'_>,
    tile: &QuantTile<'_>,
    c: usize,
    (code_min, ahead): (i32, &Ahead<'_>),
    work: &mut [Line],
    sums: &mut [[Line; PAIR]],
) {
    match sums.len() {
        1 => {
            let part = Part::<1>::new::<I, B>(isa, tile, c, block, code_min, work);
            part.pass::<I, B, 0, 1, 2>(isa, block, ahead, sums, 0);
        }
        2 => {
            let part = Part::<2>::new::<I, B>(isa, tile, c, block, code_min, work);
            part.pass::<I, B, 0, 2, 2>(isa, block, ahead, sums, 0);
        }
        4 => {
            let part = Part::<4>::new::<I, B>(isa, tile, c, block, code_min, work);
            if I::REGISTERS >= 32 {
                part.pass::<I, B, 0, 4, 2>(isa, block, ahead, sums, 0);
            } else {
                part.pass::<I, B, 0, 4, 1>(isa, block, &ahead.part(0, 2), sums, 0);
                part.pass::<I, B, 0, 4, 1>(isa, block, &ahead.part(1, 2), sums, 1);
            }
        }
        _ => {
            let part = Part::<12>::new::<I, B>(isa, tile, c, block, code_min, work);
            if I::REGISTERS >= 32 && B::GROUP == 256 {
                part.pass::<I, B, 0, 12, 2>(isa, block, ahead, sums, 0);
            } else if I::REGISTERS >= 32 {
                part.pass::<I, B, 0, 6, 2>(isa, block, &ahead.part(0, 2), sums, 0);
                part.pass::<I, B, 6, 6, 2>(isa, block, &ahead.part(1, 2), sums, 0);
            } else {
                // Dots and totals of three rows stay in registers; those of four would not.
                for panel in 0..PAIR {
                    let ahead = &ahead.part(panel, PAIR);
                    part.pass::<I, B, 0, 3, 1>(isa, block, &ahead.part(0, 4), sums, panel);
                    part.pass::<I, B, 3, 3, 1>(isa, block, &ahead.part(1, 4), sums, panel);
                    part.pass::<I, B, 6, 3, 1>(isa, block, &ahead.part(2, 4), sums, panel);
                    part.pass::<I, B, 9, 3, 1>(isa, block, &ahead.part(3, 4), sums, panel);
                }
            }
        }
    }
}

const _: () = assert!(ROWS.is_multiple_of(12) && PANEL == 16);
