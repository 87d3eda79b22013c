//! Attention over a paged KV cache, causal or over all of a sequence.
//!
//! A *slot* is one page of one KV head: [`PAGE_LEN`] positions of keys, then of values, in a
//! [`KvEncoding`] with a file here. Weights are `exp(score - max)`; their sum in 16 lanes by
//! position, folded by halves; the output is a sum over positions in order, divided by the weights'
//! sum. Nothing depends on pages, tiles, or other queries: that is why the scores of all positions
//! are kept until their maximum is known, where online softmax would round with every new maximum.

mod append;
mod columns;
mod floats;
mod q8_0;

pub use append::{KvAppend, Rows};

use crate::isa::{Isa, Kernel, Line};
use crate::math::exp_of_nonpositive;
use crate::table::ColumnsMut;
use floats::{F16, F32, Floats};
use q8_0::Q8_0;
use std::marker::PhantomData;
use std::ops::Range;

/// Positions per page.
pub const PAGE_LEN: usize = 32;

/// Features that share a scale in [`KvEncoding::Q8_0`].
const BLOCK: usize = 32;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvEncoding {
    /// Rounded to half precision: half the memory of exact ones.
    #[default]
    F16,
    /// Exact.
    F32,
    /// Rounded to int8 with a half-precision scale per 32 features: about half the memory of f16.
    /// Queries are rounded to int8 likewise.
    Q8_0,
}

impl KvEncoding {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::F16, Self::F32, Self::Q8_0];

    /// Its name, as users give it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::Q8_0 => "q8_0",
        }
    }

    /// The encoding of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.name() == name)
    }

    /// Bytes of a number, its share of a scale included.
    pub fn number_bytes(self) -> f64 {
        match self {
            Self::F16 => 2.0,
            Self::F32 => 4.0,
            Self::Q8_0 => 1.0 + 2.0 / BLOCK as f64,
        }
    }

    /// What features of a head must be a multiple of.
    pub fn head_multiple(self) -> usize {
        match self {
            Self::F16 | Self::F32 => 1,
            Self::Q8_0 => BLOCK,
        }
    }
}

/// The shape of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Features per head, a multiple of [`KvEncoding::head_multiple`].
    pub head_dim: usize,
    /// How keys and values are stored.
    pub encoding: KvEncoding,
}

impl KvShape {
    /// Features per value row, rounded up to whole vectors.
    pub fn value_dim(self) -> usize {
        self.head_dim.next_multiple_of(16)
    }

    /// Lines of a slot's keys.
    pub fn key_lines(self) -> usize {
        self.lines_of(self.head_dim)
    }

    /// Lines of a slot.
    pub fn slot_lines(self) -> usize {
        self.key_lines() + self.lines_of(self.value_dim())
    }

    fn lines_of(self, features: usize) -> usize {
        match self.encoding {
            KvEncoding::F16 => PAGE_LEN * features / 32,
            KvEncoding::F32 => PAGE_LEN * features / 16,
            // Codes, and a line of scales per block.
            KvEncoding::Q8_0 => PAGE_LEN * features / 64 + features / BLOCK,
        }
    }
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
    /// The keys (or values) of the sequence's `page`-th page, and those of the page after it.
    #[inline(always)]
    fn at(self, page: usize, part: Range<usize>) -> Part<'a> {
        let next = self.pages.get(page + 1).unwrap_or(&self.pages[page]);
        Part { lines: self.lines_of(self.pages[page], &part), next: self.lines_of(*next, &part) }
    }

    #[inline(always)]
    fn lines_of(self, page: u32, part: &Range<usize>) -> &'a [Line] {
        &self.lines[page as usize * self.page_lines + self.first..][part.clone()]
    }
}

/// The keys or the values of one slot.
#[derive(Clone, Copy)]
struct Part<'a> {
    lines: &'a [Line],
    /// Those of the page that will be read after it.
    next: &'a [Line],
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
    /// Positions that every row sees, of rows after it too; `None` where each sees those up to its
    /// own. It goes with no window.
    pub sees: Option<usize>,
    /// Multiplies scores, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// `[n_rows, n_heads * head_dim]`.
    pub out: ColumnsMut<'a>,
    /// At least [`Attend::scratch_len`] values of this worker's own.
    pub scratch: &'a mut [f32],
}

/// Queries computed together, at most.
const TILE: usize = 12;

impl Attend<'_> {
    /// Scratch for contexts of up to `context_len` positions.
    pub fn scratch_len(shape: KvShape, context_len: usize) -> usize {
        let pages = context_len.div_ceil(PAGE_LEN) + 1;
        TILE * (pages * PAGE_LEN + shape.value_dim() + ready_len(shape))
    }
}

