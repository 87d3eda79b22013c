//! The memory of a job: which step reads and writes what, and the borrows handed out against
//! claims.
//!
//! The rules that make it sound: (1) all workers are in the same step, because the team walks in
//! lockstep and takes `&mut Memory`; (2) in one step no write overlaps a read or another write,
//! which [`Access::new`] asserts; (3) the parts of a write belong to items, an item is claimed
//! once, and an [`Io`] hands out each write at most once.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;
use sterna_kernels::{ColumnsMut, Line};

/// One of the job's separate pieces of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Region {
    Arena,
    Logits,
    Kv,
}

/// A range of a region, in f32 units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where.
    pub region: Region,
    /// First unit.
    pub start: usize,
    /// Units; `usize::MAX` for all of the region.
    pub len: usize,
}

impl Span {
    /// The whole region.
    pub fn whole(region: Region) -> Self {
        Self { region, start: 0, len: usize::MAX }
    }

    fn overlaps(&self, other: &Span) -> bool {
        self.region == other.region
            && self.start < other.start.saturating_add(other.len)
            && other.start < self.start.saturating_add(self.len)
    }
}

/// How the items of a step divide a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Item `i` owns `len` units from `i * len` on.
    Rows {
        /// Units per item.
        len: usize,
    },
    /// The span is `[rows, stride]`; items `first..first + ceil(stride / 16)` own 16 columns each.
    Columns {
        /// The item of column 0.
        first: usize,
        /// Columns.
        stride: usize,
    },
    /// The span is `[rows, n_heads * width]`; item `head * rows + row` owns the head's columns of
    /// the row, where `rows` is [`Memory`]'s.
    Heads {
        /// Columns per head.
        width: usize,
        /// Heads.
        n_heads: usize,
    },
    /// The span is pages of `page_lines` lines; item `head` owns the slot of `slot_lines` lines
    /// that begins at line `first + head * slot_lines` of every page.
    Slots {
        /// Lines per page.
        page_lines: usize,
        /// First line of head 0.
        first: usize,
        /// Lines per slot.
        slot_lines: usize,
        /// Heads, and items.
        n_heads: usize,
    },
}

/// What one step reads and writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    reads: Vec<Span>,
    writes: Vec<(Span, Split)>,
}

impl Access {
    /// A declaration.
    ///
    /// # Panics
    /// When a write overlaps a read or another write, or slots do not lie in their page.
    pub fn new(reads: Vec<Span>, writes: Vec<(Span, Split)>) -> Self {
        for (i, (write, split)) in writes.iter().enumerate() {
            assert!(reads.iter().all(|read| !read.overlaps(write)), "{write:?} is read as well");
            let others = &writes[..i];
            assert!(others.iter().all(|(other, _)| !other.overlaps(write)), "{write:?} twice");
            if let Split::Slots { page_lines, first, slot_lines, n_heads } = *split {
                let end = slot_lines.saturating_mul(n_heads).saturating_add(first);
                assert!(end <= page_lines);
            }
        }
        assert!(writes.len() <= 32);
        Self { reads, writes }
    }
}

#[derive(Clone, Copy)]
struct Piece {
    first: *mut f32,
    len: usize,
}

impl Piece {
    fn of(values: &mut [f32]) -> Self {
        Self { first: values.as_mut_ptr(), len: values.len() }
    }

    /// The start and length of a span, checked against the region.
    fn part(self, span: &Span) -> (*mut f32, usize) {
        let rest = self.len.checked_sub(span.start).expect("a span begins in its region");
        let len = if span.len == usize::MAX { rest } else { span.len };
        assert!(len <= rest, "{span:?} exceeds a region of {}", self.len);
        // SAFETY: `start` lies within the region.
        (unsafe { self.first.add(span.start) }, len)
    }
}

/// The regions of a job, borrowed while it runs.
pub struct Memory<'a> {
    arena: Piece,
    logits: Piece,
    kv: Piece,
    scratch: Piece,
    accesses: &'a [Access],
    rows: usize,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: it gives access to its regions only through `Io`, by the rules in the module's words.
unsafe impl Sync for Memory<'_> {}

impl<'a> Memory<'a> {
    /// The regions, each step's access to them, and the rows that [`Split::Heads`] divides.
    pub fn new(accesses: &'a [Access], rows: usize) -> Self {
        let none = Piece { first: std::ptr::NonNull::dangling().as_ptr(), len: 0 };
        let life = PhantomData;
        Self { arena: none, logits: none, kv: none, scratch: none, accesses, rows, life }
    }

