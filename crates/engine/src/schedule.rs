//! Plans batches: who gets rows of the next one, who is admitted, who has to give way.
//!
//! First the queue: whoever is next by urgency, then by what its agent was served, then by arrival,
//! is admitted as long as a batch has rows, steps stay in time, and there are pages for it; the
//! less urgent give way. A request whose beginning another one is computing right now waits for
//! that one, so that a prefix which many share is computed once. Then the batch: a row for each
//! token being generated, and what is left for prompts, in the same order. Where a running sequence
//! needs a page and none can be had, the last in line gives its pages up and is computed again
//! later, mostly from what the prefix tree kept of it.

use crate::batch::{Batch, Part};
use crate::constraint::Held;
use crate::disk::tier::Tier;
use crate::fairness::Shares;
use crate::limits::{Limits, MORE_LOGITS};
use crate::pacing::Pacing;
use crate::pages::PagePool;
use crate::prefix::{Match, PrefixTree};
use crate::request::Class;
use crate::sequence::Sequence;
use crate::sessions::Sessions;
use crate::speculation::{self, Speculation};
use crate::turn::{Short, Turn, earlier, is_patient, place};
use std::time::Duration;
use sterna_runtime::settings::PAGE_LEN;

/// Batches in a row that leave out the batch class while somebody interactive reads a prompt.
const MOST_PAUSES: usize = 8;

/// Tokens that waiting for another's prefix must save at least.
const LEAST_SHARED: usize = 16;

/// What is left of a batch that is being planned.
struct Left {
    /// Rows of prompts.
    prompts: usize,
    /// Rows whose logits are wanted, but for one of each sequence.
    logits: usize,
}

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
    /// What lies below them on the disk, where pages are kept there.
    pub disk: Option<Tier>,
    /// Who waits.
    pub queue: Vec<Sequence>,
    /// Who has pages.
    pub running: Vec<Sequence>,
    /// What agents were served.
    pub shares: Shares,
    /// How large batches may be while tokens are generated.
    pub pacing: Pacing,
    /// Rows of guesses beside decoding.
    pub speculation: Speculation,
    /// Times that a sequence gave way.
    pub n_preempted: u64,
    /// Tokens of prompts that were looked up in the tree.
    pub n_looked_up: u64,
    /// Those of them that it had.
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
            disk: None,
            queue: Vec::new(),
            running: Vec::new(),
            shares: Shares::default(),
            pacing: Pacing::new(limits.itl_target, limits.max_rows, limits.max_running),
            speculation: Speculation::default(),
            n_preempted: 0,
            n_looked_up: 0,
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
        self.speculation.guess(&mut self.running, self.limits.max_rows);
        let stands_back = |s: &Sequence| is_paused && is_patient(s, now);
        let active = self.running.iter().filter(|s| !stands_back(s));
        let n_decoding = active.clone().filter(|s| s.is_decoding()).count();
        let mut order: Vec<_> = active.map(|s| (self.turn(s, now), s.key)).collect();
        order.sort_by(|a, b| earlier(&a.0, &b.0));
        let most = if n_decoding > 0 { self.pacing.rows() } else { self.limits.max_rows };
        let prompts = most.min(self.limits.max_rows - n_decoding);
        let mut left = Left { prompts, logits: MORE_LOGITS };
        for (_, key) in order {
            self.extend(key, now, &mut left, &mut batch);
        }
        let Self { running, tree, pool, .. } = self;
        speculation::extend(&mut batch, running, tree, pool, left.logits);
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
    pub(crate) fn turn(&self, sequence: &Sequence, now: Duration) -> Turn {
        let (rank, key) = place(sequence, now);
        let (class, is_prompt) = (sequence.class(), !sequence.is_decoding());
        Turn { rank, is_prompt, rows: self.shares.rows(&sequence.request.agent), class, key }
    }

    /// Gives rows to a running sequence.
    fn extend(&mut self, key: u64, now: Duration, left: &mut Left, batch: &mut Batch) {
        // It may have given way since.
        let Some(at) = self.at(key) else { return };
        let sequence = &self.running[at];
        let is_decode = sequence.is_decoding();
        let most = match is_decode {
            true => 1,
            // Of its rows one may be the last, which chooses the next token.
            false if sequence.wants_prompt() => left.prompts.min(left.logits + 1),
            false => left.prompts,
        };
        let n_tokens = sequence.n_left().min(most);
        if n_tokens == 0 || sequence.reads_whole && n_tokens < sequence.n_left() {
            return;
        }
        if !self.reserve(key, n_tokens, now, batch) {
            self.short = Some(Short::Pages);
            return;
        }
        let sequence = &self.running[self.at(key).expect("it is no victim of its own")];
        let logits = sequence.logits(n_tokens);
        self.shares.charge(&sequence.request.agent, n_tokens, sequence.request.share);
        batch.parts.push(Part { key, n_tokens, n_drafted: 0, logits, is_decode });
        left.prompts -= if is_decode { 0 } else { n_tokens };
        left.logits -= logits.count(n_tokens).saturating_sub(1);
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
            if let Some(short) = self.lacks_place(at, &turn, now) {
                self.short = Some(short);
                if short == Short::Pace {
                    // Others, who generate nothing, need not wait for it.
                    continue;
                }
                return;
            }
            let found = self.queue[at].find(&mut self.tree);
            if self.follows(at, &found) || self.waits_for_disk(at, &found, now) {
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
        (sequence.n_found, sequence.n_followed) = (0, 0);
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
            sequence.held = sequence.request.constraint.as_ref().map(Held::new);
            sequence.n_cached = sequence.n_computed;
            self.n_looked_up += sequence.n_prompt as u64;
            self.n_cached += sequence.n_cached as u64;
            if let Some(disk) = &mut self.disk {
                disk.started(&sequence, found.pages.len(), now);
            }
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
        if sequence.n_computed > 0 && !sequence.reads_whole {
            // Noted before, so that these are the pages that the tree finds.
            let (pages, n) = (&sequence.pages, sequence.n_computed);
            self.sessions.keep(&mut self.pool, &sequence.sessions, pages, n);
        }
        sequence.release(&mut self.tree, &mut self.pool);
        self.forget(key);
        Some(sequence)
    }

    /// Lets go of what the disk's tier knows of a sequence that ended.
    pub fn forget(&mut self, key: u64) {
        if let Some(disk) = &mut self.disk {
            disk.forget(key);
        }
    }
}
