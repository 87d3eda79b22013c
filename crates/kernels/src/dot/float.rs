//! F32, F16 and BF16 weights: 16 rows side by side per column, exact f32 arithmetic in column
//! order.

use super::{AHEAD, Acts, Format, LinearCall, PANEL};
use crate::acts::{TILES, tiles};
use crate::isa::{Isa, Kernel, Line};
use crate::table::Level;
use std::marker::PhantomData;
use sterna_formats::EncodingRef;

/// How 16 weights of a column are read.
pub trait Number: Send + Sync + 'static {
    /// The encoding's name.
    const ENCODING: &str;
    /// Bytes per weight.
    const BYTES: usize;
    /// The 16 weights of column `k % (4 / BYTES)` of a line.
    fn load<I: Isa>(isa: I, line: &Line, k: usize) -> I::F;
}

/// 32-bit floats.
pub struct F32;
/// IEEE half floats.
pub struct F16;
/// bfloat16.
pub struct Bf16;

impl Number for F32 {
    const ENCODING: &str = "F32";
    const BYTES: usize = 4;
    #[inline(always)]
    fn load<I: Isa>(isa: I, line: &Line, _k: usize) -> I::F {
        isa.load(line.floats())
    }
}

impl Number for F16 {
    const ENCODING: &str = "F16";
    const BYTES: usize = 2;
    #[inline(always)]
    fn load<I: Isa>(isa: I, line: &Line, k: usize) -> I::F {
        isa.load_f16(line.half(k))
    }
}

impl Number for Bf16 {
    const ENCODING: &str = "BF16";
    const BYTES: usize = 2;
    #[inline(always)]
    fn load<I: Isa>(isa: I, line: &Line, k: usize) -> I::F {
        isa.load_bf16(line.half(k))
    }
}

/// The packed format of a float encoding: `[cols][16 rows]`.
pub struct Float<N>(PhantomData<N>);

impl<N> Float<N> {
    /// The format.
    pub const NEW: Self = Self(PhantomData);
}

impl<N: Number> Format for Float<N> {
    fn name(&self) -> &'static str {
        N::ENCODING
    }
    fn takes(&self, encoding: EncodingRef) -> bool {
        encoding.name() == N::ENCODING
    }
    fn panel_lines(&self, cols: usize) -> usize {
        (cols * N::BYTES * PANEL).div_ceil(64)
    }
    fn scratch_lines(&self) -> usize {
        0
    }
    fn pack(&self, _encoding: EncodingRef, rows: &[u8], cols: usize, panel: &mut [Line]) {
        panel.fill(Line::ZERO);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(panel);
        for (row, from) in rows.chunks_exact(cols * N::BYTES).enumerate() {
            for (k, value) in from.chunks_exact(N::BYTES).enumerate() {
                bytes[(k * PANEL + row) * N::BYTES..][..N::BYTES].copy_from_slice(value);
            }
        }
    }
    fn linear(&self, level: Level, call: LinearCall<'_>) {
        level.run(Linear::<N> { call, number: PhantomData });
    }
    fn quantized(&self) -> bool {
        false
    }
}

struct Linear<'a, N> {
    call: LinearCall<'a>,
    number: PhantomData<N>,
}

impl<N: Number> Kernel for Linear<'_, N> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let mut call = self.call;
        let Acts::Float(acts) = call.acts else {
            panic!("{} takes float activations", N::ENCODING);
        };
        // Blocks of rows that the second cache holds while the panels pass.
        let block = (BLOCK_VALUES / acts.cols / TILES[0]).max(1) * TILES[0];
        for start in (0..acts.n_rows).step_by(block) {
            let rows = start..acts.n_rows.min(start + block);
            for (p, pair) in call.lines.chunks(2 * call.panel_lines).enumerate() {
                let (one, other) = pair.split_at(call.panel_lines);
                for (at, width) in tiles(rows.len()) {
                    let first = rows.start + at;
                    let x = acts.tile(first, width);
                    if other.is_empty() {
                        one_tile::<I, N, 1>(isa, [one], x, first, width, 2 * p, &mut call);
                    } else if width == TILES[0] && I::REGISTERS >= 32 {
                        one_tile::<I, N, 2>(isa, [one, other], x, first, width, 2 * p, &mut call);
                    } else {
                        one_tile::<I, N, 1>(isa, [one], x, first, width, 2 * p, &mut call);
                        one_tile::<I, N, 1>(isa, [other], x, first, width, 2 * p + 1, &mut call);
                    }
                }
            }
        }
    }
}

/// f32 activations that stay in the second cache: a mebibyte.
const BLOCK_VALUES: usize = 1 << 18;

/// Computes `P` panels, from panel `p` on, for a tile of rows.
#[inline(always)]
fn one_tile<I: Isa, N: Number, const P: usize>(
    isa: I,
    panels: [&[Line]; P],
    x: &[f32],
    first: usize,
    width: usize,
    p: usize,
    call: &mut LinearCall<'_>,
) {
    match width {
        1 => part_tile::<I, N, 1, 1, P>(isa, panels, x, 0, first, p, call),
        2 => part_tile::<I, N, 2, 2, P>(isa, panels, x, 0, first, p, call),
        4 => part_tile::<I, N, 4, 4, P>(isa, panels, x, 0, first, p, call),
        _ if I::REGISTERS >= 32 => {
            part_tile::<I, N, 12, 12, P>(isa, panels, x, 0, first, p, call);
        }
        _ => {
            for t in [0, 4, 8] {
                part_tile::<I, N, 12, 4, P>(isa, panels, x, t, first + t, p, call);
            }
        }
    }
}

/// Computes panels for rows `from..from + T` of a tile of `W` and writes them out.
#[inline(always)]
fn part_tile<I: Isa, N: Number, const W: usize, const T: usize, const P: usize>(
    isa: I,
    panels: [&[Line]; P],
    x: &[f32],
    from: usize,
    first: usize,
    p: usize,
    call: &mut LinearCall<'_>,
) {
    let per_line = 4 / N::BYTES;
    let n_lines = panels[0].len();
    let panels = panels.map(|panel| &panel[..n_lines]);
    let mut sums = [[isa.splat(0.0); P]; T];
    for (line, x) in (0..n_lines).zip(x.chunks(per_line * W)) {
        panels.iter().for_each(|panel| isa.prefetch(panel, line + AHEAD));
        for (k, x) in x.chunks_exact(W).enumerate() {
            let w: [I::F; P] = std::array::from_fn(|p| N::load(isa, &panels[p][line], k));
            for t in 0..T {
                let x = isa.splat(x[from + t]);
                for p in 0..P {
                    sums[t][p] = isa.fma(w[p], x, sums[t][p]);
                }
            }
        }
    }
    for t in 0..T {
        for panel in 0..P {
            call.out.store(isa, sums[t][panel], first + t, p + panel, call.accumulate);
        }
    }
}
