//! The steps of a program, one file each: what a worker does with its claimed items.

pub mod append;
pub mod attend;
pub mod elementwise;
pub mod embed;
pub mod gate_up;
pub mod gather;
pub mod heads;
pub mod hidden;
pub mod inputs;
pub mod linear;
pub mod norm;
pub mod prepare;
pub mod rope;

use crate::team::{Io, Items};
use std::ops::Range;
use sterna_kernels::{Level, Line};
use sterna_model::ops::RopeTable;

/// Which rows of a batch a step runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rows {
    /// All of them.
    All,
    /// Those whose result was asked for.
    Wanted,
    /// The first of those: whose logits were.
    Logits,
    /// The rest of those: whose state before the head was.
    Hidden,
}

/// Consecutive rows of a batch that belong to one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its first row in the batch.
    pub first_row: usize,
    /// Rows.
    pub n_rows: usize,
    /// The position of the first row in its sequence.
    pub first_position: usize,
    /// Where its sequence's page table begins in [`Batch::pages`].
    pub first_page: usize,
    /// Pages of the table.
    pub n_pages: usize,
}

/// The rows of a batch.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The token of each row.
    pub tokens: Vec<u32>,
    /// The part that each row belongs to.
    pub part_of: Vec<u32>,
    /// The parts.
    pub parts: Vec<Part>,
    /// The page tables of their sequences.
    pub pages: Vec<u32>,
    /// The rows whose result is wanted: those whose logits are, ascending, then those whose state
    /// before the head is.
    pub wanted: Vec<u32>,
    /// How many of them want logits.
    pub n_logits: usize,
    /// Those that want their state, while a batch is filled.
    pub hidden: Vec<u32>,
}

impl Batch {
    /// An empty one that grows no further than to so many rows, with page tables of so many pages.
    pub fn with_capacity(n_rows: usize, n_pages: usize) -> Self {
        Self {
            tokens: Vec::with_capacity(n_rows),
            part_of: Vec::with_capacity(n_rows),
            parts: Vec::with_capacity(n_rows),
            pages: Vec::with_capacity(n_pages),
            wanted: Vec::with_capacity(n_rows),
            n_logits: 0,
            hidden: Vec::with_capacity(n_rows),
        }
    }

    /// The position of a row in its sequence.
    pub fn position(&self, row: usize) -> usize {
        let part = self.parts[self.part_of[row] as usize];
        part.first_position + row - part.first_row
    }

    /// The pages of a part's sequence, in order of position.
    pub fn pages_of(&self, part: &Part) -> &[u32] {
        &self.pages[part.first_page..][..part.n_pages]
    }

    /// The position of the `row`-th of the rows that a step runs on.
    pub fn position_of(&self, rows: Rows, row: usize) -> usize {
        match rows {
            Rows::All => self.position(row),
            Rows::Wanted | Rows::Logits => self.position(self.wanted[row] as usize),
            Rows::Hidden => self.position(self.wanted[self.n_logits + row] as usize),
        }
    }

    /// How many rows a step runs on.
    pub fn n_rows(&self, rows: Rows) -> usize {
        match rows {
            Rows::All => self.tokens.len(),
            Rows::Wanted => self.wanted.len(),
            Rows::Logits => self.n_logits,
            Rows::Hidden => self.wanted.len() - self.n_logits,
        }
    }
}

/// What steps read besides the memory they declared: nothing here changes while a batch runs.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// The ISA.
    pub level: Level,
    /// The packed weights.
    pub weights: &'a [Line],
    /// Rotation tables.
    pub tables: &'a [RopeTable],
    /// The rows.
    pub batch: &'a Batch,
}

impl<'a> Run<'a> {
    /// The vector in some lines of the weights.
    pub fn vector(&self, lines: &Range<usize>, len: usize) -> &'a [f32] {
        &bytemuck::cast_slice(&self.weights[lines.clone()])[..len]
    }
}

/// What a step moves and computes, for profiles.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Bytes of weights and cached keys and values read.
    pub bytes: f64,
    /// Floating-point (or integer) operations, a multiply-accumulate counted as two. Only linear
    /// layers and attention count them.
    pub flops: f64,
    /// Those of them that are done on int8 codes.
    pub int8_flops: f64,
    /// Those of them that are done on bf16.
    pub bf16_flops: f64,
}

impl std::ops::Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            flops: self.flops + other.flops,
            int8_flops: self.int8_flops + other.int8_flops,
            bf16_flops: self.bf16_flops + other.bf16_flops,
        }
    }
}

/// A step: items, and the work on some of them.
pub trait Step: Send + Sync {
    /// Its kind, for profiles.
    fn kind(&self) -> &'static str;
    /// The items when it runs on `n_rows` rows.
    fn items(&self, n_rows: usize, n_workers: usize) -> Items;
    /// Does the claimed items.
    fn work(&self, io: &Io<'_>, run: &Run<'_>, n_rows: usize);
    /// Lines of scratch that a worker needs for up to `max_rows` rows and `context_len` positions.
    fn scratch_lines(&self, max_rows: usize, context_len: usize) -> usize {
        let _ = (max_rows, context_len);
        0
    }
    /// What it moves and computes on these rows.
    fn amount(&self, n_rows: usize, batch: &Batch) -> Work {
        let _ = (n_rows, batch);
        Work::default()
    }
}

/// A step with its name and rows.
pub struct Planned {
    /// The node it belongs to, for people.
    pub name: String,
    /// The layer that the node belongs to, if to one.
    pub layer: Option<usize>,
    /// The rows it runs on.
    pub rows: Rows,
    /// What it does.
    pub step: Box<dyn Step>,
    /// Where the weights end that it and the steps before it read.
    pub weights_end: usize,
}

/// Items of steps that go row by row: whole tiles of 12, so that tiles are cut as for all rows.
pub fn row_tiles(n_rows: usize) -> Items {
    Items { count: n_rows, chunk: sterna_kernels::acts::TILES[0] }
}
