//! Who waits for which pages of the disk, and for how long.
//!
//! A sequence waits once, at most as long as computing would take, its turn among the loads counted
//! in: then it computes what has not come. The loads of who is less urgent are not waited for.

use super::{Progress, Tier};
use crate::disk::hash::{PageHash, SegmentId};
use crate::disk::{Load, Order};
use crate::request::Class;
use crate::salt::Salt;
use crate::sequence::Sequence;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;
use sterna_runtime::settings::PAGE_LEN;

/// Bytes of loads that the disk is asked for at once: what comes is kept twice for a moment.
const MOST_ASKED: usize = 256 << 20;
/// Sequences with loads of their own at once; more would push each other's pages out.
const MOST_LOADS: usize = 4;
/// How long a load may take where nothing is known about computing.
const LONGEST: Duration = Duration::from_secs(10);
/// How long it always may: a disk takes a moment to wake, and a busy machine to listen.
const SHORTEST: Duration = Duration::from_millis(250);

/// Pages that follow each other in one segment.
pub(super) struct Part {
    segment: SegmentId,
    start: PageHash,
    /// Counted from the beginning of the chain.
    pub(super) pages: Range<usize>,
}

/// Pages that sequences wait for.
pub(super) struct Loading {
    /// Who waits.
    keys: Vec<u64>,
    /// The most urgent of them.
    class: Class,
    /// Whose pages they are.
    salt: Salt,
    tokens: Vec<u32>,
    hashes: Vec<PageHash>,
    /// What was not asked for yet.
    parts: VecDeque<Part>,
    n_asked: usize,
    /// When whoever waits goes on without.
    deadline: Duration,
}

/// Pages that came, and for whom.
pub struct Arrived {
    /// The load.
    pub number: u64,
    /// Who waits for it.
    pub keys: Vec<u64>,
    /// Whose pages they are: some who wait may share the first ones only.
    pub salt: Salt,
    /// All tokens from the first to the end of the last page.
    pub tokens: Vec<u32>,
    /// The first page, counted from the beginning of the chain.
    pub first: usize,
    /// The pages' bytes.
    pub pages: Vec<Vec<u8>>,
    /// Whether there should have been more.
    pub is_short: bool,
}

impl Tier {
    /// When the first of those who wait goes on without the disk.
    pub fn wakes_at(&self) -> Option<Duration> {
        let queued = self.chains.values().filter_map(|chain| match chain.progress {
            Progress::Queued(deadline) => Some(deadline),
            _ => None,
        });
        self.loads.values().map(|load| load.deadline).chain(queued).min()
    }

    /// Whether a sequence, of which the tree has `n_found` pages, waits for the disk, which has
    /// more. There are `n_room` pages of the pool that can be had.
    pub fn waits(
        &mut self,
        sequence: &Sequence,
        n_found: usize,
        n_room: usize,
        now: Duration,
    ) -> bool {
        let key = sequence.key;
        let n_pages = sequence.n_shareable() / PAGE_LEN;
        let chain = self.chain(sequence, n_pages);
        let queued = match chain.progress {
            Progress::Over => return false,
            Progress::Loading(number) => {
                let is_late = self.loads[&number].deadline <= now;
                if is_late {
                    self.leave(key, number);
                }
                return !is_late;
            }
            _ if n_found >= n_pages => return false,
            Progress::Queued(deadline) => Some(deadline),
            Progress::Untried => None,
        };
        let (first, class) = (chain.hashes[n_found], sequence.class());
        if let Some((&number, load)) =
            self.loads.iter_mut().find(|(_, load)| load.hashes.contains(&first))
        {
            load.keys.push(key);
            load.class = load.class.min(class);
            self.progress(key, Progress::Loading(number));
            return true;
        }
        let parts = self.parts(key, n_found..n_pages);
        let Some(end) = parts.back().map(|part| part.pages.end) else { return false };
        let n_more = end - n_found;
        let longest = self.rates.compute_time(n_more * PAGE_LEN).unwrap_or(LONGEST).max(SHORTEST);
        let deadline = queued.unwrap_or(now + longest);
        let n_bytes = (self.n_asked + n_more) * self.page_bytes;
        let is_worth = self.rates.is_worth(n_more * PAGE_LEN, n_bytes) && now < deadline;
        let next = match () {
            () if !is_worth => Progress::Over,
            () if self.has_place(class, n_more, n_room) => Progress::Loading(self.next_load),
            () if self.loads.values().all(|load| load.class > class) => Progress::Over,
            () => Progress::Queued(deadline),
        };
        self.progress(key, next);
        if let Progress::Loading(number) = next {
            let load = Loading {
                keys: vec![key],
                class,
                salt: *sequence.salt(),
                tokens: sequence.tokens[..end * PAGE_LEN].to_vec(),
                hashes: self.chains[&key].hashes[n_found..end].to_vec(),
                parts,
                n_asked: 0,
                deadline,
            };
            self.loads.insert(number, load);
            self.next_load += 1;
            self.ask();
        }
        next != Progress::Over
    }

