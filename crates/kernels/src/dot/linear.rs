//! The linear kernel of block formats: tiles of rows against one panel at a time.

use super::{AHEAD, Acts, Blocks, LinearCall, is_few, many};
use crate::acts::{CHUNK, QuantActs, QuantTile, tiles};
use crate::isa::{Isa, Kernel, Line, short_dots};
use std::marker::PhantomData;

/// Units in a full chunk.
const UNITS: usize = CHUNK / 16;

/// Runs a [`LinearCall`] over format `B`.
pub struct Linear<'a, B> {
    call: LinearCall<'a>,
    format: PhantomData<B>,
}

impl<'a, B: Blocks> Linear<'a, B> {
    /// The kernel of this call.
    pub fn new(call: LinearCall<'a>) -> Self {
        Self { call, format: PhantomData }
    }
}

impl<B: Blocks> Kernel for Linear<'_, B> {
    type Out = ();
    const UNITS: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let mut call = self.call;
        let Acts::Quant(acts) = call.acts else {
            panic!("{} takes quantized activations", B::NAME);
        };
        if !is_few(acts.n_rows, call.few_rows) {
            return many::linear::<I, B>(isa, &mut call, &acts);
        }
        for (p, panel) in call.lines.chunks_exact(call.panel_lines).enumerate() {
            all_tiles::<I, B>(isa, panel, &acts, p, &mut call);
        }
    }
}

/// Computes one panel for every row.
#[inline(always)]
fn all_tiles<I: Isa, B: Blocks>(
    isa: I,
    panel: &[Line],
    acts: &QuantActs<'_>,
    p: usize,
    call: &mut LinearCall<'_>,
) {
    for (first, width) in tiles(acts.n_rows) {
        let tile = acts.tile(first, width);
        match width {
            1 => one_tile::<I, B, 1>(isa, panel, &tile, first, p, call),
            2 => one_tile::<I, B, 2>(isa, panel, &tile, first, p, call),
            4 => one_tile::<I, B, 4>(isa, panel, &tile, first, p, call),
            _ => unreachable!("more rows go another way"),
        }
    }
}

/// Computes one panel for a tile of `T` rows, the first of them row `first`, and writes them out.
#[inline(always)]
fn one_tile<I: Isa, B: Blocks, const T: usize>(
    isa: I,
    panel: &[Line],
    tile: &QuantTile<'_>,
    first: usize,
    p: usize,
    call: &mut LinearCall<'_>,
) {
    let mut sums = [isa.splat(0.0); T];
    let chunk_lines = B::HEADER_LINES + UNITS * B::UNIT_LINES;
    for (c, chunk) in panel.chunks(chunk_lines).enumerate() {
        let (header, codes) = chunk.split_at(B::HEADER_LINES);
        let part = chunk_dot::<I, B, T>(isa, header, codes, tile, c, call.code_min);
        let scales = &tile.scales[c * T..][..T];
        for t in 0..T {
            sums[t] = isa.fma(part[t], isa.splat(scales[t]), sums[t]);
        }
    }
    for t in 0..T {
        call.out.store(isa, sums[t], first + t, p, call.accumulate);
    }
}

/// The chunk's sum in weight units, before the activations' scale.
#[inline(always)]
fn chunk_dot<I: Isa, B: Blocks, const T: usize>(
    isa: I,
    header: &[Line],
    codes: &[Line],
    tile: &QuantTile<'_>,
    c: usize,
    code_min: i32,
) -> [I::F; T] {
    let group_units = B::GROUP / 16;
    let act_sums = tile.sums_of(B::GROUP);
    let first_group = c * (CHUNK / B::GROUP);
    let mut part = [isa.splat(0.0); T];
    for (g, group) in codes.chunks_exact(group_units * B::UNIT_LINES).enumerate() {
        let act_sums = &act_sums[(first_group + g) * T..][..T];
        let first_quad = c * (CHUNK / 4) + g * group_units * 4;
        let quads = &tile.quads[first_quad * T..][..group_units * 4 * T];
        let dots = group_dot::<I, B, T>(isa, group, quads, act_sums, code_min);
        let scale = B::scale(isa, header, g);
        for t in 0..T {
            part[t] = isa.fma(isa.to_f(dots[t]), scale, part[t]);
        }
        if B::HAS_MIN {
            let min = B::min(isa, header, g);
            for t in 0..T {
                part[t] = isa.fma(isa.splat(act_sums[t] as f32), min, part[t]);
            }
        }
    }
    part
}

/// The exact integer dots of a group.
#[inline(always)]
fn group_dot<I: Isa, B: Blocks, const T: usize>(
    isa: I,
    group: &[Line],
    quads: &[i32],
    act_sums: &[i32],
    code_min: i32,
) -> [I::I; T] {
    // Few rows over a long group would wait for one chain of dots: cut it into four, where there
    // are registers for them.
    let chains = if B::GROUP == 256 && T <= 2 && I::REGISTERS >= 32 { 4 } else { 1 };
    let mut dots = [[isa.splat_i(0); T]; 4];
    // codes are stored as code - code_min: put code_min * (sum of activations) back.
    dots[0] = std::array::from_fn(|t| isa.splat_i(act_sums[t] * code_min));
    let per_sum = short_dots::<I>(B::MAX_CODE);
    let units = (per_sum / 4).clamp(1, B::GROUP / 16);
    let parts = group.chunks_exact(units * B::UNIT_LINES).zip(quads.chunks_exact(units * 4 * T));
    for (lines, quads) in parts {
        let mut short: [[I::Short; T]; 4] =
            std::array::from_fn(|chain| std::array::from_fn(|t| isa.begin(dots[chain][t])));
        for (unit, a) in lines.chunks_exact(B::UNIT_LINES).zip(quads.chunks_exact(4 * T)) {
            let w = B::unit(isa, unit);
            (0..B::UNIT_LINES).for_each(|line| isa.prefetch(unit, AHEAD + line));
            for q in 0..4 {
                let chain = q % chains;
                for t in 0..T {
                    let a = a[q * T + t];
                    if per_sum == 0 {
                        dots[chain][t] = isa.dot(dots[chain][t], w[q], a);
                        continue;
                    }
                    short[chain][t] = isa.dot_short(short[chain][t], w[q], a);
                    if per_sum < 4 && q % per_sum == per_sum - 1 {
                        dots[chain][t] = isa.end(dots[chain][t], short[chain][t]);
                        short[chain][t] = isa.begin(dots[chain][t]);
                    }
                }
            }
        }
        if per_sum >= 4 {
            for chain in 0..chains {
                for t in 0..T {
                    dots[chain][t] = isa.end(dots[chain][t], short[chain][t]);
                }
            }
        }
    }
    for chain in 1..chains {
        for t in 0..T {
            dots[0][t] = isa.add_i(dots[0][t], dots[chain][t]);
        }
    }
    dots[0]
}