/// Values per query of its form that [`Cached::ready`] makes: at most one a feature for each of
/// codes, offsets and scales.
fn ready_len(shape: KvShape) -> usize {
    shape.head_dim + 2 * shape.head_dim.div_ceil(BLOCK)
}

impl Kernel for Attend<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        match self.shape.encoding {
            KvEncoding::F16 => attend::<I, Floats<F16>>(isa, self),
            KvEncoding::F32 => attend::<I, Floats<F32>>(isa, self),
            KvEncoding::Q8_0 => attend::<I, Q8_0>(isa, self),
        }
    }
}

/// The kernels of an encoding. `T` queries are computed together, by `P` vectors where registers
/// allow it.
trait Cached {
    /// Lays queries out for [`Cached::scores`].
    fn ready<I: Isa, const T: usize>(isa: I, queries: [&[f32]; T], ready: &mut [f32]);

    /// Scores of a page of keys, times `scale`, whether seen or not: `[T][position]`.
    fn scores<I: Isa, const T: usize, const P: usize>(
        isa: I,
        shape: KvShape,
        keys: Part<'_>,
        ready: &[f32],
        scale: f32,
        scores: &mut [[f32; PAGE_LEN]; T],
    );

    /// Adds the weighted values of some positions of a page to `sums`, `[T][value_dim]`.
    fn weigh<I: Isa, const T: usize, const P: usize>(
        isa: I,
        shape: KvShape,
        values: Part<'_>,
        weights: &[[f32; PAGE_LEN]; T],
        positions: Range<usize>,
        sums: &mut [f32],
    );
}

#[inline(always)]
fn attend<I: Isa, C: Cached>(isa: I, mut call: Attend<'_>) {
    let n_queries = call.n_rows * call.n_heads;
    let mut first = 0;
    while first < n_queries {
        first += match n_queries - first {
            12.. if I::REGISTERS >= 32 => tile::<I, C, 12, 2>(isa, &mut call, first),
            8.. if I::REGISTERS >= 32 => tile::<I, C, 8, 2>(isa, &mut call, first),
            4.. if I::REGISTERS >= 32 => tile::<I, C, 4, 2>(isa, &mut call, first),
            4.. => tile::<I, C, 4, 1>(isa, &mut call, first),
            _ => tile::<I, C, 1, 2>(isa, &mut call, first),
        };
    }
}

/// One query of a tile.
#[derive(Clone, Copy)]
struct Query<'a> {
    features: &'a [f32],
    /// Positions it sees, counted from the tile's first page.
    sees: (usize, usize),
    row: usize,
    head: usize,
}

/// Computes `T` queries from `first` on; returns how many those are.
#[inline(always)]
fn tile<I: Isa, C: Cached, const T: usize, const P: usize>(
    isa: I,
    call: &mut Attend<'_>,
    first: usize,
) -> usize {
    let (shape, slots) = (call.shape, call.slots);
    let value_dim = shape.value_dim();
    let first_row = first / call.n_heads;
    let (first_position, sees) = (call.first_position, call.sees);
    let end = |row: usize| sees.unwrap_or(first_position + row + 1);
    let base = end(first_row).saturating_sub(call.window) / PAGE_LEN;
    let queries: [Query<'_>; T] = std::array::from_fn(|t| {
        let (row, head) = ((first + t) / call.n_heads, (first + t) % call.n_heads);
        let end = end(row);
        let sees = (end.saturating_sub(call.window) - base * PAGE_LEN, end - base * PAGE_LEN);
        let features = &call.queries[row * call.stride + head * shape.head_dim..];
        Query { features: &features[..shape.head_dim], sees, row, head }
    });
    let n_pages = queries[T - 1].sees.1.div_ceil(PAGE_LEN);
    let (ready, scratch) = call.scratch.split_at_mut(T * ready_len(shape));
    let (sums, scratch) = scratch.split_at_mut(T * value_dim);
    let weights = &mut scratch.as_chunks_mut().0.as_chunks_mut::<T>().0[..n_pages];
    C::ready::<I, T>(isa, queries.map(|query| query.features), ready);
    let cache = Cache { shape, slots, base };
    isa.run(Scores::<C, T, P> {
        cache,
        ready,
        scale: call.scale,
        scores: weights,
        of: PhantomData,
    });
    let mut totals = [0.0; T];
    for t in 0..T {
        totals[t] = softmax(isa, weights, t, queries[t].sees);
    }
    sums.fill(0.0);
    // The later a row, the later begins and ends what it sees: all see what lies between.
    let common = (queries[T - 1].sees.0, queries[0].sees.1);
    for t in 0..T {
        let before = queries[t].sees.0..common.0.min(queries[t].sees.1);
        weigh_one::<I, C, T>(isa, cache, weights, t, before, &mut sums[t * value_dim..]);
    }
    let positions = common.0..common.1;
    isa.run(Weigh::<C, T, P> { cache, weights, positions, sums, of: PhantomData });
    for t in 0..T {
        let after = common.1.max(common.0.min(queries[t].sees.1))..queries[t].sees.1;
        weigh_one::<I, C, T>(isa, cache, weights, t, after, &mut sums[t * value_dim..]);
    }
    for (t, query) in queries.iter().enumerate() {
        let out = &mut call.out.row(query.row)[query.head * shape.head_dim..][..shape.head_dim];
        for (out, &sum) in out.iter_mut().zip(&sums[t * value_dim..]) {
            *out = sum / totals[t];
        }
    }
    T
}