    /// With this region.
    #[must_use]
    pub fn with(mut self, region: Region, values: &'a mut [f32]) -> Self {
        *match region {
            Region::Arena => &mut self.arena,
            Region::Logits => &mut self.logits,
            Region::Kv => &mut self.kv,
        } = Piece::of(values);
        self
    }

    /// With scratch, divided equally among the workers.
    #[must_use]
    pub fn with_scratch(mut self, lines: &'a mut [Line]) -> Self {
        self.scratch = Piece::of(bytemuck::cast_slice_mut(lines));
        self
    }

    /// Steps with an access declaration.
    pub fn n_steps(&self) -> usize {
        self.accesses.len()
    }

    fn part(&self, span: &Span) -> (*mut f32, usize) {
        match span.region {
            Region::Arena => self.arena.part(span),
            Region::Logits => self.logits.part(span),
            Region::Kv => self.kv.part(span),
        }
    }
}

/// A worker's view of the memory while it does its claimed items of a step.
pub struct Io<'c> {
    memory: &'c Memory<'c>,
    step: usize,
    items: Range<usize>,
    worker: usize,
    n_workers: usize,
    taken: Cell<u64>,
    here: PhantomData<*mut ()>,
}

/// The bit of `taken` that stands for the scratch.
const SCRATCH: usize = 63;

impl<'c> Io<'c> {
    pub(super) fn new(
        memory: &'c Memory<'c>,
        step: usize,
        items: Range<usize>,
        worker: usize,
        n_workers: usize,
    ) -> Self {
        let taken = Cell::new(0);
        Self { memory, step, items, worker, n_workers, taken, here: PhantomData }
    }

    /// The step.
    pub fn step(&self) -> usize {
        self.step
    }

    /// The claimed items; nobody else has them.
    pub fn items(&self) -> Range<usize> {
        self.items.clone()
    }

    /// The number of this worker.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// The step's `index`-th read, as f32.
    pub fn floats(&self, index: usize) -> &'c [f32] {
        let (first, len) = self.memory.part(&self.access().reads[index]);
        // SAFETY: the part lies in its region, and by rule 2 nobody writes it during this step,
        // which lasts at least for `'c`.
        unsafe { std::slice::from_raw_parts(first, len) }
    }

    /// The step's `index`-th read, as i32.
    pub fn ints(&self, index: usize) -> &'c [i32] {
        bytemuck::cast_slice(self.floats(index))
    }

    /// The step's `index`-th read, as lines.
    pub fn lines(&self, index: usize) -> &'c [Line] {
        bytemuck::cast_slice(self.floats(index))
    }

    /// The claimed rows of the step's `index`-th write, as f32.
    pub fn rows(&self, index: usize) -> &'c mut [f32] {
        let (span, Split::Rows { len }) = self.take(index) else { panic!("not split by rows") };
        let (first, units) = self.memory.part(span);
        assert!(self.items.end.saturating_mul(len) <= units);
        // SAFETY: the rows lie in the span; they belong to claimed items, so nobody else has them,
        // and `take` gives them to this claim once.
        unsafe {
            std::slice::from_raw_parts_mut(
                first.add(self.items.start * len),
                self.items.len() * len,
            )
        }
    }

    /// The claimed rows of the step's `index`-th write, as i32.
    pub fn int_rows(&self, index: usize) -> &'c mut [i32] {
        bytemuck::cast_slice_mut(self.rows(index))
    }

    /// The claimed rows of the step's `index`-th write, as lines.
    pub fn line_rows(&self, index: usize) -> &'c mut [Line] {
        bytemuck::cast_slice_mut(self.rows(index))
    }

    /// The claimed columns of the step's `index`-th write over its first `n_rows` rows, and the
    /// blocks of 16 columns they are; `None` where the claim has none of them.
    pub fn columns(&self, index: usize, n_rows: usize) -> Option<(Range<usize>, ColumnsMut<'c>)> {
        let (span, Split::Columns { first: first_item, stride }) = self.take(index) else {
            panic!("not split by columns")
        };
        let end_item = first_item + stride.div_ceil(16);
        let (start, end) = (self.items.start.max(first_item), self.items.end.min(end_item));
        if start >= end {
            return None;
        }
        let blocks = start - first_item..end - first_item;
        let columns = blocks.start * 16..(blocks.end * 16).min(stride);
        let (first, units) = self.memory.part(span);
        assert!(n_rows.saturating_mul(stride) <= units);
        // SAFETY: the rows lie in the span; the columns belong to claimed items, so nobody else has
        // them, and `take` gives them to this claim once.
        Some((blocks, unsafe { ColumnsMut::from_raw(first, n_rows, stride, columns) }))
    }

    /// The claimed heads of rows of the step's `index`-th write.
    pub fn heads(&self, index: usize) -> HeadsMut<'c> {
        let (span, Split::Heads { width, n_heads }) = self.take(index) else {
            panic!("not split by heads")
        };
        let (first, units) = self.memory.part(span);
        let rows = self.memory.rows;
        assert!(rows.saturating_mul(n_heads).saturating_mul(width) <= units);
        let items = self.items();
        assert!(items.end <= n_heads * rows);
        HeadsMut { first, width, n_heads, rows, items, life: PhantomData }
    }

    /// The claimed heads' slots of the step's `index`-th write.
    pub fn slots(&self, index: usize) -> SlotsMut<'c> {
        let (span, split @ Split::Slots { n_heads, .. }) = self.take(index) else {
            panic!("not split by slots")
        };
        let (first, len) = self.memory.part(span);
        assert!(first.cast::<Line>().is_aligned() && self.items.end <= n_heads);
        SlotsMut {
            first: first.cast(),
            n_lines: len / 16,
            split,
            heads: self.items(),
            life: PhantomData,
        }
    }

    /// This worker's scratch.
    pub fn scratch(&self) -> &'c mut [Line] {
        self.take_once(SCRATCH);
        let each = self.memory.scratch.len / 16 / self.n_workers;
        // SAFETY: the scratch region was given as lines and is divided among the workers; a worker
        // has one `Io` at a time, and it hands the scratch out once.
        unsafe {
            let first = self.memory.scratch.first.cast::<Line>().add(self.worker * each);
            std::slice::from_raw_parts_mut(first, each)
        }
    }

    fn access(&self) -> &'c Access {
        &self.memory.accesses[self.step]
    }

    fn take(&self, index: usize) -> (&'c Span, Split) {
        self.take_once(index);
        let (span, split) = &self.access().writes[index];
        (span, *split)
    }

    fn take_once(&self, bit: usize) {
        let taken = self.taken.get();
        assert!(taken >> bit & 1 == 0, "a claim gives out each of its parts once");
        self.taken.set(taken | 1 << bit);
    }
}

