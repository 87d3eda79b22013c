//! Causal attention over a paged KV cache.
//!
//! A *slot* is one page of one KV head: keys transposed in groups of 16 positions, as
//! `[page_len / 16][head_dim][16]`, so that scores need no horizontal sums, then values by position
//! as `[page_len][head_dim rounded up to 16]`. The numbers: score = (fma over features in order)
//! times scale; weights `exp(score - max)`; their sum in 16 lanes by position, folded by halves;
//! output = (fma over positions in order) / sum. Nothing depends on pages, tiles, or other queries.

use crate::isa::{Isa, Kernel, Line};
use crate::math::exp;
use crate::table::ColumnsMut;
use std::ops::Range;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvNumber {
    /// Rounded to f16.
    F16,
    /// Exact.
    F32,
}

/// The shape of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Features per head.
    pub head_dim: usize,
    /// Positions per page; a multiple of 32.
    pub page_len: usize,
    /// How numbers are stored.
    pub number: KvNumber,
}

impl KvShape {
    fn bytes(self) -> usize {
        match self.number {
            KvNumber::F16 => 2,
            KvNumber::F32 => 4,
        }
    }
    /// Features per value row, rounded up to whole vectors.
    pub fn value_dim(self) -> usize {
        self.head_dim.next_multiple_of(16)
    }
    /// Lines of a slot's keys.
    pub fn key_lines(self) -> usize {
        self.page_len * self.head_dim * self.bytes() / 64
    }
    /// Lines of a slot.
    pub fn slot_lines(self) -> usize {
        self.key_lines() + self.page_len * self.value_dim() * self.bytes() / 64
    }
}

/// Writes the key and value of one position into a slot.
pub struct KvAppend<'a> {
    /// The slot's shape.
    pub shape: KvShape,
    /// The slot of the page that the position lies in.
    pub slot: &'a mut [Line],
    /// The position within the page.
    pub at: usize,
    /// `head_dim` features.
    pub key: &'a [f32],
    /// `head_dim` features.
    pub value: &'a [f32],
}

impl Kernel for KvAppend<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { shape, slot, at, key, value } = self;
        assert!(at < shape.page_len);
        let (keys, values) = slot.split_at_mut(shape.key_lines());
        let key_at = |d: usize| (at / 16 * shape.head_dim + d) * 16 + at % 16;
        let value_at = at * shape.value_dim();
        match shape.number {
            KvNumber::F32 => {
                let keys: &mut [f32] = bytemuck::cast_slice_mut(keys);
                let values: &mut [f32] = bytemuck::cast_slice_mut(values);
                for (d, &x) in key.iter().enumerate() {
                    keys[key_at(d)] = x;
                }
                values[value_at..][..value.len()].copy_from_slice(value);
            }
            KvNumber::F16 => {
                let keys: &mut [u16] = bytemuck::cast_slice_mut(keys);
                let values: &mut [u16] = bytemuck::cast_slice_mut(values);
                for (b, block) in key.chunks(16).enumerate() {
                    for (i, half) in half16(isa, block).into_iter().take(block.len()).enumerate() {
                        keys[key_at(b * 16 + i)] = half;
                    }
                }
                for (b, block) in value.chunks(16).enumerate() {
                    values[value_at + b * 16..][..16].copy_from_slice(&half16(isa, block));
                }
            }
        }
    }
}

#[inline(always)]
fn half16<I: Isa>(isa: I, block: &[f32]) -> [u16; 16] {
    let mut sixteen = [0.0; 16];
    sixteen[..block.len()].copy_from_slice(block);
    isa.to_f16(isa.load(&sixteen))
}

/// One KV head's slots of a sequence, found through its page table.
#[derive(Clone, Copy)]
pub struct Slots<'a> {
    /// The whole cache.
    pub lines: &'a [Line],
    /// The sequence's pages in order of position, as numbers of pages of the cache.
    pub pages: &'a [u32],
    /// Lines from one page of the cache to the next.
    pub page_lines: usize,
    /// Where this head's slot begins within a page, in lines.
    pub first: usize,
}

impl<'a> Slots<'a> {
    /// The slot in the sequence's `page`-th page, and the lines after it.
    #[inline(always)]
    fn at(self, page: usize) -> &'a [Line] {
        &self.lines[self.pages[page] as usize * self.page_lines + self.first..]
    }
}

