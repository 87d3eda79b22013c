//! A full tile of rows against a pair of panels by the tile unit.

use super::{Ahead, Block, PAIR, QUADS};
use crate::acts::{CHUNK, QuantTile};
use crate::dot::Blocks;
use crate::isa::{Isa, Line, TILE_ROWS, TileOut, TileUnit};
use std::marker::PhantomData;

/// Adds chunk `c` to the tile's sums, which the next tile's follow. The block's codes are signed.
/// `next` is where the next tile's part of the chunk begins, counted from this tile's first quad,
/// and what is asked for of the next chunk: no hardware guesses that they will be read.
#[inline(always)]
pub fn pass<I: Isa, B: Blocks>(
    isa: I,
    unit: &I::Tiles,
    block: &Block<'_>,
    tile: &QuantTile<'_>,
    c: usize,
    (next, ahead): (usize, &Ahead<'_>),
    sums: &mut [[Line; PAIR]],
) {
    let stride = block.codes.len();
    let quads = &tile.quads[c * QUADS * TILE_ROWS..][..stride * TILE_ROWS];
    let total = [[isa.splat(0.0); TILE_ROWS]; PAIR];
    let mut part = Part::<I, B> { isa, block, tile, c, total, format: PhantomData };
    let mut dots: [TileOut; 2] = [[[Line::ZERO; TILE_ROWS]; PAIR]; 2];
    let n_groups = block.scales.len();
    let group_quads = B::GROUP / 4;
    let rows = |g: usize| &quads[g * group_quads..];
    let codes = |g: usize| &block.codes[g * group_quads..][..group_quads];
    // Asks for what the next tile reads where this one reads these groups: 16 quads to a line.
    let ask = |first: usize, n_of: usize| {
        let group = group_quads * TILE_ROWS;
        for line in 0..n_of * group / 16 {
            isa.prefetch(tile.quads, next + first * group + line * 16);
        }
        (first..first + n_of).for_each(|g| ahead.part(g, n_groups).ask(isa));
    };
    if group_quads > 16 {
        for g in 0..n_groups {
            unit.dots(rows(g), stride, codes(g), &mut dots[g % 2]);
            ask(g, 1);
            part.add(g, &dots[g % 2]);
        }
    } else {
        for g in (0..n_groups - n_groups % 2).step_by(2) {
            unit.dots_of_two([rows(g), rows(g + 1)], stride, [codes(g), codes(g + 1)], &mut dots);
            ask(g, 2);
            part.add(g, &dots[0]);
            part.add(g + 1, &dots[1]);
        }
        if !n_groups.is_multiple_of(2) {
            unit.dots(rows(n_groups - 1), stride, codes(n_groups - 1), &mut dots[0]);
            part.add(n_groups - 1, &dots[0]);
        }
    }
    let scales = tile.scales[c * TILE_ROWS..].first_chunk::<TILE_ROWS>().expect("one a row");
    for t in 0..TILE_ROWS {
        for p in 0..PAIR {
            let sum = sums[t][p].floats_mut();
            isa.store(isa.fma(part.total[p][t], isa.splat(scales[t]), isa.load(sum)), sum);
        }
    }
}

/// The chunk's sums in weight units, before the activations' scale.
struct Part<'a, I: Isa, B> {
    isa: I,
    block: &'a Block<'a>,
    tile: &'a QuantTile<'a>,
    c: usize,
    total: [[I::F; TILE_ROWS]; PAIR],
    format: PhantomData<B>,
}

impl<I: Isa, B: Blocks> Part<'_, I, B> {
    /// Adds the dots of group `g`.
    #[inline(always)]
    fn add(&mut self, g: usize, dots: &TileOut) {
        let isa = self.isa;
        for p in 0..PAIR {
            let scale = isa.load(self.block.scales[g][p].floats());
            for t in 0..TILE_ROWS {
                let dot = isa.to_f(isa.as_i(isa.load_b(&dots[p][t])));
                self.total[p][t] = isa.fma(dot, scale, self.total[p][t]);
            }
            if B::HAS_MIN {
                let min = isa.load(self.block.mins[g][p].floats());
                let sums = self.tile.sums_of(B::GROUP).as_chunks::<TILE_ROWS>().0;
                let sums = &sums[self.c * (CHUNK / B::GROUP) + g];
                for t in 0..TILE_ROWS {
                    self.total[p][t] = isa.fma(isa.splat(sums[t] as f32), min, self.total[p][t]);
                }
            }
        }
    }
}
