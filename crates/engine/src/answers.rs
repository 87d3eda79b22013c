//! The response cache: answers that are the same each time, kept for who asks again.
//!
//! An engine has one, of its own model, so that another model or plan never answers from it. Keys
//! are whole requests ([`AnswerKey`]), entries go when their time is over, and when there are too
//! many bytes the least recently used make room.

use crate::answer_key::AnswerKey;
use crate::request::{CacheControl, Finished, Output, TokenLogprob};
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

/// How much is kept, and for how long. Nothing is, unless it is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerLimits {
    /// Bytes of all entries; 0 keeps none.
    pub bytes: usize,
    /// Where a request says nothing else.
    pub ttl: Duration,
}

/// What the cache did and has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerStats {
    /// Requests that were answered from it.
    pub hits: u64,
    /// Requests that might have been.
    pub misses: u64,
    /// Entries that made room for others or were too old.
    pub evictions: u64,
    /// Entries.
    pub entries: usize,
    /// Bytes of them.
    pub bytes: usize,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its pieces.
    pub said: Arc<[Output]>,
    /// Its end.
    pub finished: Finished,
}

struct Entry {
    kept: Kept,
    stored: Duration,
    ttl: Duration,
    /// When it was last used, in uses.
    used: u64,
    /// When it was made, in uses.
    made: u64,
    bytes: usize,
}

impl Entry {
    /// Its place among those whose time ends.
    fn end(&self) -> (Duration, u64) {
        (self.stored.saturating_add(self.ttl), self.made)
    }
}

/// The cache. `S` hashes keys; which hash it is changes no answer.
pub struct Answers<S = RandomState> {
    limits: AnswerLimits,
    entries: HashMap<Arc<AnswerKey>, Entry, S>,
    /// The least recently used first.
    order: BTreeMap<u64, Arc<AnswerKey>>,
    /// Those whose time ends first.
    ends: BTreeMap<(Duration, u64), Arc<AnswerKey>>,
    uses: u64,
    stats: AnswerStats,
}

impl<S: BuildHasher + Default> Answers<S> {
    /// An empty one.
    pub fn new(limits: AnswerLimits) -> Self {
        let (order, ends) = (BTreeMap::new(), BTreeMap::new());
        let stats = AnswerStats::default();
        Self { limits, entries: HashMap::default(), order, ends, uses: 0, stats }
    }

    /// The answer to a request, and how old it is.
    pub fn find(
        &mut self,
        now: Duration,
        key: &AnswerKey,
        control: &CacheControl,
    ) -> Option<(Kept, Duration)> {
        if self.limits.bytes == 0 || control.no_cache {
            return None;
        }
        self.expire(now);
        let age = |entry: &Entry| now.saturating_sub(entry.stored);
        let most = control.max_age.unwrap_or(Duration::MAX);
        let Some(entry) = self.entries.get_mut(key).filter(|entry| age(entry) <= most) else {
            self.stats.misses += 1;
            return None;
        };
        self.stats.hits += 1;
        self.uses += 1;
        let before = std::mem::replace(&mut entry.used, self.uses);
        let found = (entry.kept.clone(), age(entry));
        let key = self.order.remove(&before).expect("every entry has its place");
        self.order.insert(self.uses, key);
        Some(found)
    }

    /// Keeps an answer, in the place of an older one.
    pub fn insert(
        &mut self,
        now: Duration,
        key: &AnswerKey,
        control: &CacheControl,
        said: Vec<Output>,
        finished: Finished,
    ) {
        let ended = finished.text.len() + finished.embedding.as_deref().map_or(0, size_of_val);
        let bytes = key.len() + size(&said) + size_of::<Entry>() + ended;
        self.expire(now);
        if control.no_store || bytes > self.limits.bytes {
            return;
        }
        self.remove(key);
        while self.stats.bytes + bytes > self.limits.bytes {
            let (_, oldest) = self.order.first_key_value().expect("bytes are of entries");
            self.remove(&oldest.clone());
            self.stats.evictions += 1;
        }
        self.uses += 1;
        let ttl = control.ttl.unwrap_or(self.limits.ttl);
        let kept = Kept { said: said.into(), finished };
        let entry = Entry { kept, stored: now, ttl, used: self.uses, made: self.uses, bytes };
        let key = Arc::new(key.clone());
        self.order.insert(self.uses, key.clone());
        self.ends.insert(entry.end(), key.clone());
        self.entries.insert(key, entry);
        self.stats.bytes += bytes;
    }

    /// Forgets everything; how many entries there were.
    pub fn clear(&mut self) -> usize {
        let n = self.entries.len();
        self.entries.clear();
        self.order.clear();
        self.ends.clear();
        self.stats.bytes = 0;
        n
    }

    /// Counters and gauges.
    pub fn stats(&self) -> AnswerStats {
        AnswerStats { entries: self.entries.len(), ..self.stats }
    }

    /// Forgets those whose time is over, so that they take no memory until somebody asks.
    fn expire(&mut self, now: Duration) {
        while let Some(first) = self.ends.first_entry().filter(|first| first.key().0 <= now) {
            let key = first.get().clone();
            self.remove(&key);
            self.stats.evictions += 1;
        }
    }

    fn remove(&mut self, key: &AnswerKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.used);
            self.ends.remove(&entry.end());
            self.stats.bytes -= entry.bytes;
        }
    }
}

/// Bytes of pieces.
fn size(said: &[Output]) -> usize {
    let of = |one: &TokenLogprob| size_of::<TokenLogprob>() + size_of_val(&*one.top);
    let owned = |output: &Output| match output {
        Output::Prompt(prompt) => prompt.iter().map(of).sum(),
        Output::Token { text, logprob, .. } => text.len() + logprob.as_ref().map_or(0, of),
        Output::Finished(_) | Output::Failed(_) => 0,
    };
    size_of_val(said) + said.iter().map(owned).sum::<usize>()
}

#[cfg(test)]
mod tests;
