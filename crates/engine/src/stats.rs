//! Counters and gauges of an engine.

use crate::agents::{AgentStats, merged};
use crate::answers::AnswerStats;
use crate::guess::Source;
use crate::request::{Class, Finished};
use crate::speculation::{MOST_DRAFTED, State};

/// A histogram of seconds or of tokens with fixed bounds, as Prometheus wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Vec<u64>,
    sum: f64,
}

/// Bounds of times to first token, those of vLLM, so that dashboards match.
pub const TTFT_BOUNDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];

/// Bounds of times between tokens, those of vLLM.
pub const ITL_BOUNDS: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
];

/// Bounds of whole requests and their phases, those of vLLM.
pub const REQUEST_BOUNDS: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0, 7680.0,
];

/// What whole requests and their phases are counted by: [`REQUEST_BOUNDS`], and [`TTFT_BOUNDS`]
/// between them, since small models answer in less than vLLM's first bound.
pub const LATENCY_BOUNDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.3, 0.5, 0.75, 0.8, 1.0, 1.5, 2.0, 2.5,
    5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 120.0, 160.0, 240.0, 480.0, 640.0,
    960.0, 1920.0, 2560.0, 7680.0,
];

/// Bounds of numbers of tokens: 1, 2 and 5 times powers of ten, as vLLM has them.
pub const LEN_BOUNDS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5,
    5e5, 1e6,
];

/// Bounds of the rows of a batch, those of vLLM.
pub const ROWS_BOUNDS: &[f64] =
    &[1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];

/// Bounds of relative errors.
pub const ERROR_BOUNDS: &[f64] = &[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

impl Histogram {
    /// An empty one with these upper bounds, ascending; what is larger is counted beyond them.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Counts a value.
    pub fn add(&mut self, value: f64) {
        self.counts[self.bounds.partition_point(|&bound| bound < value)] += 1;
        self.sum += value;
    }

    /// Counts all values of another one, of the same bounds.
    pub fn merge(&mut self, other: &Self) {
        assert!(self.bounds == other.bounds, "only histograms of the same bounds are one");
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, n)| *sum += n);
        self.sum += other.sum;
    }

    /// Each bound with the number of values up to it; the last bound is infinity.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(&self.counts).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((bound, *sum))
        })
    }

    /// The same for some of the bounds only, and for infinity.
    pub fn cumulative_at(&self, bounds: &[f64]) -> impl Iterator<Item = (f64, u64)> {
        self.cumulative().filter(|(bound, _)| bound.is_infinite() || bounds.contains(bound))
    }

    /// The sum of all values.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What was read and written of the pages that are kept on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Bytes of pages read.
    pub read_bytes: u64,
    /// Bytes of files written.
    pub written_bytes: u64,
    /// Bytes of files that made room for others.
    pub evicted_bytes: u64,
    /// Files that were not written since too many waited.
    pub dropped_writes: u64,
    /// Files that were not written since the system refused.
    pub failed_writes: u64,
    /// Files that were damaged or could not be read.
    pub refused_files: u64,
}

/// What guesses came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpecStats {
    /// Guesses that were computed, by who made them, in the order of [`Source::ALL`].
    pub guesses: [u64; 3],
    /// Tokens of them.
    pub drafted: [u64; 3],
    /// Those that were right, each of which saved a step.
    pub accepted: [u64; 3],
    /// The same by the token's place in its guess.
    pub accepted_at: [u64; MOST_DRAFTED],
}

impl SpecStats {
    /// Counts a guess of which so many tokens were computed.
    pub(crate) fn count_computed(&mut self, source: Source, n_tokens: usize) {
        self.guesses[source as usize] += 1;
        self.drafted[source as usize] += n_tokens as u64;
    }

