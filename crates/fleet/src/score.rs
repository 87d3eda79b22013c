//! The two scores of a model in memory, how much it is wanted, and who makes room first.
//!
//! In: how often, by how many and how long ago it was used, and its size. Out: scores from 0 to 1,
//! and what a model is worth to keep. The formulas are system 001's (its model cache manager), to
//! the letter: whoever moves over from it finds models leave in the order they know.

use std::time::Duration;

/// How a model was used since it came into memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Requests for it.
    pub accesses: u64,
    /// Different agents among them.
    pub agents: usize,
    /// Time since the last use.
    pub age: Duration,
    /// Time since it came into memory.
    pub stay: Duration,
    /// Its bytes.
    pub bytes: u64,
}

/// Bytes of the megabytes that sizes are told in.
pub const MB: f64 = (1u64 << 20) as f64;

/// An agent more than this makes a model one that many use.
const MANY_AGENTS: usize = 2;
/// What many use is left alone for so long after its last use.
const HOT: Duration = Duration::from_secs(60);

impl Usage {
    /// What it is worth to keep, of a budget of so many bytes; the lowest is evicted first:
    /// `.3/(1+age_h) + .3 min(accesses/100, 1) + .3 min(agents/5, 1) + .1 (1 - size/max)`.
    pub fn eviction_score(&self, max_bytes: u64) -> f64 {
        let age_h = self.age.as_secs_f64() / 3600.0;
        let size = (self.bytes as f64 / max_bytes.max(1) as f64).min(1.0);
        0.3 / (1.0 + age_h)
            + 0.3 * (self.accesses as f64 / 100.0).min(1.0)
            + 0.3 * (self.agents as f64 / 5.0).min(1.0)
            + 0.1 * (1.0 - size)
    }

    /// What its memory brings:
    /// `.4 min(accesses/100, 1) + .4 min(agents/10, 1) + .2/(1 + size_mb/100)`.
    pub fn efficiency_score(&self) -> f64 {
        let size_mb = self.bytes as f64 / MB;
        0.4 * (self.accesses as f64 / 100.0).min(1.0)
            + 0.4 * (self.agents as f64 / 10.0).min(1.0)
            + 0.2 / (1.0 + size_mb / 100.0)
    }

    /// Whether eviction passes it over: more than two agents use it, and did so within a minute.
    pub fn is_hot(&self) -> bool {
        self.agents > MANY_AGENTS && self.age < HOT
    }
}

/// Who makes room first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eviction {
    /// The lowest [`Usage::eviction_score`]; what many use right now is passed over.
    #[default]
    Score,
    /// The least recently used.
    Lru,
    /// The least frequently used since it came, of these the least recently.
    Lfu,
    /// The first that came.
    Fifo,
}

impl Eviction {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Score, Self::Lru, Self::Lfu, Self::Fifo];

    /// Its name in flags.
    pub fn name(self) -> &'static str {
        match self {
            Self::Score => "score",
            Self::Lru => "lru",
            Self::Lfu => "lfu",
            Self::Fifo => "fifo",
        }
    }

    /// The one of a name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|eviction| eviction.name() == name)
    }

    /// What a model is worth to keep, of a budget of so many bytes: the lowest goes first, by the
    /// first number and then by the second.
    pub fn worth(self, usage: &Usage, max_bytes: u64) -> [f64; 2] {
        let (age, stay) = (usage.age.as_secs_f64(), usage.stay.as_secs_f64());
        match self {
            Self::Score => [usage.eviction_score(max_bytes), -age],
            Self::Lru => [-age, -stay],
            Self::Lfu => [usage.accesses as f64, -age],
            Self::Fifo => [-stay, -age],
        }
    }

    /// Whether a model is passed over for now.
    pub fn spares(self, usage: &Usage) -> bool {
        self == Self::Score && usage.is_hot()
    }
}

/// How much a model is wanted, by all requests for it there were: `min(total/100 + .1 agents, 1)`.
pub fn demand(total: u64, agents: usize) -> f64 {
    (total as f64 / 100.0 + 0.1 * agents as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(accesses: u64, agents: usize, age_s: u64, mb: u64) -> Usage {
        let age = Duration::from_secs(age_s);
        Usage { accesses, agents, age, stay: age, bytes: mb << 20 }
    }

    // proves S-13: the scores are the formulas
    #[test]
    fn scores_are_the_formulas_by_hand() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} is not {b}");
        let max = 1000 << 20;
        close(usage(0, 0, 0, 0).eviction_score(max), 0.3 + 0.1);
        close(usage(50, 1, 3600, 250).eviction_score(max), 0.15 + 0.15 + 0.06 + 0.075);
        close(usage(900, 9, 7200, 1000).eviction_score(max), 0.1 + 0.3 + 0.3);
        close(usage(900, 9, 7200, 4000).eviction_score(max), 0.1 + 0.3 + 0.3);
        close(usage(0, 0, 0, 0).efficiency_score(), 0.2);
        close(usage(25, 5, 9, 100).efficiency_score(), 0.1 + 0.2 + 0.1);
        close(usage(500, 50, 9, 300).efficiency_score(), 0.4 + 0.4 + 0.05);
        close(demand(60, 1), 0.7);
        close(demand(99, 9), 1.0);
    }

    #[test]
    fn what_many_use_now_is_hot() {
        assert!(usage(9, 3, 59, 1).is_hot());
        assert!(!usage(9, 3, 60, 1).is_hot());
        assert!(!usage(9, 2, 0, 1).is_hot());
    }
}
