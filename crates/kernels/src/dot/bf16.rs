//! BF16 weights times activations rounded to bf16: what layers compute with where the caller says
//! so. The numbers are not those of BF16 weights times f32 activations;
//! [`crate::define::linear_bf16`] says what they are.
//!
//! A panel is words of two columns, 16 rows to a line, in the order of
//! [`crate::acts::RoundToBf16`].

use super::many::words::{self, Ask, PAIR, WordActs, Words};
use super::{AHEAD, Acts, ActsForm, Format, LinearCall, is_few};
use crate::acts::{BF16_BLOCK, bf16_words, takes_tiles, tiles};
use crate::isa::{Isa, Kernel, Line, TILE_ROWS, TileUnit};
use crate::table::Level;
use sterna_formats::EncodingRef;

/// The packed format.
pub struct Bf16Dots;

impl Format for Bf16Dots {
    fn name(&self) -> &'static str {
        "BF16_DOTS"
    }
    fn takes(&self, encoding: EncodingRef) -> bool {
        encoding.name() == "BF16"
    }
    fn panel_lines(&self, cols: usize) -> usize {
        bf16_words(cols)
    }
    fn scratch_lines(&self) -> usize {
        words::SCRATCH
    }
    fn pack(&self, _encoding: EncodingRef, rows: &[u8], cols: usize, panel: &mut [Line]) {
        panel.fill(Line::ZERO);
        for (row, from) in rows.chunks_exact(cols * 2).enumerate() {
            for (column, &bytes) in from.as_chunks::<2>().0.iter().enumerate() {
                let bits = u16::from_le_bytes(bytes);
                let flushed = if bits & 0x7f80 == 0 { bits & 0x8000 } else { bits };
                // Chains of 16 columns take turns; the first of two columns is the upper half.
                let (block, chain) = (column / BF16_BLOCK, column % BF16_BLOCK / 16);
                let line = block * 16 + column % 16 / 2 * 2 + chain;
                let at = row * 4 + if column % 2 == 0 { 2 } else { 0 };
                panel[line].0[at..at + 2].copy_from_slice(&flushed.to_le_bytes());
            }
        }
    }
    fn linear(&self, level: Level, call: LinearCall<'_>) {
        level.run_bf16(Linear { call });
    }
    fn acts(&self) -> ActsForm {
        ActsForm::Bf16
    }
}

struct Linear<'a> {
    call: LinearCall<'a>,
}

impl Kernel for Linear<'_> {
    type Out = ();
    const UNITS: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let mut call = self.call;
        let Acts::Bf16(acts) = call.acts else {
            panic!("bf16 dots take bf16 activations");
        };
        let len = bf16_words(acts.cols);
        let is_tiled = I::TILES && takes_tiles(acts.n_rows);
        if is_tiled || !is_few(acts.n_rows, call.few_rows) {
            let acts = WordActs { len, n_rows: acts.n_rows, words: acts.words };
            return words::linear::<I, Bf16Dots>(isa, &mut call, &acts);
        }
        for (p, panel) in call.lines.chunks_exact(call.panel_lines).enumerate() {
            for (first, width) in tiles(acts.n_rows) {
                let x = &acts.words[first * len..][..width * len];
                match width {
                    1 => as_packed::<I, 1>(isa, panel, x, first, p, &mut call),
                    2 => as_packed::<I, 2>(isa, panel, x, first, p, &mut call),
                    4 => as_packed::<I, 4>(isa, panel, x, first, p, &mut call),
                    _ => unreachable!("more rows go another way"),
                }
            }
        }
    }
}

