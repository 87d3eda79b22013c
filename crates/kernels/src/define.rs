//! The definitions: every kernel's numbers in the plainest form, one value at a time. Slow, and
//! never used to compute; tests hold every ISA to them bit for bit.

use crate::acts::{CHUNK, LEAST_ROW_MAX, ScaleOver};
use crate::attention::KvEncoding;
use crate::isa::scalar::fma_flushed;
use half::bf16;
use std::ops::Range;
use sterna_formats::EncodingRef;

/// One output of a linear layer: a weight row as stored, times one activation row.
///
/// Float encodings: `fma` over columns in order. Block encodings: activations become int8 per 256
/// values, or per row where the layer says so (then floats are such codes times their scale too);
/// integer dots per group are exact; `s = fma(dot, scale, s)`, then `s = fma(sum of codes, min, s)`
/// where there are mins, over groups in order; `acc = fma(s, activation scale, acc)` over chunks in
/// order.
pub fn linear(encoding: EncodingRef, row: &[u8], x: &[f32], over: ScaleOver) -> f32 {
    let Some(grid) = encoding.grid() else {
        let mut w = vec![0.0; x.len()];
        encoding.decode(row, &mut w);
        let x = round_row(x, over);
        return w.iter().zip(x).fold(0.0, |acc, (&w, x)| w.mul_add(x, acc));
    };
    let n_groups = x.len() / grid.group_len;
    let mut codes = vec![0i8; x.len()];
    let (mut scales, mut mins) = (vec![0.0; n_groups], vec![0.0; n_groups]);
    encoding.read_grid(row, &mut codes, &mut scales, &mut mins);
    let mut acc = 0f32;
    for (c, chunk) in x.chunks(CHUNK).enumerate() {
        let (act_scale, acts) = match over {
            ScaleOver::Chunk => quantize(chunk, absmax(chunk)),
            ScaleOver::Row => quantize(chunk, absmax(x).max(LEAST_ROW_MAX)),
            ScaleOver::All(absmax) => quantize(chunk, absmax),
        };
        let mut s = 0f32;
        for (g, acts) in acts.chunks(grid.group_len).enumerate() {
            let at = c * CHUNK + g * grid.group_len;
            let pairs = codes[at..].iter().zip(acts);
            let dot: i32 = pairs.map(|(&w, &a)| i32::from(w) * i32::from(a)).sum();
            s = (dot as f32).mul_add(scales[at / grid.group_len], s);
            if grid.has_min {
                let sum: i32 = acts.iter().map(|&a| i32::from(a)).sum();
                s = (sum as f32).mul_add(mins[at / grid.group_len], s);
            }
        }
        acc = s.mul_add(act_scale, acc);
    }
    acc
}

/// One output of a linear layer of BF16 weights, as stored, whose activations are rounded to bf16:
/// to nearest, ties to even, and after they became int8 codes times their scale where the layer
/// says so.
///
/// Each 32 columns (missing ones are zeros) are two chains of 16: from zero, `fma` over columns in
/// order. `acc += first chain + second chain` over the 32s in order. Subnormal weights, activations
/// and results count as zeros. It is what `vdpbf16ps` and `tdpbf16ps` compute, which fuse the
/// product with the sum, round to nearest and flush.
pub fn linear_bf16(row: &[u8], x: &[f32], over: ScaleOver) -> f32 {
    let x = round_row(x, over);
    let flush = |x: f32| if x.is_subnormal() { 0f32.copysign(x) } else { x };
    let weights = row.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32());
    let pairs: Vec<(f32, f32)> =
        weights.zip(x).map(|(w, x)| (flush(w), flush(bf16::from_f32(x).to_f32()))).collect();
    let mut acc = 0f32;
    for block in pairs.chunks(32) {
        let chain = |columns: Range<usize>| {
            let pairs = columns.map(|c| block.get(c).copied().unwrap_or_default());
            pairs.fold(0f32, |sum, (w, x)| fma_flushed(w, x, sum))
        };
        acc = flush(acc + flush(chain(0..16) + chain(16..32)));
    }
    acc
}

/// Activations as int8: `(absmax / 127, codes rounded to nearest, ties to even)`; what is beyond
/// `absmax` is clipped.
pub fn quantize(chunk: &[f32], absmax: f32) -> (f32, Vec<i8>) {
    if absmax == 0.0 {
        return (0.0, vec![0; chunk.len()]);
    }
    let inverse = 127.0 / absmax;
    let code = |x: &f32| (x * inverse).clamp(-127.0, 127.0).round_ties_even() as i8;
    let codes = chunk.iter().map(code).collect();
    (absmax / 127.0, codes)
}

/// A row as int8 codes with one scale, in floats again; as it is where only chunks share one.
pub fn round_row(x: &[f32], over: ScaleOver) -> Vec<f32> {
    let absmax = match over {
        ScaleOver::Chunk => return x.to_vec(),
        ScaleOver::Row => absmax(x).max(LEAST_ROW_MAX),
        ScaleOver::All(absmax) => absmax,
    };
    let (scale, inverse) = (absmax / 127.0, 127.0 / absmax);
    x.iter().map(|x| (x * inverse).clamp(-127.0, 127.0).round_ties_even() * scale).collect()
}

fn absmax(x: &[f32]) -> f32 {
    x.iter().fold(0f32, |m, x| m.max(x.abs()))
}

