//! The disk below the prefix tree: pages of keys and values that outlive the process.
//!
//! A page is addressed by what decides its numbers: the model, the salt, and all tokens up to its
//! end ([`hash`]). Pages that follow each other are written together ([`segment`]) into a folder
//! with a limit ([`store`]) by a thread of its own ([`thread`]). The core decides what is written
//! and what is waited for, without a thread or a file: [`tier`] keeps what is where, and its
//! [`Order`]s and [`Event`]s are all that the core and the disk say to each other; [`place`] puts
//! what came into the tree. [`rates`] tells whether loading is quicker than computing.
//!
//! The disk is a cache: what is lost, late or damaged is computed again.

pub mod hash;
pub mod segment;

pub mod store;
pub mod thread;

pub mod rates;
pub mod tier;

pub mod place;

use crate::worker::Clock;
use hash::{PageHash, SegmentId};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use sterna_formats::FormatError;
use sterna_runtime::settings::PAGE_LEN;
use sterna_runtime::{Logits, PagedChunk, Runner};
use store::{Room, Store};
use thread::{Counters, Disk};
use tier::Tier;

/// What is told to whoever operates the engine: one sentence.
pub type Log = Box<dyn Fn(&str) + Send>;

/// Where pages are kept, and for which model.
pub struct Config {
    /// The folder; those of several models and processes may share one.
    pub folder: PathBuf,
    /// Bytes that all files in it may take.
    pub limit: u64,
    /// What the models of a process share of that: each has a clone.
    pub room: Room,
    /// What changes when the model's bytes do.
    pub identity: Vec<u8>,
    /// Times the disk.
    pub clock: Clock,
    /// Hears of files that are refused.
    pub log: Log,
}

/// A segment to write: some pages of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Save {
    /// Its name.
    pub id: SegmentId,
    /// Where the chain begins: the model and the salt.
    pub start: PageHash,
    /// All tokens from the first to the end of its last page.
    pub tokens: Vec<u32>,
    /// Pages of the chain before it.
    pub depth: usize,
}

/// Pages of a segment to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Which load they are a part of.
    pub number: u64,
    /// The segment.
    pub segment: SegmentId,
    /// Where the chain begins.
    pub start: PageHash,
    /// All tokens from the first to the end of the last page wanted: the file must have the same.
    pub tokens: Vec<u32>,
    /// The first page wanted, counted from the beginning of the chain.
    pub first: usize,
    /// Pages wanted.
    pub n_pages: usize,
}

/// What the core wants of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Write a segment; its pages lie in these of the pool until the next batch is planned.
    Save(Save, Vec<u32>),
    /// Read pages.
    Load(Load),
    /// These were used, the last one most recently.
    Touch(Vec<SegmentId>),
    /// Remove all segments of the model.
    Clear,
}

/// What the disk tells the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A segment can be loaded from now on.
    Saved(SegmentId),
    /// It was not written, or it made room, or it was damaged.
    Gone(SegmentId),
    /// The pages of a load's part, fewer where the file has no more that are good, and how long
    /// reading took.
    Loaded {
        /// The load.
        number: u64,
        /// The first page, counted from the beginning of the chain.
        first: usize,
        /// Pages that were wanted.
        n_wanted: usize,
        /// The pages' bytes, in order.
        pages: Vec<Vec<u8>>,
        /// What it took.
        took: Duration,
    },
}

/// A page of the pool, and the bytes that belong into it before the next batch is planned.
pub type Fill = (u32, Vec<u8>);

/// A folder that was opened for a model.
pub struct Kept {
    pub(crate) tier: Tier,
    pub(crate) disk: Disk,
}

impl Kept {
    /// Tokens whose keys and values were found.
    pub fn n_tokens(&self) -> usize {
        self.tier.n_pages() * PAGE_LEN
    }

    pub(crate) fn counters(&self) -> Arc<Counters> {
        self.disk.counters.clone()
    }
}

/// Opens the folder for the model that a runner runs, and reads what it has. A page of tokens is
/// computed first: its bits are part of every address, so that whatever decides the numbers (the
/// weights, the KV encoding, a version of sterna that computes otherwise) decides the addresses
/// too.
///
/// # Errors
/// When the folder cannot be used, or nothing fits its limit.
pub fn open(config: Config, runner: &mut Runner) -> Result<Kept, FormatError> {
    let Config { folder, limit, room, identity, clock, log } = config;
    let start = clock();
    let (n_tokens, probe) = probe(runner);
    let took = clock().saturating_sub(start);
    let model = PageHash::of_model(&[&identity, &probe]);
    let counters = Arc::new(Counters::default());
    let shared = counters.clone();
    let (store, held) = Store::open(&folder, limit, room, model, probe.len(), shared, log)?;
    let mut tier = Tier::new(model, probe.len(), held);
    tier.rates.learn_rows(n_tokens, took);
    let started = Disk::start(store, clock, counters);
    let disk = started.map_err(|e| FormatError::io(&folder, "served by a thread", &e))?;
    Ok(Kept { tier, disk })
}

/// The bytes of a page that holds tokens from all over the vocabulary, and how many.
fn probe(runner: &mut Runner) -> (usize, Vec<u8>) {
    let program = runner.program().clone();
    let n_tokens = PAGE_LEN.min(program.settings().context_len);
    let vocabulary = program.vocabulary();
    let tokens: Vec<u32> = (0..n_tokens).map(|i| (i * vocabulary / n_tokens) as u32).collect();
    let chunk = PagedChunk { pages: &[0], position: 0, tokens: &tokens, logits: Logits::None };
    runner.forward_paged(&[chunk]).expect("a new runner has a page for a page of tokens");
    (n_tokens, runner.page(0).to_vec())
}

#[cfg(test)]
mod tests;
