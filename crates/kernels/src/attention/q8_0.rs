//! Keys and values as int8 with a half-precision scale per 32 features of a position.
//!
//! Keys are `[2][head_dim / 4][16 positions][4]`, the operands of [`Isa::dot`], stored plus 128;
//! values `[position][head_dim]`. Behind either lie its scales, `[head_dim / 32][position]`.
//! Queries become int8 with an f32 scale per 32 features. score = `s * scale`, where over blocks in
//! order `s = fma(dot, query scale * key scale, s)`; a value's part is `fma(weight * value scale,
//! code, sum)`.

use super::append::Append;
use super::columns::{Load, columns};
use super::{BLOCK, Cached, KvShape, PAGE_LEN, Part};
use crate::acts::chunk_scale;
use crate::dot::put_f16;
use crate::isa::{Isa, Line};
use std::ops::Range;

/// Quads in a block.
const QUADS: usize = BLOCK / 4;

/// The kernels of the encoding.
pub struct Q8_0;

impl Cached for Q8_0 {
    /// Codes `[head_dim / 4][T]`, then by block what puts 128 right again `[T]`, then scales `[T]`.
    #[inline(always)]
    fn ready<I: Isa, const T: usize>(isa: I, queries: [&[f32]; T], ready: &mut [f32]) {
        let n_blocks = queries[0].len() / BLOCK;
        let ready = &mut ready.as_chunks_mut::<T>().0[..n_blocks * (QUADS + 2)];
        let (codes, rest) = ready.split_at_mut(n_blocks * QUADS);
        let (offsets, scales) = rest.split_at_mut(n_blocks);
        for (t, query) in queries.into_iter().enumerate() {
            for (b, block) in query.as_chunks::<BLOCK>().0.iter().enumerate() {
                let (scale, found) = quantize(isa, block);
                for (to, quad) in codes[b * QUADS..].iter_mut().zip(found.as_chunks::<4>().0) {
                    to[t] = bytemuck::cast(*quad);
                }
                let sum: i32 = found.into_iter().map(i32::from).sum();
                offsets[b][t] = bytemuck::cast(-128 * sum);
                scales[b][t] = scale;
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
        let n_blocks = shape.head_dim / BLOCK;
        let ready = &ready.as_chunks::<T>().0[..n_blocks * (QUADS + 2)];
        let (queries, rest) = ready.split_at(n_blocks * QUADS);
        let (offsets, query_scales) = rest.split_at(n_blocks);
        let (codes, key_scales) = keys.lines.split_at(PAGE_LEN * shape.head_dim / 64);
        let groups = codes.chunks_exact(n_blocks * QUADS);
        for (g, group) in groups.enumerate() {
            let mut sums = [isa.splat(0.0); T];
            for (b, lines) in group.as_chunks::<QUADS>().0.iter().enumerate() {
                let mut dots = [isa.splat_i(0); T];
                for t in 0..T {
                    dots[t] = isa.splat_i(bytemuck::cast(offsets[b][t]));
                }
                for (q, (line, query)) in lines.iter().zip(&queries[b * QUADS..]).enumerate() {
                    isa.prefetch(keys.next, (g * n_blocks + b) * QUADS + q);
                    let line = isa.load_b(line);
                    for t in 0..T {
                        dots[t] = isa.dot(dots[t], line, bytemuck::cast(query[t]));
                    }
                }
                let key_scale = isa.load_f16(key_scales[b].half(g));
                for t in 0..T {
                    let scale = isa.mul(isa.splat(query_scales[b][t]), key_scale);
                    sums[t] = isa.fma(isa.to_f(dots[t]), scale, sums[t]);
                }
            }
            for t in 0..T {
                let to = &mut scores[t].as_chunks_mut().0[g];
                isa.store(isa.mul(sums[t], isa.splat(scale)), to);
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
        for b in 0..shape.head_dim / BLOCK {
            let scales = &values.lines[PAGE_LEN * shape.head_dim / 64 + b];
            let mut scaled = [[0.0; PAGE_LEN]; T];
            for half in 0..2 {
                let scales = isa.load_f16(scales.half(half));
                for t in 0..T {
                    let weights = isa.load(&weights[t].as_chunks().0[half]);
                    isa.store(isa.mul(weights, scales), &mut scaled[t].as_chunks_mut().0[half]);
                }
            }
            for v in (2 * b..2 * b + 2).step_by(P) {
                let at = (v, shape.head_dim / 16);
                columns::<I, Codes, T, P>(isa, values, &scaled, &positions, at, sums);
            }
        }
    }
}

/// A value's codes.
struct Codes;

impl Load for Codes {
    type Stored = u8;
    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[u8; 16]) -> I::F {
        isa.load_i8(from)
    }
}

impl Append for Q8_0 {
    #[inline(always)]
    fn key<I: Isa>(isa: I, shape: KvShape, keys: &mut [Line], at: usize, row: &[f32]) {
        let (codes, scales) = keys.split_at_mut(PAGE_LEN * shape.head_dim / 64);
        let group = &mut codes[at / 16 * shape.head_dim / 4..][..shape.head_dim / 4];
        for (b, block) in row.as_chunks::<BLOCK>().0.iter().enumerate() {
            let (scale, found) = quantize(isa, block);
            put_scale(scales, b, at, scale);
            for (line, quad) in group[b * QUADS..].iter_mut().zip(found.as_chunks::<4>().0) {
                let stored = quad.map(|code| (code as u8).wrapping_add(128));
                line.0[at % 16 * 4..][..4].copy_from_slice(&stored);
            }
        }
    }

    #[inline(always)]
    fn value<I: Isa>(isa: I, shape: KvShape, values: &mut [Line], at: usize, row: &[f32]) {
        let (codes, scales) = values.split_at_mut(PAGE_LEN * shape.head_dim / 64);
        let codes: &mut [i8] = bytemuck::cast_slice_mut(codes);
        let codes = codes[at * shape.head_dim..].as_chunks_mut::<BLOCK>().0;
        for (b, block) in row.as_chunks::<BLOCK>().0.iter().enumerate() {
            let (scale, found) = quantize(isa, block);
            put_scale(scales, b, at, scale);
            codes[b] = found;
        }
    }
}

/// Writes a position's scale for a block.
#[inline(always)]
fn put_scale(scales: &mut [Line], block: usize, at: usize, scale: f32) {
    put_f16(scales, 2 * block + at / 16, at % 16, half::f16::from_f32(scale).to_bits());
}

/// `absmax / 127`, and the codes to the nearest, ties to even; zeros where all is zero.
#[inline(always)]
fn quantize<I: Isa>(isa: I, block: &[f32; BLOCK]) -> (f32, [i8; BLOCK]) {
    let halves = block.as_chunks::<16>().0;
    let (scale, inverse) = chunk_scale(isa, halves);
    let mut codes = [[0; 16]; BLOCK / 16];
    for (codes, half) in codes.iter_mut().zip(halves) {
        *codes = isa.to_i8(isa.mul(isa.load(half), isa.splat(inverse)));
    }
    (scale, bytemuck::cast(codes))
}