/// Sixteen lanes folded by halves.
fn fold(mut lanes: [f32; 16]) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    lanes[0]
}

/// RMS norm of one row (or head).
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let mut lanes = [0f32; 16];
    x.iter().enumerate().for_each(|(i, &x)| lanes[i % 16] = x.mul_add(x, lanes[i % 16]));
    let scale = 1.0 / (fold(lanes) / x.len() as f32 + eps).sqrt();
    x.iter().zip(weight).map(|(x, w)| x * scale * w).collect()
}

/// Layer norm of one row.
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> Vec<f32> {
    let (mut sums, mut squares) = ([0f32; 16], [0f32; 16]);
    x.iter().enumerate().for_each(|(i, &x)| sums[i % 16] += x);
    let mean = fold(sums) / x.len() as f32;
    for (i, &x) in x.iter().enumerate() {
        squares[i % 16] = (x - mean).mul_add(x - mean, squares[i % 16]);
    }
    let scale = 1.0 / (fold(squares) / x.len() as f32 + eps).sqrt();
    let one = |((x, &w), &b): ((&f32, &f32), &f32)| ((x - mean) * scale).mul_add(w, b);
    x.iter().zip(weight).zip(bias).map(one).collect()
}

/// `e^x` by the polynomial of [`crate::math::exp`].
pub fn exp(x: f32) -> f32 {
    use crate::isa::{Isa, scalar::Scalar};
    crate::math::exp(Scalar, Scalar.splat(x))[0]
}

/// `silu(gate) * up`.
pub fn swiglu(gate: f32, up: f32) -> f32 {
    gate / (1.0 + exp(0.0 - gate)) * up
}

/// `relu(gate)^2 * up`.
pub fn relu2(gate: f32, up: f32) -> f32 {
    let positive = if gate > 0.0 { gate } else { 0.0 };
    positive * positive * up
}

/// `x * P(N(0, 1) < x)`, by the polynomial of [`crate::elementwise::GELU_TAIL`].
pub fn gelu(x: f32) -> f32 {
    let (scale, [last, rest @ ..]) = crate::elementwise::GELU_TAIL;
    let t = 1.0 / scale.mul_add(x.abs(), 1.0);
    let p = rest.iter().fold(last, |p, &c| p.mul_add(t, c));
    let tail = p * t * exp(x.abs() * x.abs() * -0.5);
    (if x > 0.0 { x } else { 0.0 }) - x.abs() * tail
}

/// Attention of one query over the keys and values it sees, `[n][head_dim]` each, kept as
/// `encoding` says. `first` is the position of the first of them: a lane is a position modulo 16.
pub fn attention(
    query: &[f32],
    keys: &[Vec<f32>],
    values: &[Vec<f32>],
    first: usize,
    scale: f32,
    encoding: KvEncoding,
) -> Vec<f32> {
    let scores: Vec<f32> = keys.iter().map(|key| score(query, key, encoding) * scale).collect();
    let largest = scores.iter().fold(f32::NEG_INFINITY, |m, &s| m.max(s));
    let weights: Vec<f32> = scores.iter().map(|&s| exp(s - largest)).collect();
    let mut lanes = [0f32; 16];
    weights.iter().enumerate().for_each(|(i, &w)| lanes[(first + i) % 16] += w);
    let total = fold(lanes);
    let mut sums = vec![0f32; query.len()];
    for (value, &weight) in values.iter().zip(&weights) {
        for (sums, value) in sums.chunks_mut(KV_BLOCK).zip(value.chunks(KV_BLOCK)) {
            let (weight, value) = match encoding {
                KvEncoding::F16 | KvEncoding::F32 => (weight, kept(value, encoding)),
                KvEncoding::Q8_0 => {
                    let (scale, codes) = quantize(value, absmax(value));
                    (weight * half(scale), codes.into_iter().map(f32::from).collect())
                }
            };
            sums.iter_mut().zip(value).for_each(|(sum, value)| *sum = weight.mul_add(value, *sum));
        }
    }
    sums.into_iter().map(|sum| sum / total).collect()
}

/// Features that share a scale in a q8_0 cache.
const KV_BLOCK: usize = 32;

/// Query times key, before the scale. Floats: fma over features in order. q8_0: both become int8
/// per 32 features, the key's scale in half precision; over blocks in order
/// `s = fma(dot, query scale * key scale, s)`.
fn score(query: &[f32], key: &[f32], encoding: KvEncoding) -> f32 {
    if encoding != KvEncoding::Q8_0 {
        let key = kept(key, encoding);
        return query.iter().zip(key).fold(0f32, |s, (&q, k)| q.mul_add(k, s));
    }
    query.chunks(KV_BLOCK).zip(key.chunks(KV_BLOCK)).fold(0f32, |s, (query, key)| {
        let (query_scale, query) = quantize(query, absmax(query));
        let (key_scale, key) = quantize(key, absmax(key));
        let dot: i32 = query.iter().zip(key).map(|(&q, k)| i32::from(q) * i32::from(k)).sum();
        (dot as f32).mul_add(query_scale * half(key_scale), s)
    })
}

/// Floats as the cache keeps them.
fn kept(x: &[f32], encoding: KvEncoding) -> Vec<f32> {
    x.iter().map(|&x| if encoding == KvEncoding::F16 { half(x) } else { x }).collect()
}

fn half(x: f32) -> f32 {
    half::f16::from_f32(x).to_f32()
}
