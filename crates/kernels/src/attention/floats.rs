//! Keys and values as floats: keys transposed in groups of 16 positions, as
//! `[2][head_dim][16]`, so that scores need no horizontal sums; values by position, as
//! `[position][head_dim rounded up to 16]`. score = (fma over features in order) times scale; a
//! value's part is one fma.

use super::append::Append;
use super::columns::{Load, columns};
use super::{Cached, KvShape, PAGE_LEN, Part};
use crate::isa::{Isa, Line};
use std::marker::PhantomData;
use std::ops::Range;

/// How 16 numbers are stored, beside how they are loaded.
pub trait Number: Load {
    fn store<I: Isa>(isa: I, x: I::F) -> [Self::Stored; 16];
}
pub struct F16;
pub struct F32;

impl Load for F16 {
    type Stored = u16;
    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[u16; 16]) -> I::F {
        isa.load_f16(bytemuck::cast_ref(from))
    }
}

impl Number for F16 {
    #[inline(always)]
    fn store<I: Isa>(isa: I, x: I::F) -> [u16; 16] {
        isa.to_f16(x)
    }
}

impl Load for F32 {
    type Stored = f32;
    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[f32; 16]) -> I::F {
        isa.load(from)
    }
}

impl Number for F32 {
    #[inline(always)]
    fn store<I: Isa>(isa: I, x: I::F) -> [f32; 16] {
        let mut out = [0.0; 16];
        isa.store(x, &mut out);
        out
    }
}

/// The kernels of floats.
pub struct Floats<N>(PhantomData<N>);

impl<N: Number> Cached for Floats<N> {
    /// `[head_dim][T]`.
    #[inline(always)]
    fn ready<I: Isa, const T: usize>(_isa: I, queries: [&[f32]; T], ready: &mut [f32]) {
        for (d, to) in ready.as_chunks_mut::<T>().0.iter_mut().take(queries[0].len()).enumerate() {
            for t in 0..T {
                to[t] = queries[t][d];
            }
        }
    }

    #[inline(always)]
    fn scores<I: Isa, const T: usize, const P: usize>(
        isa: I,
        shape: KvShape,
        keys: Part<'_>,
        ready: &[f32],
        scale: f32,
        scores: &mut [[f32; PAGE_LEN]; T],
    ) {
        let stored: &[N::Stored] = bytemuck::cast_slice(keys.lines);
        let groups: [&[[N::Stored; 16]]; PAGE_LEN / 16] = std::array::from_fn(|g| {
            stored[g * shape.head_dim * 16..][..shape.head_dim * 16].as_chunks().0
        });
        let queries = &ready.as_chunks::<T>().0[..shape.head_dim];
        let scale = isa.splat(scale);
        // Lines that the keys of one feature fill.
        let per_key = (P * 16).div_ceil(N::PER_LINE);
        for first in (0..groups.len()).step_by(P) {
            let mut sums = [[isa.splat(0.0); P]; T];
            for (d, query) in queries.iter().enumerate() {
                let next = (first * shape.head_dim + d * P) * 16 / N::PER_LINE;
                (0..per_key).for_each(|line| isa.prefetch(keys.next, next + line));
                let mut key = [scale; P];
                for p in 0..P {
                    key[p] = N::load(isa, &groups[first + p][d]);
                }
                for t in 0..T {
                    let feature = isa.splat(query[t]);
                    for p in 0..P {
                        sums[t][p] = isa.fma(feature, key[p], sums[t][p]);
                    }
                }
            }
            for t in 0..T {
                let to = &mut scores[t].as_chunks_mut().0[first..];
                for p in 0..P {
                    isa.store(isa.mul(sums[t][p], scale), &mut to[p]);
                }
            }
        }
    }

    #[inline(always)]
    fn weigh<I: Isa, const T: usize, const P: usize>(
        isa: I,
        shape: KvShape,
        values: Part<'_>,
        weights: &[[f32; PAGE_LEN]; T],
        positions: Range<usize>,
        sums: &mut [f32],
    ) {
        let vectors = shape.value_dim() / 16;
        let mut v = 0;
        while v + P <= vectors {
            columns::<I, N, T, P>(isa, values, weights, &positions, (v, vectors), sums);
            v += P;
        }
        while v < vectors {
            columns::<I, N, T, 1>(isa, values, weights, &positions, (v, vectors), sums);
            v += 1;
        }
    }
}

impl<N: Number> Append for Floats<N> {
    #[inline(always)]
    fn keys<I: Isa>(isa: I, shape: KvShape, keys: &mut [Line], at: usize, rows: [&[f32]; 16]) {
        let group = group_mut::<N>(shape, keys, at);
        for (b, to) in group.chunks_mut(16).enumerate() {
            let mut numbers = [[N::Stored::default(); 16]; 16];
            for (numbers, row) in numbers.iter_mut().zip(rows) {
                *numbers = sixteen::<I, N>(isa, &row[b * 16..]);
            }
            for (i, to) in to.iter_mut().enumerate() {
                for r in 0..16 {
                    to[r] = numbers[r][i];
                }
            }
        }
    }

    #[inline(always)]
    fn key<I: Isa>(isa: I, shape: KvShape, keys: &mut [Line], at: usize, row: &[f32]) {
        let group = group_mut::<N>(shape, keys, at);
        for (b, to) in group.chunks_mut(16).enumerate() {
            for (to, number) in to.iter_mut().zip(sixteen::<I, N>(isa, &row[b * 16..])) {
                to[at % 16] = number;
            }
        }
    }

    #[inline(always)]
    fn value<I: Isa>(isa: I, shape: KvShape, values: &mut [Line], at: usize, row: &[f32]) {
        let stored: &mut [N::Stored] = bytemuck::cast_slice_mut(values);
        let vectors = shape.value_dim() / 16;
        let to = &mut stored.as_chunks_mut::<16>().0[at * vectors..][..vectors];
        for (b, to) in to.iter_mut().enumerate() {
            *to = sixteen::<I, N>(isa, &row[b * 16..]);
        }
    }
}

/// The 16 positions' keys among which `at` is: `[head_dim][16]`.
#[inline(always)]
fn group_mut<N: Number>(shape: KvShape, keys: &mut [Line], at: usize) -> &mut [[N::Stored; 16]] {
    let stored: &mut [N::Stored] = bytemuck::cast_slice_mut(keys);
    let first = at / 16 * shape.head_dim;
    &mut stored.as_chunks_mut().0[first..][..shape.head_dim]
}

/// The first 16 features of a row, as many as there are.
#[inline(always)]
fn sixteen<I: Isa, N: Number>(isa: I, row: &[f32]) -> [N::Stored; 16] {
    if let Some(sixteen) = row.first_chunk() {
        return N::store(isa, isa.load(sixteen));
    }
    let mut padded = [0.0; 16];
    padded[..row.len()].copy_from_slice(row);
    N::store(isa, isa.load(&padded))
}
