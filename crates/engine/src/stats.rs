//! Counters and gauges of an engine.

use crate::agents::AgentStats;
use crate::answers::AnswerStats;

/// A histogram of seconds with fixed bounds, as Prometheus wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Vec<u64>,
    sum: f64,
}

/// Bounds of times to first token and of whole requests, those of vLLM, so that dashboards match.
pub const TTFT_BOUNDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];

/// Bounds of times between tokens, those of vLLM.
pub const ITL_BOUNDS: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
];

impl Histogram {
    /// An empty one with these upper bounds, ascending; what is larger is counted beyond them.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Counts a value.
    pub fn add(&mut self, seconds: f64) {
        self.counts[self.bounds.partition_point(|&bound| bound < seconds)] += 1;
        self.sum += seconds;
    }

    /// Each bound with the number of values up to it; the last bound is infinity.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(&self.counts).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((bound, *sum))
        })
    }

    /// The sum of all values, in seconds.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What an engine did and has.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// Requests in the queue.
    pub waiting: usize,
    /// Requests in work.
    pub running: usize,
    /// Requests that may be in work at once.
    pub max_running: usize,
    /// Pages of the KV cache that hold something, and all of them.
    pub pages_used: usize,
    /// All pages.
    pub pages: usize,
    /// Pages that only the prefix tree holds: they make room when it is needed.
    pub pages_cached: usize,
    /// Requests that ended, by reason: stop, length, cancelled, failed.
    pub finished: [u64; 4],
    /// Tokens of prompts that were asked for, cached ones too.
    pub prompt_tokens: u64,
    /// Tokens of prompts that were found in the prefix tree.
    pub cached_tokens: u64,
    /// Tokens of prompts that were computed.
    pub prefilled_tokens: u64,
    /// Tokens generated.
    pub new_tokens: u64,
    /// Requests that another one answered.
    pub coalesced: u64,
    /// The response cache.
    pub answers: AnswerStats,
    /// Requests that were refused since they would have been too late, and those that were.
    pub deadlines: [u64; 2],
    /// Sessions that hold pages.
    pub sessions: usize,
    /// Times that a request lost its place to another and was computed again.
    pub preemptions: u64,
    /// Batches computed.
    pub batches: u64,
    /// Rows of all batches.
    pub rows: u64,
    /// What each agent asked for and got.
    pub agents: Vec<AgentStats>,
    /// Seconds from arrival to the first token.
    pub ttft: Histogram,
    /// Seconds between tokens of one request.
    pub itl: Histogram,
    /// Seconds from arrival to the end.
    pub e2e: Histogram,
    /// Seconds in the queue.
    pub queue: Histogram,
}

impl Default for Stats {
    fn default() -> Self {
        let long = || Histogram::new(TTFT_BOUNDS);
        Self {
            waiting: 0,
            running: 0,
            max_running: 0,
            pages_used: 0,
            pages: 0,
            pages_cached: 0,
            finished: [0; 4],
            prompt_tokens: 0,
            cached_tokens: 0,
            prefilled_tokens: 0,
            new_tokens: 0,
            coalesced: 0,
            answers: AnswerStats::default(),
            deadlines: [0; 2],
            sessions: 0,
            preemptions: 0,
            batches: 0,
            rows: 0,
            agents: Vec::new(),
            ttft: long(),
            itl: Histogram::new(ITL_BOUNDS),
            e2e: long(),
            queue: long(),
        }
    }
}