/// Computes panel `p` for a tile of `T` rows, the first of them row `first`, and writes them out.
#[inline(always)]
fn as_packed<I: Isa, const T: usize>(
    isa: I,
    panel: &[Line],
    x: &[i32],
    first: usize,
    p: usize,
    call: &mut LinearCall<'_>,
) {
    let mut sums = [[Line::ZERO]; T];
    let ask = |word| isa.prefetch(panel, word + AHEAD);
    part::<I, T, T, 1>(isa, panel.as_chunks::<1>().0, x, ask, 0, &mut sums);
    for t in 0..T {
        call.out.store(isa, isa.load(sums[t][0].floats()), first + t, p, call.accumulate);
    }
}

impl Words for Bf16Dots {
    const PER_LINE: usize = 1;
    const CHUNK: usize = 128;

    #[inline(always)]
    fn unit<I: Isa>(isa: I, n_rows: usize) -> Option<I::Tiles> {
        let rest = (n_rows - 1) % TILE_ROWS + 1;
        if I::TILES && takes_tiles(n_rows) { isa.tiles_bf16(rest) } else { None }
    }

    #[inline(always)]
    fn unpack<I: Isa>(isa: I, packed: &[Line], block: &mut [[Line; PAIR]], p: usize, tiled: bool) {
        if !tiled {
            for (line, to) in packed.iter().zip(block) {
                isa.store_b(isa.load_b(line), &mut to[p]);
            }
            return;
        }
        // From two columns of a chain to one of each chain, the first chain's in the lower half.
        for (lines, to) in packed.as_chunks::<2>().0.iter().zip(block.as_chunks_mut::<2>().0) {
            let both = isa.join_halves(isa.load_b(&lines[0]), isa.load_b(&lines[1]));
            for (joined, to) in both.into_iter().zip(to) {
                isa.store_b(joined, &mut to[p]);
            }
        }
    }

    #[inline(always)]
    fn pass<I: Isa>(
        isa: I,
        unit: Option<&I::Tiles>,
        block: &[[Line; PAIR]],
        x: &[i32],
        ask: Ask<'_>,
        sums: &mut [[Line; PAIR]],
    ) {
        if let Some(unit) = unit {
            ask.all(isa, x.len());
            return unit.add_bf16(x, block, sums);
        }
        let width = sums.len();
        let ask = |word| ask.at_word(isa, word, width);
        match width {
            1 => part::<I, 1, 1, PAIR>(isa, block, x, ask, 0, sums),
            2 => part::<I, 2, 2, PAIR>(isa, block, x, ask, 0, sums),
            4 => part::<I, 4, 4, PAIR>(isa, block, x, ask, 0, sums),
            _ => {
                part::<I, TILE_ROWS, 6, PAIR>(isa, block, x, ask, 0, &mut sums[..6]);
                part::<I, TILE_ROWS, 6, PAIR>(isa, block, x, ask, 6, &mut sums[6..]);
            }
        }
    }
}

/// Adds words of `P` panels to the sums of rows `from..from + T` of a tile of `W`.
#[inline(always)]
fn part<I: Isa, const W: usize, const T: usize, const P: usize>(
    isa: I,
    words: &[[Line; P]],
    x: &[i32],
    ask: impl Fn(usize),
    from: usize,
    sums: &mut [[Line; P]],
) {
    let rows = x.as_chunks::<W>().0.as_chunks::<16>().0;
    for (b, (words, x)) in words.as_chunks::<16>().0.iter().zip(rows).enumerate() {
        let mut chains = [[[isa.splat(0.0); P]; T]; 2];
        for k in 0..16 {
            ask(b * 16 + k);
            let w: [I::B; P] = std::array::from_fn(|p| isa.load_b(&words[k][p]));
            for t in 0..T {
                for p in 0..P {
                    let chain = &mut chains[k % 2][t][p];
                    *chain = isa.dot_bf16(*chain, w[p], x[k][from + t]);
                }
            }
        }
        for t in 0..T {
            for p in 0..P {
                let both = isa.flush(isa.add(chains[0][t][p], chains[1][t][p]));
                let sum = sums[t][p].floats_mut();
                isa.store(isa.flush(isa.add(isa.load(sum), both)), sum);
            }
        }
    }
}
