//! F32, F16 and BF16 weights: 16 rows side by side per column, exact f32 arithmetic in column
//! order.

use super::many::words::{self, Ask, PAIR, WordActs, Words};
use super::{AHEAD, Acts, ActsForm, Format, LinearCall, PANEL, is_few};
use crate::acts::tiles;
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
        words::SCRATCH
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
    fn acts(&self) -> ActsForm {
        ActsForm::Float
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
        if !is_few(acts.n_rows, call.few_rows) {
            let words = bytemuck::cast_slice(acts.values);
            let acts = WordActs { len: acts.cols, n_rows: acts.n_rows, words };
            return words::linear::<I, Float<N>>(isa, &mut call, &acts);
        }
        for (p, panel) in call.lines.chunks_exact(call.panel_lines).enumerate() {
            for (first, width) in tiles(acts.n_rows) {
                let x = acts.tile(first, width);
                match width {
                    1 => as_packed::<I, N, 1>(isa, panel, x, first, p, &mut call),
                    2 => as_packed::<I, N, 2>(isa, panel, x, first, p, &mut call),
                    4 => as_packed::<I, N, 4>(isa, panel, x, first, p, &mut call),
                    _ => unreachable!("more rows go another way"),
                }
            }
        }
    }
}

/// Computes panel `p` for a tile of `T` rows, the first of them row `first`, and writes them out.
#[inline(always)]
fn as_packed<I: Isa, N: Number, const T: usize>(
    isa: I,
    panel: &[Line],
    x: &[f32],
    first: usize,
    p: usize,
    call: &mut LinearCall<'_>,
) {
    let per_line = 4 / N::BYTES;
    let mut sums = [isa.splat(0.0); T];
    for (line, (weights, x)) in panel.iter().zip(x.chunks(per_line * T)).enumerate() {
        isa.prefetch(panel, line + AHEAD);
        for (k, x) in x.chunks_exact(T).enumerate() {
            let w = N::load(isa, weights, k);
            for t in 0..T {
                sums[t] = isa.fma(w, isa.splat(x[t]), sums[t]);
            }
        }
    }
    for t in 0..T {
        call.out.store(isa, sums[t], first + t, p, call.accumulate);
    }
}

impl<N: Number> Words for Float<N> {
    const PER_LINE: usize = 4 / N::BYTES;
    const CHUNK: usize = 128;

    #[inline(always)]
    fn unit<I: Isa>(_isa: I, _n_rows: usize) -> Option<I::Tiles> {
        None
    }

    #[inline(always)]
    fn unpack<I: Isa>(isa: I, packed: &[Line], block: &mut [[Line; PAIR]], p: usize, _tiled: bool) {
        for (line, to) in packed.iter().zip(block.chunks_mut(Self::PER_LINE)) {
            for (k, to) in to.iter_mut().enumerate() {
                isa.store(N::load(isa, line, k), to[p].floats_mut());
            }
        }
    }

    #[inline(always)]
    fn pass<I: Isa>(
        isa: I,
        _unit: Option<&I::Tiles>,
        block: &[[Line; PAIR]],
        x: &[i32],
        ask: Ask<'_>,
        sums: &mut [[Line; PAIR]],
    ) {
        let x: &[f32] = bytemuck::cast_slice(x);
        match sums.len() {
            1 => part::<I, 1, 1, 2>(isa, block, x, ask, sums, (0, 0)),
            2 => part::<I, 2, 2, 2>(isa, block, x, ask, sums, (0, 0)),
            4 if I::REGISTERS >= 32 => part::<I, 4, 4, 2>(isa, block, x, ask, sums, (0, 0)),
            4 => (0..PAIR).for_each(|p| part::<I, 4, 4, 1>(isa, block, x, ask, sums, (0, p))),
            _ if I::REGISTERS >= 32 => part::<I, 12, 12, 2>(isa, block, x, ask, sums, (0, 0)),
            _ => {
                for p in 0..PAIR {
                    part::<I, 12, 6, 1>(isa, block, x, ask, sums, (0, p));
                    part::<I, 12, 6, 1>(isa, block, x, ask, sums, (6, p));
                }
            }
        }
    }
}

/// Adds a chunk's part to the sums of rows `from..from + T` of a tile of `W` for `P` panels from
/// `first` on.
#[inline(always)]
fn part<I: Isa, const W: usize, const T: usize, const P: usize>(
    isa: I,
    block: &[[Line; PAIR]],
    x: &[f32],
    ask: Ask<'_>,
    sums: &mut [[Line; PAIR]],
    (from, first): (usize, usize),
) {
    let mut parts = [[isa.splat(0.0); P]; T];
    for t in 0..T {
        for p in 0..P {
            parts[t][p] = isa.load(sums[from + t][first + p].floats());
        }
    }
    for (k, (w, x)) in block.iter().zip(x.as_chunks::<W>().0).enumerate() {
        ask.at_word(isa, k, W);
        let w: [I::F; P] = std::array::from_fn(|p| isa.load(w[first + p].floats()));
        for t in 0..T {
            let x = isa.splat(x[from + t]);
            for p in 0..P {
                parts[t][p] = isa.fma(w[p], x, parts[t][p]);
            }
        }
    }
    for t in 0..T {
        for p in 0..P {
            isa.store(parts[t][p], sums[from + t][first + p].floats_mut());
        }
    }
}
