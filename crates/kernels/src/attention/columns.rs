//! The sum of weighted values: alike for every encoding but for how 16 cached numbers are loaded.

use super::{PAGE_LEN, Part};
use crate::isa::Isa;
use std::ops::Range;

/// How 16 cached numbers are loaded.
pub trait Load {
    /// A number as it is stored.
    type Stored: bytemuck::Pod + Default;
    /// Numbers in a line of memory.
    const PER_LINE: usize = 64 / size_of::<Self::Stored>();
    /// 16 of them as floats.
    fn load<I: Isa>(isa: I, from: &[Self::Stored; 16]) -> I::F;
}

/// Adds the weighted vectors `v..v + P` of the values of some positions to `sums`, `[T][vectors]`;
/// a value has so many vectors.
#[inline(always)]
pub fn columns<I: Isa, L: Load, const T: usize, const P: usize>(
    isa: I,
    values: Part<'_>,
    weights: &[[f32; PAGE_LEN]; T],
    positions: &Range<usize>,
    (v, vectors): (usize, usize),
    sums: &mut [f32],
) {
    let stored: &[L::Stored] = bytemuck::cast_slice(values.lines);
    let rows = stored.as_chunks::<16>().0[..PAGE_LEN * vectors].chunks_exact(vectors);
    assert!(v + P <= vectors);
    let mut acc = [[isa.splat(0.0); P]; T];
    for t in 0..T {
        let from = &sums[t * vectors * 16..][..vectors * 16].as_chunks().0[v..][..P];
        for p in 0..P {
            acc[t][p] = isa.load(&from[p]);
        }
    }
    let positions = positions.start..positions.end.min(PAGE_LEN);
    for (i, row) in positions.clone().zip(rows.skip(positions.start)) {
        let row = &row[v..][..P];
        isa.prefetch(values.next, (i * vectors + v) * 16 / L::PER_LINE);
        let mut value = [isa.splat(0.0); P];
        for p in 0..P {
            value[p] = L::load(isa, &row[p]);
        }
        for t in 0..T {
            let weight = isa.splat(weights[t][i]);
            for p in 0..P {
                acc[t][p] = isa.fma(weight, value[p], acc[t][p]);
            }
        }
    }
    for t in 0..T {
        let to = &mut sums[t * vectors * 16..][..vectors * 16].as_chunks_mut().0[v..][..P];
        for p in 0..P {
            isa.store(acc[t][p], &mut to[p]);
        }
    }
}
