//! Makes room: pages for who runs, a place for who waits; and who gives way for it.

use crate::batch::Batch;
use crate::pages::PagePool;
use crate::prefix::Match;
use crate::schedule::Schedule;
use crate::turn::{Place, Turn, place};
use std::time::Duration;
use sterna_runtime::settings::PAGE_LEN;

impl Schedule {
    /// Gives a running sequence the pages for so many tokens more; others that come after it and
    /// are not in the batch give way for it.
    pub(crate) fn reserve(
        &mut self,
        key: u64,
        n_tokens: usize,
        now: Duration,
        batch: &Batch,
    ) -> bool {
        let sequence = &self.running[self.at(key).expect("the caller found it")];
        let wanted = (sequence.n_computed + n_tokens).div_ceil(PAGE_LEN);
        let n_more = wanted.saturating_sub(sequence.pages.len());
        let me = place(sequence, now);
        while !self.make_room(n_more) {
            let others = self.running.iter().filter(|s| !batch.has(s.key));
            let last = others.map(|s| place(s, now)).filter(|&other| other > me).max();
            match last {
                Some((_, victim)) => self.preempt(victim),
                None => return false,
            }
        }
        let at = self.at(key).expect("it is no victim of its own");
        for _ in 0..n_more {
            let page = self.pool.take().expect("there is room");
            self.running[at].pages.push(page);
        }
        true
    }

    /// Makes so many pages free that nobody computes with: those that only the tree has, then those
    /// of sessions, the least recently used first. Whether there are enough: otherwise all stay.
    pub(crate) fn make_room(&mut self, n_pages: usize) -> bool {
        let Self { tree, pool, sessions, .. } = self;
        let n_there = |pool: &PagePool| pool.n_free() + pool.n_cached();
        if n_there(pool) < n_pages {
            if n_there(pool) + sessions.n_droppable(pool, &[]) < n_pages {
                return false;
            }
            while n_there(pool) < n_pages && sessions.drop_oldest(pool) {}
        }
        tree.make_room(pool, n_pages)
    }

    /// Puts a running sequence back into the queue.
    fn preempt(&mut self, key: u64) {
        let at = self.at(key).expect("the caller found it");
        let mut sequence = self.running.remove(at);
        sequence.release(&mut self.tree, &mut self.pool);
        self.queue.push(sequence);
        self.n_preempted += 1;
    }

    /// Whether one more may run, or somebody less urgent can give way.
    pub(crate) fn has_place(&self, turn: &Turn, now: Duration) -> bool {
        self.running.len() < self.pacing.places()
            || self.running.iter().any(|s| turn.is_before(place(s, now)))
    }

    /// Makes a place among the running for one that waits, with pages for all of its tokens; less
    /// urgent ones give way. Whether there is one: otherwise nobody gave way.
    pub(crate) fn make_place(&mut self, at: usize, found: &Match, now: Duration) -> bool {
        let turn = self.turn(&self.queue[at], now);
        let n_shared = found.pages.iter().filter(|&&page| self.pool.is_cached(page)).count();
        let whole = (self.queue[at].tokens.len() + 1).div_ceil(PAGE_LEN).min(self.pool.len());
        let wanted = whole - found.pages.len().min(whole);
        let mut victims: Vec<(Place, usize)> = self
            .running
            .iter()
            .map(|s| (place(s, now), s.pages.len()))
            .filter(|&(other, _)| turn.is_before(other))
            .collect();
        victims.sort_unstable();
        // Where more are in work than should be, one gives way to one.
        let most = self.pacing.places().max(self.running.len());
        // Each that runs may need one more page at any time.
        let fits = |n_running: usize, n_free: usize| {
            n_running < most && (n_running == 0 || wanted + n_running <= n_free)
        };
        let mut n_running = self.running.len();
        let mut n_free = self.pool.n_free() + self.pool.n_cached() - n_shared;
        if wanted + n_running > n_free {
            n_free += self.sessions.n_droppable(&self.pool, &found.pages);
        }
        let mut chosen = Vec::new();
        while !fits(n_running, n_free) {
            let Some(((_, key), n_pages)) = victims.pop() else { return false };
            chosen.push(key);
            (n_running, n_free) = (n_running - 1, n_free + n_pages);
        }
        for key in chosen {
            self.preempt(key);
        }
        true
    }
}
