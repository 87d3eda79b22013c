//! The response cache: answers that are the same each time, kept for who asks again.
//!
//! An engine has one, of its own model, so that another model or plan never answers from it. Keys
//! are whole requests ([`AnswerKey`]), entries end after a time, and when there are too many bytes
//! the least recently used make room.

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
    used: u64,
    bytes: usize,
}

/// The cache. `S` hashes keys; which hash it is changes no answer.
pub struct Answers<S = RandomState> {
    limits: AnswerLimits,
    entries: HashMap<AnswerKey, Entry, S>,
    /// The least recently used first.
    order: BTreeMap<u64, AnswerKey>,
    uses: u64,
    stats: AnswerStats,
}

impl<S: BuildHasher + Default> Answers<S> {
    /// An empty one.
    pub fn new(limits: AnswerLimits) -> Self {
        let (entries, order) = (HashMap::default(), BTreeMap::new());
        Self { limits, entries, order, uses: 0, stats: AnswerStats::default() }
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
        let age = |entry: &Entry| now.saturating_sub(entry.stored);
        if self.entries.get(key).is_some_and(|entry| age(entry) >= entry.ttl) {
            self.remove(key);
            self.stats.evictions += 1;
        }
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
        let bytes = 2 * key.len() + size(&said) + size_of::<Entry>() + ended;
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
        self.entries.insert(key.clone(), Entry { kept, stored: now, ttl, used: self.uses, bytes });
        self.order.insert(self.uses, key.clone());
        self.stats.bytes += bytes;
    }

    /// Forgets everything; how many entries there were.
    pub fn clear(&mut self) -> usize {
        let n = self.entries.len();
        self.entries.clear();
        self.order.clear();
        self.stats.bytes = 0;
        n
    }

    /// Counters and gauges.
    pub fn stats(&self) -> AnswerStats {
        AnswerStats { entries: self.entries.len(), ..self.stats }
    }

    fn remove(&mut self, key: &AnswerKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.used);
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
