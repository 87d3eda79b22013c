//! Plans batches: who gets rows of the next one, who is admitted, who has to give way.
//!
//! First the queue: whoever is next by urgency, then by what its agent was served, then by arrival,
//! is admitted as long as a batch has rows and there are pages for it; the less urgent give way. A
//! request whose beginning another one is computing right now waits for that one, so that a prefix
//! which many share is computed once. Then the batch: a row for each token being generated, and
//! what is left for prompts, in the same order. Where a running sequence needs a page and none can
//! be had, the last in line gives its pages up and is computed again later, mostly from what the
//! prefix tree kept of it.

use crate::batch::{Batch, Part};
use crate::core::Limits;
use crate::fairness::Shares;
use crate::pacing::Pacing;
use crate::pages::PagePool;
use crate::prefix::{Match, PrefixTree};
use crate::request::Class;
use crate::sequence::Sequence;
use crate::sessions::Sessions;
use crate::turn::{Place, Short, Turn, earlier, is_patient, place};
use std::time::Duration;
use sterna_runtime::settings::PAGE_LEN;

/// Batches in a row that leave out the batch class while somebody interactive reads a prompt.
const MOST_PAUSES: usize = 8;

/// Tokens that waiting for another's prefix must save at least.
const LEAST_SHARED: usize = 16;

/// Sequences and the pages they have.
pub struct Schedule {
    /// What there is to share out.
    pub limits: Limits,
    /// The pages.
    pub pool: PagePool,
    /// The prefixes.
    pub tree: PrefixTree,
    /// Conversations whose pages stay.
    pub sessions: Sessions,
    /// Who waits.
    pub queue: Vec<Sequence>,
    /// Who has pages.
    pub running: Vec<Sequence>,
    /// What agents were served.
    pub shares: Shares,
    /// Rows of prompts beside decoding.
    pub pacing: Pacing,
    /// Times that a sequence gave way.
    pub n_preempted: u64,
    /// Tokens of prompts that the tree had.
    pub n_cached: u64,
    /// What the last batch lacked, where somebody had to wait for it.
    pub short: Option<Short>,
    n_pauses: usize,
}

impl Schedule {
    /// Nothing in work yet.
    pub fn new(limits: Limits) -> Self {
        // A batch has a row for each sequence.
        let limits = Limits { max_running: limits.max_running.min(limits.max_rows), ..limits };
        Self {
            pool: PagePool::new(limits.n_pages),
            tree: PrefixTree::default(),
            sessions: Sessions::default(),
            queue: Vec::new(),
            running: Vec::new(),
            shares: Shares::default(),
            pacing: Pacing::new(limits.itl_target, limits.max_rows),
            n_preempted: 0,
            n_cached: 0,
            short: None,
            n_pauses: 0,
            limits,
        }
    }

    /// The next batch; empty when there is nothing to do.
    pub fn plan(&mut self, now: Duration) -> Batch {
        let is_paused = self.pauses_batch();
        let mut batch = Batch::default();
        self.short = None;
        self.admit(now, is_paused, &mut batch);
        let stands_back = |s: &Sequence| is_paused && is_patient(s, now);
        let active = self.running.iter().filter(|s| !stands_back(s));
        let n_decoding = active.clone().filter(|s| s.is_decoding()).count();
        let mut order: Vec<_> = active.map(|s| (self.turn(s, now), s.key)).collect();
        order.sort_by(|a, b| earlier(&a.0, &b.0));
        let most = if n_decoding > 0 { self.pacing.limit() } else { self.limits.max_rows };
        let mut prompt_rows = most.min(self.limits.max_rows - n_decoding);
        for (_, key) in order {
            self.extend(key, now, &mut prompt_rows, &mut batch);
        }
        self.n_pauses = if is_paused { self.n_pauses + 1 } else { 0 };
        if batch.parts.is_empty() && is_paused && !self.running.is_empty() {
            // Who is urgent cannot go on yet, so nobody else need stand back.
            self.n_pauses = MOST_PAUSES;
            assert!(batch.copies.is_empty(), "whoever was admitted has rows");
            return self.plan(now);
        }
        assert!(batch.copies.is_empty() || !batch.parts.is_empty(), "copies are for parts");
        batch
    }

    /// Whether the batch class stands back: somebody interactive reads a prompt, or waits to.
    fn pauses_batch(&self) -> bool {
        let reads = |s: &Sequence| s.class() == Class::Interactive && !s.is_decoding();
        let is_urgent = self.running.iter().any(reads) || self.queue.iter().any(reads);
        is_urgent && self.n_pauses < MOST_PAUSES
    }

    /// When a sequence is served: urgency, then tokens before prompts, then what its agent was
    /// served, then arrival.
    fn turn(&self, sequence: &Sequence, now: Duration) -> Turn {
        let (rank, key) = place(sequence, now);
        let (class, is_prompt) = (sequence.class(), !sequence.is_decoding());
        Turn { rank, is_prompt, rows: self.shares.rows(&sequence.request.agent), class, key }
    }

    /// Gives rows to a running sequence.
    fn extend(&mut self, key: u64, now: Duration, prompt_rows: &mut usize, batch: &mut Batch) {
        // It may have given way since.
        let Some(at) = self.at(key) else { return };
        let sequence = &self.running[at];
        let is_decode = sequence.is_decoding();
        let most = if is_decode { 1 } else { sequence.most_rows().min(*prompt_rows) };
        let n_tokens = sequence.n_left().min(most);
        if n_tokens == 0 {
            return;
        }
        if !self.reserve(key, n_tokens, now, batch) {
            self.short = Some(Short::Pages);
            return;
        }
        let sequence = &self.running[self.at(key).expect("it is no victim of its own")];
        let logits = sequence.logits(n_tokens);
        self.shares.charge(&sequence.request.agent, n_tokens);
        batch.parts.push(Part { key, n_tokens, logits, is_decode });
        *prompt_rows -= if is_decode { 0 } else { n_tokens };
    }

