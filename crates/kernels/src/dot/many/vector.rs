//! A tile of rows against a pair of panels by dots on vectors.

use super::{Ahead, Block, PAIR, QUADS, TILE_QUADS, TILE_WORK, parts};
use crate::acts::{CHUNK, QuantTile};
use crate::dot::Blocks;
use crate::isa::{Isa, Line, short_dots};

/// A chunk of a tile of `W` rows.
pub struct Part<'a, const W: usize> {
    /// Where a quad has two [`parts`], the even codes.
    quads: &'a [[i32; W]],
    /// There, the odd codes.
    odd: &'a [[i32; W]],
    /// What a group's dots begin with: codes are stored as `code - code_min`, which this puts
    /// right. Where there are mins (and no `code_min`), the sums of codes that they multiply, as
    /// f32.
    corrections: &'a [[i32; W]],
    scales: &'a [f32; W],
}

impl<'a, const W: usize> Part<'a, W> {
    /// Chunk `c` of a tile; `work` has [`TILE_WORK`] lines.
    #[inline(always)]
    pub fn new<I: Isa, B: Blocks>(
        isa: I,
        tile: &QuantTile<'a>,
        c: usize,
        block: &Block<'_>,
        code_min: i32,
        work: &'a mut [Line],
    ) -> Self {
        let (corrections, room) = work.split_at_mut(TILE_WORK - 2 * TILE_QUADS);
        let corrections: &mut [i32] = bytemuck::cast_slice_mut(corrections);
        let n_quads = block.codes.len() / parts::<I, B>();
        let quads = &tile.quads[c * QUADS * W..][..n_quads * W];
        let (quads, odd) =
            if parts::<I, B>() == 2 { even_and_odd(isa, quads, room) } else { (quads, quads) };
        let sums = tile.sums_of(B::GROUP);
        let n = block.scales.len() * W;
        let sums = &sums[c * (CHUNK / B::GROUP) * W..][..n];
        let corrections = &mut corrections[..n];
        for (correction, &sum) in corrections.iter_mut().zip(sums) {
            *correction =
                if B::HAS_MIN { (sum as f32).to_bits() as i32 } else { sum.wrapping_mul(code_min) };
        }
        Self {
            quads: quads.as_chunks::<W>().0,
            odd: odd.as_chunks::<W>().0,
            corrections: corrections.as_chunks::<W>().0,
            scales: tile.scales[c * W..].first_chunk::<W>().expect("a scale for every row"),
        }
    }

    /// Rows `FROM..FROM + T` of the tile against `P` panels from `panel` on.
    #[inline(always)]
    pub fn pass<I: Isa, B: Blocks, const FROM: usize, const T: usize, const P: usize>(
        &self,
        isa: I,
        block: &Block<'_>,
        ahead: &Ahead<'_>,
        sums: &mut [[Line; PAIR]],
        panel: usize,
    ) {
        const { assert!(FROM + T <= W && P <= PAIR) };
        let panel = if P == PAIR { 0 } else { panel % PAIR };
        let mut total = [[isa.splat(0.0); P]; T];
        let group_quads = B::GROUP / 4;
        let group_codes = group_quads * parts::<I, B>();
        let n_groups = block.scales.len();
        // Lengths that a compiler sees to be enough.
        let (scales, mins) = (&block.scales[..n_groups], &block.mins[..n_groups]);
        let (codes, corrections) =
            (&block.codes[..n_groups * group_codes], &self.corrections[..n_groups]);
        let quads = &self.quads[..n_groups * group_quads];
        let odd = &self.odd[..n_groups * group_quads];
        for g in 0..n_groups {
            ahead.part(g, CHUNK / B::GROUP).ask(isa);
            let (scales, mins, corrections) = (&scales[g], &mins[g], &corrections[g]);
            let codes = &codes[g * group_codes..(g + 1) * group_codes];
            let quads = &quads[g * group_quads..(g + 1) * group_quads];
            let odd = &odd[g * group_quads..(g + 1) * group_quads];
            let first = |t: usize| if B::HAS_MIN { 0 } else { corrections[FROM + t] };
            let mut dots: [[I::I; P]; T] = std::array::from_fn(|t| [isa.splat_i(first(t)); P]);
            if parts::<I, B>() == 2 {
                let pairs = codes.as_chunks::<2>().0.iter().zip(quads.iter().zip(odd));
                for (codes, (even, odd)) in pairs {
                    for (codes, a) in [(&codes[0], even), (&codes[1], odd)] {
                        let w: [I::B; P] = std::array::from_fn(|p| isa.load_b(&codes[panel + p]));
                        for t in 0..T {
                            for p in 0..P {
                                dots[t][p] = isa.dot_pairs(dots[t][p], w[p], a[FROM + t]);
                            }
                        }
                    }
                }
            } else {
                let first = |t: usize| isa.splat_i(first(t));
                by_quads::<I, B, W, FROM, T, P>(isa, codes, quads, panel, first, &mut dots);
            }
            for p in 0..P {
                let scale = isa.load(scales[panel + p].floats());
                for t in 0..T {
                    total[t][p] = isa.fma(isa.to_f(dots[t][p]), scale, total[t][p]);
                }
                if B::HAS_MIN {
                    let min = isa.load(mins[panel + p].floats());
                    for t in 0..T {
                        let sum = isa.splat(f32::from_bits(corrections[FROM + t] as u32));
                        total[t][p] = isa.fma(sum, min, total[t][p]);
                    }
                }
            }
        }
        for t in 0..T {
            for p in 0..P {
                let sum = sums[FROM + t][panel + p].floats_mut();
                let scale = isa.splat(self.scales[FROM + t]);
                isa.store(isa.fma(total[t][p], scale, isa.load(sum)), sum);
            }
        }
    }
}

