//! Makes room: pages for who runs, a place for who waits; and who gives way for it.

use crate::batch::Batch;
use crate::pages::PagePool;
use crate::prefix::Match;
use crate::schedule::Schedule;
use crate::sequence::Sequence;
use crate::turn::{Place, Short, Turn, place};
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

    /// What somebody who waits lacks to run, and nobody less urgent can give way for.
    pub(crate) fn lacks_place(&self, at: usize, turn: &Turn, now: Duration) -> Option<Short> {
        let gives_way = |s: &Sequence| turn.is_before(place(s, now));
        let is_paced = self.queue[at].generates() && self.n_generating() >= self.pacing.places();
        if self.running.len() >= self.limits.max_running && !self.running.iter().any(gives_way) {
            Some(Short::Places)
        } else if is_paced && !self.running.iter().any(|s| s.generates() && gives_way(s)) {
            Some(Short::Pace)
        } else {
            None
        }
    }

    /// Those in work that others' next tokens wait for.
    fn n_generating(&self) -> usize {
        self.running.iter().filter(|s| s.generates()).count()
    }

    /// Makes a place among the running for one that waits, with pages for all of its tokens; less
    /// urgent ones give way. Whether there is one: otherwise nobody gave way.
    pub(crate) fn make_place(&mut self, at: usize, found: &Match, now: Duration) -> bool {
        let turn = self.turn(&self.queue[at], now);
        let n_shared = found.pages.iter().filter(|&&page| self.pool.is_cached(page)).count();
        let whole = (self.queue[at].tokens.len() + 1).div_ceil(PAGE_LEN).min(self.pool.len());
        let wanted = whole - found.pages.len().min(whole);
        let generates = self.queue[at].generates();
        let mut victims: Vec<(Place, usize, bool)> = self
            .running
            .iter()
            .map(|s| (place(s, now), s.pages.len(), s.generates()))
            .filter(|&(other, ..)| turn.is_before(other))
            .collect();
        victims.sort_unstable();
        let mut n_running = self.running.len();
        let mut n_generating = self.n_generating();
        // Where more generate than should, one gives way to one.
        let most = self.pacing.places().max(n_generating);
        let mut n_free = self.pool.n_free() + self.pool.n_cached() - n_shared;
        if wanted + n_running > n_free {
            n_free += self.sessions.n_droppable(&self.pool, &found.pages);
        }
        let mut chosen = Vec::new();
        loop {
            // Each that runs may need one more page at any time.
            let has_pages = n_running == 0 || wanted + n_running <= n_free;
            let has_place = n_running < self.limits.max_running;
            if has_pages && has_place && (!generates || n_generating < most) {
                break;
            }
            // Who generates nothing does not hold up the pace.
            let helps =
                |&(_, _, generates): &(Place, usize, bool)| generates || !has_pages || !has_place;
            let Some(last) = victims.iter().rposition(helps) else { return false };
            let ((_, key), n_pages, generates) = victims.remove(last);
            chosen.push(key);
            (n_running, n_free) = (n_running - 1, n_free + n_pages);
            n_generating -= usize::from(generates);
        }
        for key in chosen {
            self.preempt(key);
        }
        true
    }
}