    /// Counts a token that was computed and right.
    pub(crate) fn count_accepted(&mut self, source: Source, position: usize) {
        self.accepted[source as usize] += 1;
        self.accepted_at[position] += 1;
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
    /// As many as steps are in time with, which is no more.
    pub paced_running: usize,
    /// Rows of prompts that steps are in time with beside tokens being generated.
    pub paced_rows: usize,
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
    /// Tokens of prompts that were looked up in the prefix tree: not of those whose answer was
    /// there or in work already, nor of those that were refused.
    pub looked_up_tokens: u64,
    /// Those of them that were found there.
    pub cached_tokens: u64,
    /// Those of them that came from the disk.
    pub disk_tokens: u64,
    /// What was read and written there.
    pub disk: DiskStats,
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
    /// Guesses.
    pub spec: SpecStats,
    /// Whether they are made now.
    pub speculation: State,
    /// Why the draft model is asked no more, where it failed.
    pub draft_failure: Option<String>,
    /// Batches computed.
    pub batches: u64,
    /// Rows of all batches.
    pub rows: u64,
    /// Sequences of all batches, each counted in each batch that it had rows in.
    pub sequences: u64,
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
    /// The same by class, in the order of [`Class::ALL`].
    pub queue_by_class: [Histogram; 3],
    /// Seconds from the first batch with a token of a request to its first generated token.
    pub prefill: Histogram,
    /// Seconds from there to the end.
    pub decode: Histogram,
    /// Seconds of both together.
    pub inference: Histogram,
    /// Seconds per token after the first, on average over a request; 0 where there is none.
    pub per_token: Histogram,
    /// Tokens of the prompt of a request that ended.
    pub prompt_len: Histogram,
    /// Tokens generated for it.
    pub answer_len: Histogram,
    /// Tokens that it might have had.
    pub max_tokens: Histogram,
    /// Rows of a batch.
    pub batch_rows: Histogram,
    /// By which part of what a batch took it differed from what was expected of it.
    pub forecast_error: Histogram,
}

impl Stats {
    /// Adds what was counted before this engine began; what it has now stays as it is.
    pub fn add(&mut self, before: &Self) {
        let mut before = before.clone();
        for (sum, n) in self.counts_mut().into_iter().zip(before.counts_mut()) {
            *sum += *n;
        }
        for (sum, more) in self.spreads_mut().into_iter().zip(before.spreads_mut()) {
            sum.merge(more);
        }
        self.agents = merged(&self.agents, &before.agents);
    }

    /// All that only grows.
    fn counts_mut(&mut self) -> Vec<&mut u64> {
        let (answers, disk, spec) = (&mut self.answers, &mut self.disk, &mut self.spec);
        let lists: [&mut [u64]; 6] = [
            &mut self.finished,
            &mut self.deadlines,
            &mut spec.guesses,
            &mut spec.drafted,
            &mut spec.accepted,
            &mut spec.accepted_at,
        ];
        let single = [
            &mut self.prompt_tokens,
            &mut self.looked_up_tokens,
            &mut self.cached_tokens,
            &mut self.disk_tokens,
            &mut self.prefilled_tokens,
            &mut self.new_tokens,
            &mut self.coalesced,
            &mut self.preemptions,
            &mut self.batches,
            &mut self.rows,
            &mut self.sequences,
            &mut answers.hits,
            &mut answers.misses,
            &mut answers.evictions,
            &mut disk.read_bytes,
            &mut disk.written_bytes,
            &mut disk.evicted_bytes,
            &mut disk.dropped_writes,
            &mut disk.failed_writes,
            &mut disk.refused_files,
        ];
        lists.into_iter().flatten().chain(single).collect()
    }

    /// All distributions.
    fn spreads_mut(&mut self) -> Vec<&mut Histogram> {
        let single = [
            &mut self.ttft,
            &mut self.itl,
            &mut self.e2e,
            &mut self.queue,
            &mut self.prefill,
            &mut self.decode,
            &mut self.inference,
            &mut self.per_token,
            &mut self.prompt_len,
            &mut self.answer_len,
            &mut self.max_tokens,
            &mut self.batch_rows,
            &mut self.forecast_error,
        ];
        self.queue_by_class.iter_mut().chain(single).collect()
    }

