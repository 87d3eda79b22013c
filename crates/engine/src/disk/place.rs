//! What came from the disk, put into pages of the pool and into the prefix tree, where whoever
//! waits finds it as if it had been computed.

use super::tier::{Arrived, Tier};
use super::{Event, Fill, Order};
use crate::core::Core;
use crate::limits::Limits;
use crate::prefix::Match;
use crate::schedule::Schedule;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use sterna_model::Tokenizer;
use sterna_runtime::settings::PAGE_LEN;

impl Core {
    /// Nothing in work yet, and a disk below the prefix tree.
    pub fn with_disk(limits: Limits, tokenizer: Arc<Tokenizer>, disk: Option<Tier>) -> Self {
        let mut core = Self::new(limits, tokenizer);
        core.schedule.disk = disk;
        core
    }

    /// What the disk is to do. Pages to be written must be copied before the next plan.
    pub fn orders(&mut self) -> Vec<Order> {
        self.schedule.disk.as_mut().map_or_else(Vec::new, Tier::orders)
    }

    /// Takes note of what the disk did; what belongs into which pages, before the next plan.
    pub fn heard(&mut self, event: Event) -> Vec<Fill> {
        self.schedule.heard(event)
    }

    /// When somebody who waits for the disk goes on without it.
    pub fn wakes_at(&self) -> Option<Duration> {
        self.schedule.disk.as_ref().and_then(Tier::wakes_at)
    }
}

impl Schedule {
    /// Writes what an answer that ends has computed.
    pub fn save_answer(&mut self, key: u64, now: Duration) {
        let sequence = self.running.iter().find(|s| s.key == key);
        if let (Some(disk), Some(sequence)) = (&mut self.disk, sequence) {
            disk.save_answer(sequence, now);
        }
    }

    /// Whether a sequence of the queue waits for pages that the disk has and the tree has not.
    pub fn waits_for_disk(&mut self, at: usize, found: &Match, now: Duration) -> bool {
        let n_room = self.pool.n_free() + self.pool.n_cached();
        let Some(disk) = &mut self.disk else { return false };
        disk.waits(&self.queue[at], found.pages.len(), n_room, now)
    }

    /// Takes note of an event of the disk; what belongs into which pages, before the next plan.
    pub fn heard(&mut self, event: Event) -> Vec<Fill> {
        let Some(arrived) = self.disk.as_mut().and_then(|disk| disk.heard(event)) else {
            return Vec::new();
        };
        let (number, n_pages, is_short) = (arrived.number, arrived.pages.len(), arrived.is_short);
        let end = arrived.first + n_pages;
        let (placed, fills) = self.place(arrived);
        let is_over = is_short || placed.end < end;
        let disk = self.disk.as_mut().expect("it was heard");
        disk.placed(number, placed, is_over);
        fills
    }

    /// Inserts pages below those that the tree has of a chain; which ones it has now. They are held
    /// meanwhile, so that one does not make room for the next.
    fn place(&mut self, arrived: Arrived) -> (Range<usize>, Vec<Fill>) {
        let Self { queue, running, tree, pool, .. } = self;
        // Their tokens and their salt are the load's: those of who waits may part from them.
        let Arrived { keys, salt, tokens, first, pages, .. } = arrived;
        let end = first + pages.len();
        if !queue.iter().chain(running.iter()).any(|s| keys.contains(&s.key)) {
            return (first..first, Vec::new());
        }
        let found = tree.find(&salt, &tokens);
        let start = found.pages.len();
        if start < first || start >= end {
            // Something before them made room meanwhile, or somebody computed all of them.
            return (start..start, Vec::new());
        }
        let mut held: Vec<u32> = found.pages.last().copied().into_iter().collect();
        held.iter().for_each(|&page| pool.share(page));
        let (mut node, mut fills) = (found.node, Vec::new());
        for (at, bytes) in (first..).zip(pages).skip(start - first) {
            if !tree.make_room(pool, 1) {
                break;
            }
            let page = pool.take().expect("there is room");
            held.push(page);
            let tokens = &tokens[at * PAGE_LEN..(at + 1) * PAGE_LEN];
            let (child, kept) = tree.insert(pool, node, salt.head(at), tokens, page);
            assert_eq!(kept, page, "the tree did not have these tokens");
            node = child;
            fills.push((page, bytes));
        }
        held.into_iter().for_each(|page| pool.release(page));
        (start..start + fills.len(), fills)
    }
}