/// Queries of consecutive positions of one sequence against one KV head.
pub struct Attend<'a> {
    /// The slots' shape.
    pub shape: KvShape,
    /// This KV head's slots of the sequence's pages.
    pub slots: Slots<'a>,
    /// Query features, one row per position: row `i` is `queries[i * stride..]`, beginning with the
    /// first head that shares this KV head.
    pub queries: &'a [f32],
    /// Distance between rows of `queries`.
    pub stride: usize,
    /// Rows (positions).
    pub n_rows: usize,
    /// Query heads that share the KV head, side by side.
    pub n_heads: usize,
    /// Position of row 0; its key is in the cache already.
    pub first_position: usize,
    /// Positions a query may look back on, itself included; `usize::MAX` for all.
    pub window: usize,
    /// Multiplies scores, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// `[n_rows, n_heads * head_dim]`.
    pub out: ColumnsMut<'a>,
    /// At least [`Attend::scratch_len`] values of this worker's own.
    pub scratch: &'a mut [f32],
}

/// Queries computed together.
const TILE: usize = 8;

impl Attend<'_> {
    /// Scratch for contexts of up to `context_len` positions.
    pub fn scratch_len(shape: KvShape, context_len: usize) -> usize {
        TILE * (context_len.next_multiple_of(16) + 16 + shape.value_dim())
    }
}

impl Kernel for Attend<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        match self.shape.number {
            KvNumber::F16 => attend::<I, F16>(isa, self),
            KvNumber::F32 => attend::<I, F32>(isa, self),
        }
    }
}

/// How 16 cached numbers are loaded.
trait Number {
    type Stored: bytemuck::Pod;
    fn load<I: Isa>(isa: I, from: &[Self::Stored; 16]) -> I::F;
}
struct F16;
struct F32;

impl Number for F16 {
    type Stored = u16;
    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[u16; 16]) -> I::F {
        isa.load_f16(bytemuck::cast_ref(from))
    }
}

impl Number for F32 {
    type Stored = f32;
    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[f32; 16]) -> I::F {
        isa.load(from)
    }
}

/// One query of a tile.
#[derive(Clone, Copy)]
struct Query<'a> {
    features: &'a [f32],
    /// Positions it sees.
    sees: (usize, usize),
    row: usize,
    head: usize,
}

#[inline(always)]
fn attend<I: Isa, N: Number>(isa: I, mut call: Attend<'_>) {
    let n_queries = call.n_rows * call.n_heads;
    let mut done = 0;
    while done < n_queries {
        if n_queries - done >= TILE {
            tile::<I, N, TILE>(isa, &mut call, done);
            done += TILE;
        } else {
            tile::<I, N, 1>(isa, &mut call, done);
            done += 1;
        }
    }
}

#[inline(always)]
fn tile<I: Isa, N: Number, const T: usize>(isa: I, call: &mut Attend<'_>, first: usize) {
    let head_dim = call.shape.head_dim;
    let queries: [Query<'_>; T] = std::array::from_fn(|t| {
        let (row, head) = ((first + t) / call.n_heads, (first + t) % call.n_heads);
        let end = call.first_position + row + 1;
        let features = &call.queries[row * call.stride + head * head_dim..][..head_dim];
        Query { features, sees: (end.saturating_sub(call.window), end), row, head }
    });
    // Positions from `base` on have a score; lanes keep their position modulo 16.
    let base = queries.iter().map(|q| q.sees.0).min().unwrap_or(0) / 16 * 16;
    let end = queries.iter().map(|q| q.sees.1).max().unwrap_or(0);
    let n_keys = (end - base).next_multiple_of(16);
    let (scores, sums) = call.scratch.split_at_mut(T * n_keys);
    let sums = &mut sums[..T * call.shape.value_dim()];
    raw_scores::<I, N, T>(isa, call.shape, call.slots, &queries, base, n_keys, call.scale, scores);
    let mut totals = [0.0; T];
    for t in 0..T {
        let (start, end) = (queries[t].sees.0 - base, queries[t].sees.1 - base);
        totals[t] = softmax(isa, &mut scores[t * n_keys..][..n_keys], start..end);
    }
    sums.fill(0.0);
    let common = (
        queries.iter().map(|q| q.sees.0).max().unwrap_or(0),
        queries.iter().map(|q| q.sees.1).min().unwrap_or(0),
    );
    let weights = Weights { scores, base, n_keys };
    let cache =
        Values::<N> { shape: call.shape, slots: call.slots, number: std::marker::PhantomData };
    let value_dim = call.shape.value_dim();
    for t in 0..T {
        let before = queries[t].sees.0..common.0.min(queries[t].sees.1);
        cache.weigh::<I, 1>(isa, &weights, t, before, &mut sums[t * value_dim..][..value_dim]);
    }
    cache.weigh::<I, T>(isa, &weights, 0, common.0..common.1, sums);
    for t in 0..T {
        let after = common.1.max(common.0.min(queries[t].sees.1))..queries[t].sees.1;
        cache.weigh::<I, 1>(isa, &weights, t, after, &mut sums[t * value_dim..][..value_dim]);
    }
    for t in 0..T {
        let out = &mut call.out.row(queries[t].row)[queries[t].head * head_dim..][..head_dim];
        for (out, &sum) in out.iter_mut().zip(&sums[t * value_dim..]) {
            *out = sum / totals[t];
        }
    }
}