    /// Counts a request that came to its end, stop or length.
    pub(crate) fn count(&mut self, class: Class, max_tokens: usize, end: &Finished) {
        let Finished { queue_seconds, prefill_seconds, decode_seconds, .. } = *end;
        let (prompt_tokens, new_tokens) = (end.prompt_tokens as f64, end.new_tokens as f64);
        let per_token = if new_tokens > 1.0 { decode_seconds / (new_tokens - 1.0) } else { 0.0 };
        for (histogram, value) in [
            (&mut self.queue, queue_seconds),
            (&mut self.queue_by_class[class as usize], queue_seconds),
            (&mut self.prefill, prefill_seconds),
            (&mut self.decode, decode_seconds),
            (&mut self.inference, prefill_seconds + decode_seconds),
            (&mut self.per_token, per_token),
            (&mut self.prompt_len, prompt_tokens),
            (&mut self.answer_len, new_tokens),
            (&mut self.max_tokens, max_tokens as f64),
        ] {
            histogram.add(value);
        }
    }
}

impl Default for Stats {
    fn default() -> Self {
        let latency = || Histogram::new(LATENCY_BOUNDS);
        let len = || Histogram::new(LEN_BOUNDS);
        Self {
            waiting: 0,
            running: 0,
            max_running: 0,
            paced_running: 0,
            paced_rows: 0,
            pages_used: 0,
            pages: 0,
            pages_cached: 0,
            finished: [0; 4],
            prompt_tokens: 0,
            looked_up_tokens: 0,
            cached_tokens: 0,
            disk_tokens: 0,
            disk: DiskStats::default(),
            prefilled_tokens: 0,
            new_tokens: 0,
            coalesced: 0,
            answers: AnswerStats::default(),
            deadlines: [0; 2],
            sessions: 0,
            preemptions: 0,
            spec: SpecStats::default(),
            speculation: State::default(),
            draft_failure: None,
            batches: 0,
            rows: 0,
            sequences: 0,
            agents: Vec::new(),
            ttft: Histogram::new(TTFT_BOUNDS),
            itl: Histogram::new(ITL_BOUNDS),
            e2e: latency(),
            queue: latency(),
            queue_by_class: std::array::from_fn(|_| latency()),
            prefill: latency(),
            decode: latency(),
            inference: latency(),
            per_token: Histogram::new(ITL_BOUNDS),
            prompt_len: len(),
            answer_len: len(),
            max_tokens: len(),
            batch_rows: Histogram::new(ROWS_BOUNDS),
            forecast_error: Histogram::new(ERROR_BOUNDS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guess::Guessed;

    #[test]
    fn bounds_ascend_and_those_of_latencies_have_vllms() {
        let lists =
            [TTFT_BOUNDS, ITL_BOUNDS, LATENCY_BOUNDS, LEN_BOUNDS, ROWS_BOUNDS, ERROR_BOUNDS];
        for bounds in lists {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
        let within = |bounds: &[f64]| bounds.iter().all(|bound| LATENCY_BOUNDS.contains(bound));
        assert!(within(REQUEST_BOUNDS) && within(TTFT_BOUNDS));
    }

    #[test]
    fn fewer_bounds_have_the_same_counts() {
        let mut histogram = Histogram::new(LATENCY_BOUNDS);
        [0.002, 0.3, 0.31, 9_000.0].into_iter().for_each(|seconds| histogram.add(seconds));
        let shown: Vec<(f64, u64)> = histogram.cumulative_at(&[0.3, 0.5]).collect();
        assert_eq!(shown, [(0.3, 2), (0.5, 3), (f64::INFINITY, 4)]);
    }

    #[test]
    fn what_was_counted_before_is_added_and_what_was_there_is_not() {
        let agent = |name: &str, open, requests| AgentStats {
            name: name.into(),
            open,
            requests,
            ..AgentStats::default()
        };
        let mut before = Stats { running: 3, pages: 9, batches: 5, ..Stats::default() };
        (before.finished, before.spec.accepted_at[1]) = ([1, 2, 3, 4], 6);
        (before.looked_up_tokens, before.sequences, before.disk.failed_writes) = (1, 2, 3);
        (before.answers.hits, before.answers.entries) = (7, 8);
        before.queue_by_class[2].add(0.5);
        before.agents = vec![agent("a", 3, 4), agent("b", 0, 1)];
        let mut now = Stats { running: 1, pages: 4, batches: 2, ..Stats::default() };
        now.queue_by_class[2].add(0.25);
        now.agents = vec![agent("b", 1, 2)];
        now.add(&before);
        assert_eq!((now.running, now.pages, now.batches), (1, 4, 7));
        assert_eq!((now.finished, now.spec.accepted_at[1]), ([1, 2, 3, 4], 6));
        assert_eq!((now.looked_up_tokens, now.sequences, now.disk.failed_writes), (1, 2, 3));
        assert_eq!((now.answers.hits, now.answers.entries), (7, 0));
        assert_eq!((now.queue_by_class[2].count(), now.queue_by_class[2].sum()), (2, 0.75));
        assert_eq!(now.agents, [agent("a", 0, 4), agent("b", 1, 3)]);
    }

    #[test]
    fn an_end_is_counted_once_everywhere() {
        let end = Finished {
            reason: crate::FinishReason::Length,
            text: String::new(),
            prompt_tokens: 10,
            cached_tokens: 4,
            new_tokens: 5,
            queue_seconds: 0.5,
            prefill_seconds: 1.0,
            decode_seconds: 2.0,
            embedding: None,
            guessed: Guessed::default(),
            predicted: None,
            is_coalesced: false,
            age: None,
            stop_text: None,
        };
        let mut stats = Stats::default();
        stats.count(Class::Batch, 8, &end);
        let sums = [&stats.inference, &stats.per_token, &stats.prompt_len, &stats.max_tokens];
        assert_eq!(sums.map(Histogram::sum), [3.0, 0.5, 10.0, 8.0]);
        assert_eq!(stats.queue_by_class.each_ref().map(Histogram::count), [0, 0, 1]);
        assert_eq!((stats.queue.count(), stats.answer_len.sum()), (1, 5.0));
    }
}