/// The claimed items of a [`Split::Heads`] write.
pub struct HeadsMut<'c> {
    first: *mut f32,
    width: usize,
    n_heads: usize,
    rows: usize,
    items: Range<usize>,
    life: PhantomData<&'c mut [f32]>,
}

impl HeadsMut<'_> {
    /// The runs of rows of one head among the claimed items: `(head, rows)`.
    pub fn runs(&self) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
        let (rows, mut items) = (self.rows, self.items.clone());
        std::iter::from_fn(move || {
            let start = (!items.is_empty()).then_some(items.start)?;
            let (head, row) = (start / rows, start % rows);
            let n = (rows - row).min(items.len());
            items.start += n;
            Some((head, row..row + n))
        })
    }

    /// A head's columns of some rows, all of them claimed.
    pub fn get(&mut self, head: usize, rows: Range<usize>) -> ColumnsMut<'_> {
        assert!(rows.start <= rows.end && rows.end <= self.rows);
        let item = head * self.rows;
        assert!(self.items.start <= item + rows.start && item + rows.end <= self.items.end);
        let stride = self.n_heads * self.width;
        let columns = head * self.width..(head + 1) * self.width;
        // SAFETY: `Io::heads` checked that all rows lie in the span; these belong to claimed items
        // (asserted), and `&mut self` makes this the only borrow of them.
        unsafe {
            let first = self.first.add(rows.start * stride);
            ColumnsMut::from_raw(first, rows.len(), stride, columns)
        }
    }
}

/// The claimed heads' slots in every page.
pub struct SlotsMut<'c> {
    first: *mut Line,
    n_lines: usize,
    split: Split,
    heads: Range<usize>,
    life: PhantomData<&'c mut [Line]>,
}

impl SlotsMut<'_> {
    /// The slot of a claimed head in a page.
    pub fn get(&mut self, page: usize, head: usize) -> &mut [Line] {
        let Split::Slots { page_lines, first, slot_lines, .. } = self.split else { unreachable!() };
        assert!(self.heads.contains(&head));
        assert!(page < self.n_lines / page_lines);
        let start = page * page_lines + first + head * slot_lines;
        // SAFETY: the page lies in the region (asserted) and the slot in the page (by
        // `Access::new`), it belongs to a claimed head (asserted;
        // slots of different heads and pages do not overlap, by `Access::new`), and `&mut self`
        // makes this the only borrow of it.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(start), slot_lines) }
    }
}