/// Scaled scores of positions `base..base + n_keys`, whether seen or not.
#[inline(always)]
fn raw_scores<I: Isa, N: Number, const T: usize>(
    isa: I,
    shape: KvShape,
    slots: Slots<'_>,
    queries: &[Query<'_>; T],
    base: usize,
    n_keys: usize,
    scale: f32,
    scores: &mut [f32],
) {
    let scale = isa.splat(scale);
    for at in (0..n_keys).step_by(16) {
        let position = base + at;
        let slot = slots.at(position / shape.page_len);
        let keys: &[N::Stored] = bytemuck::cast_slice(&slot[..shape.key_lines()]);
        let first = position % shape.page_len / 16 * shape.head_dim * 16;
        let keys = keys[first..][..shape.head_dim * 16].as_chunks::<16>().0;
        let mut sums = [isa.splat(0.0); T];
        for (d, key) in keys.iter().enumerate() {
            let key = N::load(isa, key);
            for t in 0..T {
                sums[t] = isa.fma(isa.splat(queries[t].features[d]), key, sums[t]);
            }
        }
        for t in 0..T {
            let to = scores[t * n_keys + at..].first_chunk_mut().expect("n_keys is in sixteens");
            isa.store(isa.mul(sums[t], scale), to);
        }
    }
}

/// Turns the seen scores into weights, the others into zeros; returns the weights' sum.
#[inline(always)]
fn softmax<I: Isa>(isa: I, scores: &mut [f32], seen: Range<usize>) -> f32 {
    scores[..seen.start].fill(f32::NEG_INFINITY);
    scores[seen.end..].fill(f32::NEG_INFINITY);
    let blocks = scores.as_chunks_mut::<16>().0;
    let mut largest = isa.splat(f32::NEG_INFINITY);
    for block in blocks.iter() {
        largest = isa.max(isa.load(block), largest);
    }
    let largest = isa.splat(isa.max_lane(largest));
    let mut sum = isa.splat(0.0);
    for block in blocks {
        let weight = exp(isa, isa.sub(isa.load(block), largest));
        sum = isa.add(sum, weight);
        isa.store(weight, block);
    }
    isa.sum(sum)
}

/// A tile's weights, `[T][n_keys]`, from position `base` on.
struct Weights<'a> {
    scores: &'a [f32],
    base: usize,
    n_keys: usize,
}

/// The cached values of a sequence.
struct Values<'a, N> {
    shape: KvShape,
    slots: Slots<'a>,
    number: std::marker::PhantomData<N>,
}

impl<N: Number> Values<'_, N> {
    /// Adds the weighted values of some positions to `sums`, `[T, value_dim]`.
    #[inline(always)]
    fn weigh<I: Isa, const T: usize>(
        &self,
        isa: I,
        weights: &Weights<'_>,
        first: usize,
        positions: Range<usize>,
        sums: &mut [f32],
    ) {
        let mut start = positions.start;
        while start < positions.end {
            let page = start / self.shape.page_len;
            let end = positions.end.min((page + 1) * self.shape.page_len);
            self.weigh_page::<I, T>(isa, weights, first, start..end, sums);
            start = end;
        }
    }

    #[inline(always)]
    fn weigh_page<I: Isa, const T: usize>(
        &self,
        isa: I,
        weights: &Weights<'_>,
        first: usize,
        positions: Range<usize>,
        sums: &mut [f32],
    ) {
        let value_dim = self.shape.value_dim();
        let slot = self.slots.at(positions.start / self.shape.page_len);
        let values: &[N::Stored] = bytemuck::cast_slice(&slot[self.shape.key_lines()..]);
        let at = positions.start % self.shape.page_len * value_dim;
        let values = values[at..][..positions.len() * value_dim].as_chunks::<16>().0;
        let vectors = value_dim / 16;
        for v in 0..vectors {
            let mut acc: [I::F; T] = std::array::from_fn(|t| {
                isa.load(sums[t * value_dim + v * 16..].first_chunk().expect("a whole vector"))
            });
            let rows: [&[f32]; T] = std::array::from_fn(|t| {
                let from = (first + t) * weights.n_keys + positions.start - weights.base;
                &weights.scores[from..][..positions.len()]
            });
            for (i, value) in values[v..].iter().step_by(vectors).enumerate() {
                let value = N::load(isa, value);
                for t in 0..T {
                    acc[t] = isa.fma(isa.splat(rows[t][i]), value, acc[t]);
                }
            }
            for t in 0..T {
                let to = sums[t * value_dim + v * 16..].first_chunk_mut().expect("a whole vector");
                isa.store(acc[t], to);
            }
        }
    }
}