    /// Gives a running sequence the pages for so many tokens more; others that come after it and
    /// are not in the batch give way for it.
    fn reserve(&mut self, key: u64, n_tokens: usize, now: Duration, batch: &Batch) -> bool {
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
    /// of sessions. Whether there were enough.
    fn make_room(&mut self, n_pages: usize) -> bool {
        let Self { tree, pool, sessions, .. } = self;
        while !tree.make_room(pool, n_pages) {
            if !sessions.drop_oldest(pool) {
                return false;
            }
        }
        true
    }

    /// Puts a running sequence back into the queue.
    fn preempt(&mut self, key: u64) {
        let at = self.at(key).expect("the caller found it");
        let mut sequence = self.running.remove(at);
        sequence.release(&mut self.tree, &mut self.pool);
        self.queue.push(sequence);
        self.n_preempted += 1;
    }

    /// Admits who is next while the prompts in work leave rows of a batch.
    fn admit(&mut self, now: Duration, is_paused: bool, batch: &mut Batch) {
        let waits = self.queue.iter().filter(|s| !(is_paused && is_patient(s, now)));
        let mut waiting: Vec<_> = waits.map(|s| (self.turn(s, now), s.key)).collect();
        waiting.sort_by(|a, b| earlier(&a.0, &b.0));
        for (turn, key) in waiting {
            let prompts = self.running.iter().filter(|s| !s.is_decoding());
            let before = prompts.filter(|s| earlier(&self.turn(s, now), &turn).is_lt());
            if before.map(Sequence::n_left).sum::<usize>() >= self.limits.max_rows {
                return;
            }
            let at = self.queue.iter().position(|s| s.key == key).expect("it still waits");
            if !self.has_place(&turn, now) {
                self.short = Some(Short::Places);
                return;
            }
            let found = self.queue[at].find(&mut self.tree);
            if self.follows(at, &found) {
                continue;
            }
            if !self.make_place(at, &found, now) {
                self.short = Some(Short::Pages);
                return;
            }
            self.start(at, &found, now, batch);
        }
    }

    /// Moves a sequence from the queue to the running, with the pages that the tree has of it.
    fn start(&mut self, at: usize, found: &Match, now: Duration, batch: &mut Batch) {
        let mut sequence = self.queue.remove(at);
        sequence.adopt(&mut self.pool, found);
        if let Some((from, n)) = found.partial
            && self.make_room(1)
        {
            let page = self.pool.take().expect("there is room");
            batch.copies.push((from, page));
            sequence.pages.push(page);
            sequence.n_computed += n;
        }
        if sequence.started.is_none() {
            sequence.started = Some(now);
            sequence.n_cached = sequence.n_computed;
            self.n_cached += sequence.n_cached as u64;
        }
        self.running.push(sequence);
    }

    /// Whether somebody as urgent is computing a beginning of it that the tree does not have yet.
    fn follows(&self, at: usize, found: &Match) -> bool {
        let waiting = &self.queue[at];
        self.running.iter().any(|other| {
            if other.is_decoding() || other.class() > waiting.class() {
                return false;
            }
            let common = waiting.common(other);
            let there = common.next_multiple_of(PAGE_LEN).min(other.tokens.len());
            common >= found.n_tokens() + LEAST_SHARED && other.n_computed < there
        })
    }

    /// Whether one more may run, or somebody less urgent can give way.
    fn has_place(&self, turn: &Turn, now: Duration) -> bool {
        self.running.len() < self.limits.max_running
            || self.running.iter().any(|s| turn.is_before(place(s, now)))
    }

    /// Makes a place among the running for one that waits, with pages for all of its tokens; less
    /// urgent ones give way. Whether there is one: otherwise nobody gave way.
    fn make_place(&mut self, at: usize, found: &Match, now: Duration) -> bool {
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
        // Each that runs may need one more page at any time.
        let fits = |n_running: usize, n_free: usize| {
            n_running < self.limits.max_running && (n_running == 0 || wanted + n_running <= n_free)
        };
        let mut n_running = self.running.len();
        let mut n_free = self.pool.n_free() + self.pool.n_cached() - n_shared;
        let mut chosen = Vec::new();
        while !fits(n_running, n_free) {
            if n_running < self.limits.max_running && self.sessions.drop_oldest(&mut self.pool) {
                return self.make_place(at, found, now);
            }
            let Some(((_, key), n_pages)) = victims.pop() else { return false };
            chosen.push(key);
            (n_running, n_free) = (n_running - 1, n_free + n_pages);
        }
        for key in chosen {
            self.preempt(key);
        }
        true
    }

    /// Where a running sequence is in the list.
    pub fn at(&self, key: u64) -> Option<usize> {
        self.running.iter().position(|s| s.key == key)
    }

    /// Ends a sequence, wherever it is.
    pub fn remove(&mut self, key: u64) -> Option<Sequence> {
        let mut sequence = match self.at(key) {
            Some(at) => self.running.remove(at),
            None => self.queue.remove(self.queue.iter().position(|s| s.key == key)?),
        };
        sequence.note(&mut self.tree, &mut self.pool, true);
        if let Some(session) = &sequence.request.session
            && sequence.n_computed > 0
        {
            // Noted before, so that these are the pages that the tree finds.
            let (pages, n) = (&sequence.pages, sequence.n_computed);
            self.sessions.keep(&mut self.pool, session, pages, n);
        }
        sequence.release(&mut self.tree, &mut self.pool);
        Some(sequence)
    }
}
