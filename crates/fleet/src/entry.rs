//! A model as the manager sees it: a size, a state, and how it was used.

use crate::score::Usage;
use std::collections::BTreeSet;
use std::time::Duration;
pub use sterna_server::KeepAlive;

/// A model, by its place in the list that the manager was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(pub usize);

/// A model that may be loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Its name.
    pub name: String,
    /// The bytes that it takes when it is loaded: weights, keys and values, scratch.
    pub bytes: u64,
    /// Never evicted.
    pub is_pinned: bool,
    /// How long it stays unused.
    pub keep_alive: KeepAlive,
}

/// Where a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not in memory.
    Out,
    /// Being loaded; its bytes are taken.
    Loading,
    /// In memory, and answers.
    In,
    /// Finishes what it has; its bytes are still taken.
    Leaving,
}

/// Names of agents that are remembered per model; they come from clients, so there is an end.
const MOST_AGENTS: usize = 256;

/// A model with its state and use.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What was given; its size and pin may change.
    pub spec: Spec,
    /// Where it is.
    pub state: State,
    /// Requests since it came into memory.
    pub accesses: u64,
    /// Who asked since then.
    pub agents: BTreeSet<String>,
    /// When its load began.
    pub since: Duration,
    /// When it was used last.
    pub last_used: Duration,
    /// Requests since the start.
    pub total: u64,
    /// Loaded before anybody asked, and not asked for yet.
    pub is_guess: bool,
    /// Why it could not be loaded the last time.
    pub failure: Option<String>,
}

impl Entry {
    /// One that is not in memory.
    pub fn new(spec: Spec) -> Self {
        Self {
            spec,
            state: State::Out,
            accesses: 0,
            agents: BTreeSet::new(),
            since: Duration::ZERO,
            last_used: Duration::ZERO,
            total: 0,
            is_guess: false,
            failure: None,
        }
    }

    /// Bytes that it holds now.
    pub fn held(&self) -> u64 {
        if self.state == State::Out { 0 } else { self.spec.bytes }
    }

    /// Whether it may be evicted at all.
    pub fn is_evictable(&self) -> bool {
        self.state == State::In && !self.spec.is_pinned
    }

    /// When it goes if nobody asks; `None` while it is not there, or nothing makes it go.
    pub fn expires(&self) -> Option<Duration> {
        match self.spec.keep_alive {
            KeepAlive::For(time) if self.is_evictable() => Some(self.last_used + time),
            _ => None,
        }
    }

    /// Counts a request.
    pub fn used(&mut self, now: Duration, agent: &str) {
        self.accesses += 1;
        self.total += 1;
        self.last_used = now;
        if self.agents.len() < MOST_AGENTS {
            self.agents.insert(agent.to_owned());
        }
    }

    /// Forgets how it was used: what counts is its present stay in memory.
    pub fn forget(&mut self, now: Duration) {
        self.accesses = 0;
        self.agents.clear();
        self.last_used = now;
    }

    /// Its use, as scores see it.
    pub fn usage(&self, now: Duration) -> Usage {
        Usage {
            accesses: self.accesses,
            agents: self.agents.len(),
            age: now.saturating_sub(self.last_used),
            stay: now.saturating_sub(self.since),
            bytes: self.spec.bytes,
        }
    }
}