/// Turns query `t`'s seen scores into weights, the others into zeros; returns the weights' sum.
#[inline(always)]
fn softmax<I: Isa, const T: usize>(
    isa: I,
    scores: &mut [[[f32; PAGE_LEN]; T]],
    t: usize,
    (start, end): (usize, usize),
) -> f32 {
    for unseen in (0..start).chain(end..scores.len() * PAGE_LEN) {
        scores[unseen / PAGE_LEN][t][unseen % PAGE_LEN] = f32::NEG_INFINITY;
    }
    let mut largest = [isa.splat(f32::NEG_INFINITY); 2];
    for page in scores.iter() {
        for (largest, sixteen) in largest.iter_mut().zip(page[t].as_chunks().0) {
            *largest = isa.max(isa.load(sixteen), *largest);
        }
    }
    let largest = isa.splat(isa.max_lane(isa.max(largest[0], largest[1])));
    let mut sum = isa.splat(0.0);
    for page in scores {
        for sixteen in page[t].as_chunks_mut().0 {
            let weight = exp_of_nonpositive(isa, isa.sub(isa.load(sixteen), largest));
            sum = isa.add(sum, weight);
            isa.store(weight, sixteen);
        }
    }
    isa.sum(sum)
}

/// What a tile reads of the cache, from page `base` of the sequence on.
#[derive(Clone, Copy)]
struct Cache<'a> {
    shape: KvShape,
    slots: Slots<'a>,
    base: usize,
}

/// Scores of a tile over all pages; a kernel of its own, so that its sums stay in registers.
struct Scores<'a, C, const T: usize, const P: usize> {
    cache: Cache<'a>,
    ready: &'a [f32],
    scale: f32,
    scores: &'a mut [[[f32; PAGE_LEN]; T]],
    of: PhantomData<C>,
}

impl<C: Cached, const T: usize, const P: usize> Kernel for Scores<'_, C, T, P> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Cache { shape, slots, base } = self.cache;
        for (page, scores) in self.scores.iter_mut().enumerate() {
            let keys = slots.at(base + page, 0..shape.key_lines());
            C::scores::<I, T, P>(isa, shape, keys, self.ready, self.scale, scores);
        }
    }
}

/// Adds the weighted values of positions that all of a tile see; a kernel of its own likewise.
struct Weigh<'a, C, const T: usize, const P: usize> {
    cache: Cache<'a>,
    weights: &'a [[[f32; PAGE_LEN]; T]],
    positions: Range<usize>,
    sums: &'a mut [f32],
    of: PhantomData<C>,
}

impl<C: Cached, const T: usize, const P: usize> Kernel for Weigh<'_, C, T, P> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Cache { shape, slots, base } = self.cache;
        for (page, positions) in pages(self.positions) {
            let values = slots.at(base + page, shape.key_lines()..shape.slot_lines());
            C::weigh::<I, T, P>(isa, shape, values, &self.weights[page], positions, self.sums);
        }
    }
}

/// Adds what only query `t` of a tile sees, at most as many positions as the tile has rows.
#[inline(always)]
fn weigh_one<I: Isa, C: Cached, const T: usize>(
    isa: I,
    cache: Cache<'_>,
    weights: &[[[f32; PAGE_LEN]; T]],
    t: usize,
    positions: Range<usize>,
    sums: &mut [f32],
) {
    for (page, positions) in pages(positions) {
        let weights = [[weights[page][t]]];
        let cache = Cache { base: cache.base + page, ..cache };
        isa.run(Weigh::<C, 1, 2> { cache, weights: &weights, positions, sums, of: PhantomData });
    }
}

/// The pages of a sequence that hold some positions, and the positions within each.
pub fn pages(positions: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
    let mut start = positions.start;
    std::iter::from_fn(move || {
        let page = start / PAGE_LEN;
        let end = positions.end.min((page + 1) * PAGE_LEN);
        let within = start % PAGE_LEN..end.saturating_sub(page * PAGE_LEN);
        let is_left = start < end;
        start = end;
        is_left.then_some((page, within))
    })
}
