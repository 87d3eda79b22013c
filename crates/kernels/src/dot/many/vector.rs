//! A tile of rows against a pair of panels by dots on vectors.

use super::{Block, PAIR, QUADS};
use crate::acts::{CHUNK, QuantTile};
use crate::dot::Blocks;
use crate::isa::{Isa, Line};

/// A chunk of a tile of `W` rows.
pub struct Part<'a, const W: usize> {
    quads: &'a [[i32; W]],
    /// What a group's dots begin with: codes are stored as `code - code_min`, which this puts
    /// right. Where there are mins (and no `code_min`), the sums of codes that they multiply, as
    /// f32.
    corrections: &'a [[i32; W]],
    scales: &'a [f32; W],
}

impl<'a, const W: usize> Part<'a, W> {
    #[inline(always)]
    /// Chunk `c` of a tile; `corrections` has room for a value per group and row.
    pub fn new<B: Blocks>(
        tile: &QuantTile<'a>,
        c: usize,
        block: &Block<'_>,
        code_min: i32,
        corrections: &'a mut [i32],
    ) -> Self {
        let sums = tile.sums_of(B::GROUP);
        let n = block.scales.len() * W;
        let sums = &sums[c * (CHUNK / B::GROUP) * W..][..n];
        let corrections = &mut corrections[..n];
        for (correction, &sum) in corrections.iter_mut().zip(sums) {
            *correction =
                if B::HAS_MIN { (sum as f32).to_bits() as i32 } else { sum.wrapping_mul(code_min) };
        }
        Self {
            quads: &tile.quads.as_chunks::<W>().0[c * QUADS..][..block.codes.len()],
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
        sums: &mut [[Line; PAIR]],
        panel: usize,
    ) {
        const { assert!(FROM + T <= W && P <= PAIR) };
        let panel = if P == PAIR { 0 } else { panel % PAIR };
        let mut total = [[isa.splat(0.0); P]; T];
        let group_quads = B::GROUP / 4;
        let groups =
            block.codes.chunks_exact(group_quads).zip(self.quads.chunks_exact(group_quads));
        let per_group = block.scales.iter().zip(block.mins).zip(self.corrections);
        for ((codes, quads), ((scales, mins), corrections)) in groups.zip(per_group) {
            let first = |t: usize| if B::HAS_MIN { 0 } else { corrections[FROM + t] };
            let mut dots: [[I::I; P]; T] = std::array::from_fn(|t| [isa.splat_i(first(t)); P]);
            for (codes, quads) in codes.iter().zip(quads) {
                let w: [I::B; P] = std::array::from_fn(|p| isa.load_b(&codes[panel + p]));
                for t in 0..T {
                    for p in 0..P {
                        let a = quads[FROM + t];
                        dots[t][p] = if B::SMALL {
                            isa.dot_small(dots[t][p], w[p], a)
                        } else {
                            isa.dot(dots[t][p], w[p], a)
                        };
                    }
                }
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