/// Adds a group's dots by short sums to `dots`, which begin with what `first` says of each row.
#[inline(always)]
fn by_quads<
    I: Isa,
    B: Blocks,
    const W: usize,
    const FROM: usize,
    const T: usize,
    const P: usize,
>(
    isa: I,
    codes: &[[Line; PAIR]],
    quads: &[[i32; W]],
    panel: usize,
    first: impl Fn(usize) -> I::I,
    dots: &mut [[I::I; P]; T],
) {
    let per_sum = short_dots::<I>(B::MAX_CODE).min(B::GROUP / 4);
    // Made of `first` and not of `dots`, which compilers would copy through memory.
    let mut short: [[I::Short; P]; T] = std::array::from_fn(|t| [isa.begin(first(t)); P]);
    let sums = codes.chunks_exact(per_sum).zip(quads.chunks_exact(per_sum));
    for (sum, (codes, quads)) in sums.enumerate() {
        if sum > 0 {
            for t in 0..T {
                for p in 0..P {
                    dots[t][p] = isa.end(dots[t][p], short[t][p]);
                    short[t][p] = isa.begin(dots[t][p]);
                }
            }
        }
        for (codes, quads) in codes.iter().zip(quads) {
            let w: [I::B; P] = std::array::from_fn(|p| isa.load_b(&codes[panel + p]));
            for t in 0..T {
                for p in 0..P {
                    short[t][p] = isa.dot_short(short[t][p], w[p], quads[FROM + t]);
                }
            }
        }
    }
    for t in 0..T {
        for p in 0..P {
            dots[t][p] = isa.end(dots[t][p], short[t][p]);
        }
    }
}

/// The even and the odd codes of quads, as numbers of 16 bits.
#[inline(always)]
fn even_and_odd<'a, I: Isa>(isa: I, quads: &[i32], room: &'a mut [Line]) -> (&'a [i32], &'a [i32]) {
    let (even, odd) = room.split_at_mut(TILE_QUADS);
    for ((even, odd), quads) in even.iter_mut().zip(&mut *odd).zip(quads.chunks(16)) {
        let mut line = Line::ZERO;
        bytemuck::cast_slice_mut(&mut line.0)[..quads.len()].copy_from_slice(quads);
        let codes = isa.load_b(&line);
        isa.store_b(isa.even(codes), even);
        isa.store_b(isa.odd(codes), odd);
    }
    let entries = |lines| &bytemuck::cast_slice::<Line, i32>(lines)[..quads.len()];
    (entries(even), entries(odd))
}
