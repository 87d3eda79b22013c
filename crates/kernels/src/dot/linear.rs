//! The linear kernel of block formats: tiles of rows against one panel at a time.

use super::grid::Grid8;
use super::{Acts, Blocks, FEW_ROWS, LinearCall};
use crate::acts::{CHUNK, QuantActs, QuantTile, tiles};
use crate::isa::{Isa, Kernel, Line};
use std::marker::PhantomData;

/// Units in a full chunk.
const UNITS: usize = CHUNK / 16;

/// Lines of the unpacked form of a panel, where the format has one.
pub fn scratch_lines<B: Blocks>(cols: usize) -> usize {
    if !B::UNPACK {
        return 0;
    }
    cols.div_ceil(CHUNK) * unpacked_header::<B>() + cols / 4
}

/// Header lines of a chunk in the unpacked form.
const fn unpacked_header<B: Blocks>() -> usize {
    CHUNK / B::GROUP * if B::HAS_MIN { 2 } else { 1 }
}

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

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let mut call = self.call;
        let Acts::Quant(acts) = call.acts else {
            panic!("{} takes quantized activations", B::NAME);
        };
        let few = !B::UNPACK || acts.n_rows <= FEW_ROWS;
        for (p, panel) in call.lines.chunks_exact(call.panel_lines).enumerate() {
            if few {
                all_tiles::<I, B>(isa, panel, &acts, p, &mut call);
                continue;
            }
            let scratch = std::mem::take(&mut call.scratch);
            let n_lines = scratch_lines::<B>(call.cols);
            unpack::<I, B>(isa, panel, call.cols, &mut scratch[..n_lines]);
            let unpacked = &scratch[..n_lines];
            match (B::GROUP, B::HAS_MIN) {
                (16, false) => all_tiles::<I, Grid8<16, false>>(isa, unpacked, &acts, p, &mut call),
                (32, false) => all_tiles::<I, Grid8<32, false>>(isa, unpacked, &acts, p, &mut call),
                (32, true) => all_tiles::<I, Grid8<32, true>>(isa, unpacked, &acts, p, &mut call),
                (256, false) => {
                    all_tiles::<I, Grid8<256, false>>(isa, unpacked, &acts, p, &mut call)
                }
                _ => unreachable!("no packed format has groups of {}", B::GROUP),
            }
            call.scratch = scratch;
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
            1 => part_tile::<I, B, 1, 1>(isa, panel, &tile, 0, first, p, call),
            2 => part_tile::<I, B, 2, 2>(isa, panel, &tile, 0, first, p, call),
            4 => part_tile::<I, B, 4, 4>(isa, panel, &tile, 0, first, p, call),
            _ if B::UNPACK => unreachable!("wide tiles run unpacked"),
            _ if I::REGISTERS >= 32 => {
                part_tile::<I, B, 12, 12>(isa, panel, &tile, 0, first, p, call);
            }
            _ => {
                for t in [0, 4, 8] {
                    part_tile::<I, B, 12, 4>(isa, panel, &tile, t, first + t, p, call);
                }
            }
        }
    }
}

/// Computes one panel for rows `from..from + T` of a tile of `W` and writes them out.
#[inline(always)]
fn part_tile<I: Isa, B: Blocks, const W: usize, const T: usize>(
    isa: I,
    panel: &[Line],
    tile: &QuantTile<'_>,
    from: usize,
    first: usize,
    p: usize,
    call: &mut LinearCall<'_>,
) {
    let mut sums = [isa.splat(0.0); T];
    let chunk_lines = B::HEADER_LINES + UNITS * B::UNIT_LINES;
    for (c, chunk) in panel.chunks(chunk_lines).enumerate() {
        let (header, codes) = chunk.split_at(B::HEADER_LINES);
        let part = chunk_dot::<I, B, W, T>(isa, header, codes, tile, from, c, call.code_min);
        let scales = &tile.scales[c * W + from..][..T];
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
fn chunk_dot<I: Isa, B: Blocks, const W: usize, const T: usize>(
    isa: I,
    header: &[Line],
    codes: &[Line],
    tile: &QuantTile<'_>,
    from: usize,
    c: usize,
    code_min: i32,
) -> [I::F; T] {
    let group_units = B::GROUP / 16;
    let act_sums = match B::GROUP {
        16 => tile.sums16,
        32 => tile.sums32,
        _ => tile.sums256,
    };
    let first_group = c * (CHUNK / B::GROUP);
    let mut part = [isa.splat(0.0); T];
    for (g, group) in codes.chunks_exact(group_units * B::UNIT_LINES).enumerate() {
        let act_sums = &act_sums[(first_group + g) * W + from..][..T];
        let first_quad = c * (CHUNK / 4) + g * group_units * 4;
        let quads = &tile.quads[first_quad * W..][..group_units * 4 * W];
        let dots = group_dot::<I, B, W, T>(isa, group, quads, from, act_sums, code_min);
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
fn group_dot<I: Isa, B: Blocks, const W: usize, const T: usize>(
    isa: I,
    group: &[Line],
    quads: &[i32],
    from: usize,
    act_sums: &[i32],
    code_min: i32,
) -> [I::I; T] {
    // Few rows over a long group would wait for one chain of dots: cut it into four.
    let chains = if B::GROUP == 256 && T <= 2 { 4 } else { 1 };
    let mut dots = [[isa.splat_i(0); T]; 4];
    // codes are stored as code - code_min: put code_min * (sum of activations) back.
    dots[0] = std::array::from_fn(|t| isa.splat_i(act_sums[t] * code_min));
    for (unit, a) in group.chunks_exact(B::UNIT_LINES).zip(quads.chunks_exact(4 * W)) {
        let w = B::unit(isa, unit);
        for q in 0..4 {
            for t in 0..T {
                let (sum, a) = (dots[q % chains][t], a[q * W + from + t]);
                dots[q % chains][t] =
                    if B::SMALL { isa.dot_small(sum, w[q], a) } else { isa.dot(sum, w[q], a) };
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

/// Unpacks a panel to the form of [`Grid8`] with the format's group length.
#[inline(always)]
fn unpack<I: Isa, B: Blocks>(isa: I, panel: &[Line], cols: usize, out: &mut [Line]) {
    let out_header = unpacked_header::<B>();
    let (mut from, mut to) = (panel, out);
    for c in 0..cols.div_ceil(CHUNK) {
        let units = UNITS.min((cols - c * CHUNK) / 16);
        let groups = units * 16 / B::GROUP;
        let (chunk, rest) = from.split_at(B::HEADER_LINES + units * B::UNIT_LINES);
        let (out_chunk, out_rest) = to.split_at_mut(out_header + units * 4);
        let (header, codes) = chunk.split_at(B::HEADER_LINES);
        let (scales, quads) = out_chunk.split_at_mut(out_header);
        for g in 0..groups {
            isa.store(B::scale(isa, header, g), scales[g].floats_mut());
            if B::HAS_MIN {
                isa.store(B::min(isa, header, g), scales[CHUNK / B::GROUP + g].floats_mut());
            }
        }
        for (unit, quads) in codes.chunks_exact(B::UNIT_LINES).zip(quads.chunks_exact_mut(4)) {
            let bytes = B::unit(isa, unit);
            for q in 0..4 {
                isa.store_b(bytes[q], &mut quads[q]);
            }
        }
        (from, to) = (rest, out_rest);
    }
}
