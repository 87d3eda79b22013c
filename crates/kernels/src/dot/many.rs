//! Block formats against many rows: two panels at a time, a chunk of 256 columns unpacked to one
//! byte a code and used by every tile of rows while it is in the first cache.
//!
//! A tile's dots stay in registers; its sums over chunks wait in scratch while other tiles pass.

mod tile;
mod vector;
pub mod words;

use super::{Blocks, LinearCall, PANEL};
use crate::acts::{CHUNK, QuantActs, QuantTile, tiles};
use crate::isa::{Isa, Line, TILE_ROWS};
use vector::Part;

/// Rows whose sums wait in scratch at a time: whole tiles, whose sums fit the second cache.
const ROWS: usize = 264;

/// Panels that share the loads of activations.
const PAIR: usize = 2;

/// Quads in a chunk.
const QUADS: usize = CHUNK / 4;

/// The most groups in a chunk.
const GROUPS: usize = CHUNK / 16;

/// Lines of an unpacked chunk: codes, then scales, then mins, each with the pair side by side.
const BLOCK: usize = PAIR * (QUADS + 2 * GROUPS);

/// Lines of what a tile's groups add: see [`Corrections`].
const CORRECTIONS: usize = GROUPS * 12 / 16;

/// Lines of scratch that [`linear`] needs.
pub const SCRATCH: usize = BLOCK + CORRECTIONS + PAIR * ROWS;

/// A pair of panels' chunk, one byte a code.
struct Block<'a> {
    codes: &'a [[Line; PAIR]],
    scales: &'a [[Line; PAIR]],
    mins: &'a [[Line; PAIR]],
}

/// Computes the call's panels for all rows.
#[inline(always)]
pub fn linear<I: Isa, B: Blocks>(isa: I, call: &mut LinearCall<'_>, acts: &QuantActs<'_>) {
    let scratch = std::mem::take(&mut call.scratch);
    let (work, sums) = scratch[..SCRATCH].split_at_mut(BLOCK + CORRECTIONS);
    let (block, corrections) = work.split_at_mut(BLOCK);
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
                if let Some(unit) = unit.as_ref().filter(|_| n_tiled > 0) {
                    let block = unpack::<I, B>(isa, pair, call, c, call.code_min, block);
                    for at in (0..n_tiled).step_by(TILE_ROWS) {
                        let tile = acts.tile(first + at, TILE_ROWS);
                        let next = (acts.layout.ints() + c * QUADS) * TILE_ROWS;
                        let sums = &mut sums[at..];
                        tile::pass::<I, B>(isa, unit, &block, &tile, c, next, sums);
                    }
                }
                if n_tiled == n_rows {
                    continue;
                }
                let block = unpack::<I, B>(isa, pair, call, c, 0, block);
                for (at, width) in tiles(n_rows).filter(|&(at, _)| at >= n_tiled) {
                    let tile = acts.tile(first + at, width);
                    let sums = &mut sums[at..at + width];
                    let corrections: &mut [i32] = bytemuck::cast_slice_mut(corrections);
                    chunk::<I, B>(isa, &block, &tile, c, call.code_min, corrections, sums);
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
    let (codes, rest) = block.split_at_mut(QUADS);
    let (scales, mins) = rest.split_at_mut(GROUPS);
    if pair.len() == panel_lines {
        for lines in codes.iter_mut().chain(&mut *scales).chain(&mut *mins) {
            lines[1] = Line::ZERO;
        }
    }
    let chunk_lines = B::HEADER_LINES + CHUNK / 16 * B::UNIT_LINES;
    for (p, panel) in pair.chunks_exact(panel_lines).enumerate() {
        let chunk = &panel[c * chunk_lines..][..B::HEADER_LINES + n_units * B::UNIT_LINES];
        // The next chunk comes from memory while this one is multiplied.
        (0..chunk_lines).for_each(|line| isa.prefetch(chunk, chunk_lines + line));
        let (header, units) = chunk.split_at(B::HEADER_LINES);
        for g in 0..n_groups {
            isa.store(B::scale(isa, header, g), scales[g][p].floats_mut());
            if B::HAS_MIN {
                isa.store(B::min(isa, header, g), mins[g][p].floats_mut());
            }
        }
        let quads = codes.as_chunks_mut::<4>().0;
        for (unit, quads) in units.chunks_exact(B::UNIT_LINES).zip(quads) {
            let bytes = B::unit(isa, unit);
            for q in 0..4 {
                isa.store_b(isa.add_b(bytes[q], add as i8), &mut quads[q][p]);
            }
        }
    }
    Block { codes: &codes[..n_units * 4], scales: &scales[..n_groups], mins: &mins[..n_groups] }
}

/// Adds a chunk's part to the sums of a tile, in as many passes as its registers ask for.
#[inline(always)]
fn chunk<I: Isa, B: Blocks>(
    isa: I,
    block: &Block<'_>,
    tile: &QuantTile<'_>,
    c: usize,
    code_min: i32,
    corrections: &mut [i32],
    sums: &mut [[Line; PAIR]],
) {
    match sums.len() {
        1 => {
            let part = Part::<1>::new::<B>(tile, c, block, code_min, corrections);
            part.pass::<I, B, 0, 1, 2>(isa, block, sums, 0);
        }
        2 => {
            let part = Part::<2>::new::<B>(tile, c, block, code_min, corrections);
            part.pass::<I, B, 0, 2, 2>(isa, block, sums, 0);
        }
        4 => {
            let part = Part::<4>::new::<B>(tile, c, block, code_min, corrections);
            if I::REGISTERS >= 32 {
                part.pass::<I, B, 0, 4, 2>(isa, block, sums, 0);
            } else {
                part.pass::<I, B, 0, 4, 1>(isa, block, sums, 0);
                part.pass::<I, B, 0, 4, 1>(isa, block, sums, 1);
            }
        }
        _ => {
            let part = Part::<12>::new::<B>(tile, c, block, code_min, corrections);
            if I::REGISTERS >= 32 && B::GROUP == 256 {
                part.pass::<I, B, 0, 12, 2>(isa, block, sums, 0);
            } else if I::REGISTERS >= 32 {
                part.pass::<I, B, 0, 6, 2>(isa, block, sums, 0);
                part.pass::<I, B, 6, 6, 2>(isa, block, sums, 0);
            } else {
                for panel in 0..PAIR {
                    part.pass::<I, B, 0, 4, 1>(isa, block, sums, panel);
                    part.pass::<I, B, 4, 4, 1>(isa, block, sums, panel);
                    part.pass::<I, B, 8, 4, 1>(isa, block, sums, panel);
                }
            }
        }
    }
}

const _: () = assert!(ROWS.is_multiple_of(12) && PANEL == 16);