    /// Whether a load of so many pages can begin: those of who is less urgent hold nobody up.
    fn has_place(&self, class: Class, n_pages: usize, n_room: usize) -> bool {
        let n_before = self.loads.values().filter(|load| load.class <= class).count();
        let n_loading: usize = self.loads.values().map(|load| load.hashes.len()).sum();
        n_before < MOST_LOADS && (self.loads.is_empty() || n_loading + n_pages <= n_room)
    }

    fn progress(&mut self, key: u64, progress: Progress) {
        self.chains.get_mut(&key).expect("who waits has a chain").progress = progress;
    }

    /// Notes which pages of what arrived are in the tree now; `is_over` where no more can follow.
    pub fn placed(&mut self, number: u64, placed: Range<usize>, is_over: bool) {
        let Some(load) = self.loads.get(&number) else { return };
        for key in &load.keys {
            let chain = self.chains.get_mut(key).expect("who waits has a chain");
            if chain.loaded.is_empty() {
                chain.loaded = placed.clone();
            } else if !placed.is_empty() {
                chain.loaded.end = placed.end;
            }
        }
        if is_over || load.parts.is_empty() && load.n_asked == 0 {
            self.end(number);
        }
        self.ask();
    }

    pub(super) fn arrived(
        &mut self,
        number: u64,
        first: usize,
        n_wanted: usize,
        pages: Vec<Vec<u8>>,
    ) -> Option<Arrived> {
        // Nobody may wait any more.
        let load = self.loads.get_mut(&number)?;
        load.n_asked = load.n_asked.saturating_sub(n_wanted);
        if pages.is_empty() {
            self.end(number);
            return None;
        }
        let (keys, is_short) = (load.keys.clone(), pages.len() < n_wanted);
        let tokens = load.tokens[..(first + pages.len()) * PAGE_LEN].to_vec();
        Some(Arrived { number, keys, salt: load.salt, tokens, first, pages, is_short })
    }

    /// Where the disk has the pages of a chain, up to the first that it does not have.
    pub(super) fn parts(&self, key: u64, pages: Range<usize>) -> VecDeque<Part> {
        let chain = &self.chains[&key];
        let mut parts: VecDeque<Part> = VecDeque::new();
        for page in pages {
            let Some(&segment) = self.pages.get(&chain.hashes[page]) else { break };
            if !self.segments[&segment].is_written {
                break;
            }
            match parts.back_mut() {
                Some(part) if part.segment == segment => part.pages.end = page + 1,
                _ => {
                    let start = chain.start(page);
                    parts.push_back(Part { segment, start, pages: page..page + 1 });
                }
            }
        }
        parts
    }

    /// Asks the disk for what is wanted, the most urgent first, so many bytes at a time at most.
    pub(super) fn ask(&mut self) {
        let mut order: Vec<_> = self.loads.iter().map(|(&n, load)| (load.class, n)).collect();
        order.sort_unstable();
        for (_, number) in order {
            let load = self.loads.get_mut(&number).expect("it is there");
            while let Some(part) = load.parts.front() {
                let n_pages = part.pages.len();
                if self.n_asked > 0 && (self.n_asked + n_pages) * self.page_bytes > MOST_ASKED {
                    return;
                }
                self.orders.push(Order::Load(Load {
                    number,
                    segment: part.segment,
                    start: part.start,
                    tokens: load.tokens[..part.pages.end * PAGE_LEN].to_vec(),
                    first: part.pages.start,
                    n_pages,
                }));
                load.parts.pop_front();
                load.n_asked += n_pages;
                self.n_asked += n_pages;
            }
        }
    }

    /// Ends a load: whoever waits goes on.
    pub(super) fn end(&mut self, number: u64) {
        let Some(load) = self.loads.remove(&number) else { return };
        for key in load.keys {
            self.progress(key, Progress::Over);
        }
    }

    /// Takes a sequence from those who wait for a load, which ends with the last of them.
    pub(super) fn leave(&mut self, key: u64, number: u64) {
        self.progress(key, Progress::Over);
        let load = self.loads.get_mut(&number).expect("who waits has a load");
        load.keys.retain(|&other| other != key);
        if load.keys.is_empty() {
            self.end(number);
            self.ask();
        }
    }
}
