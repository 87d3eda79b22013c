//! What all requests of a server say of it.
//!
//! In: [`Outcome`]s, run by run. Out: a [`Summary`], and how two of them compare. Latencies are of
//! answered requests only, so they never stand without the count of those that failed.

use super::memory::Memory;
use super::outcome::{Answer, Outcome};
use super::slo::Slo;
use crate::Samples;
use serde::Serialize;

/// The figures of one server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Requests sent.
    pub n_requests: usize,
    /// Those answered.
    pub n_done: usize,
    /// Those that failed.
    pub n_failed: usize,
    /// Those answered with fewer tokens than asked for.
    pub n_short: usize,
    /// From the first request sent to the last one's end, summed over runs.
    pub wall_seconds: f64,
    /// Tokens of all answers.
    pub generated_tokens: usize,
    /// Of all agents together.
    pub tokens_per_second: f64,
    /// Answers per second.
    pub requests_per_second: f64,
    /// Time to first token.
    pub ttft: Option<Latency>,
    /// Time between tokens.
    pub itl: Option<Latency>,
    /// Time to the end of an answer.
    pub e2e: Option<Latency>,
    /// What met the limits, where there are limits.
    pub goodput: Option<Goodput>,
    /// Tokens of the answered prompts, as the server counts, else as sent.
    pub prompt_tokens: usize,
    /// Those of them that the server had computed before, where it says.
    pub cached_prompt_tokens: Option<usize>,
    /// The server's memory, where it was watched; of several runs, the one in which it grew most.
    pub memory: Option<Memory>,
    /// The longest by which a request was sent later than it was due: the fault of this side.
    pub late_seconds_max: f64,
    /// Failures by kind, the most frequent first.
    pub errors: Vec<ErrorCount>,
}

/// A distribution of seconds. A tail without samples enough is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// Samples.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// Their median.
    pub p50: f64,
    /// Where there are 20 samples.
    pub p95: Option<f64>,
    /// Where there are 100.
    pub p99: Option<f64>,
    /// The longest.
    pub max: f64,
}

/// Requests that met the limits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Goodput {
    /// The limits.
    pub slo: Slo,
    /// Per second.
    pub requests_per_second: f64,
    /// Of all requests, failed ones included.
    pub share: f64,
}

/// How often something failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorCount {
    /// What.
    pub kind: String,
    /// How often.
    pub count: usize,
    /// The first one, in full.
    pub example: String,
}

/// How much better one server is than another: rates divided by theirs, and their latencies by
/// ours, so that above 1 is always better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratios {
    /// Of tokens per second.
    pub tokens_per_second: Option<f64>,
    /// Of answers per second.
    pub requests_per_second: Option<f64>,
    /// Of the median time to first token.
    pub ttft_p50: Option<f64>,
    /// Of the median time between tokens.
    pub itl_p50: Option<f64>,
    /// Of the median time to the end.
    pub e2e_p50: Option<f64>,
    /// Of the requests per second that met the limits.
    pub goodput: Option<f64>,
}

impl Summary {
    /// Of the requests of one or more runs.
    pub fn of(runs: &[&[Outcome]], slo: Option<Slo>) -> Self {
        let all = || runs.iter().copied().flatten();
        let answers: Vec<&Answer> = all().filter_map(Outcome::answer).collect();
        let n_requests = all().count();
        let wall_seconds: f64 = runs.iter().map(|run| wall(run)).sum();
        let generated_tokens: usize = answers.iter().map(|answer| answer.n_generated).sum();
        let is_short = |o: &&Outcome| o.answer().is_some_and(|a| a.n_generated < o.n_asked);
        let prompt_tokens = |o: &Outcome| Some(o.answer()?.n_prompt.unwrap_or(o.n_prompt));
        let cached: Vec<usize> = answers.iter().filter_map(|answer| answer.n_cached).collect();
        let per_second = |n: usize| if wall_seconds > 0.0 { n as f64 / wall_seconds } else { 0.0 };
        let of = |value: fn(&Answer) -> f64| answers.iter().map(|answer| value(answer)).collect();
        Self {
            n_requests,
            n_done: answers.len(),
            n_failed: n_requests - answers.len(),
            n_short: all().filter(is_short).count(),
            wall_seconds,
            generated_tokens,
            tokens_per_second: per_second(generated_tokens),
            requests_per_second: per_second(answers.len()),
            ttft: Latency::of("ttft", of(|answer| answer.ttft)),
            itl: Latency::of("itl", answers.iter().flat_map(|a| a.itl.iter().copied()).collect()),
            e2e: Latency::of("e2e", of(|answer| answer.e2e)),
            goodput: slo.map(|slo| {
                let n_good = answers.iter().filter(|answer| slo.is_met(answer)).count();
                let share = n_good as f64 / n_requests.max(1) as f64;
                Goodput { slo, requests_per_second: per_second(n_good), share }
            }),
            prompt_tokens: all().filter_map(prompt_tokens).sum(),
            cached_prompt_tokens: (!cached.is_empty()).then(|| cached.iter().sum()),
            memory: None,
            late_seconds_max: all().map(|outcome| outcome.late).fold(0.0, f64::max),
            errors: errors(all()),
        }
    }

    /// How much better this server is than another.
    pub fn over(&self, other: &Self) -> Ratios {
        let ratio = |top: Option<f64>, bottom: Option<f64>| {
            Some(top? / bottom.filter(|bottom| *bottom > 0.0)?)
        };
        let p50 = |latency: Option<Latency>| latency.map(|latency| latency.p50);
        let good = |goodput: Option<Goodput>| goodput.map(|goodput| goodput.requests_per_second);
        Ratios {
            tokens_per_second: ratio(Some(self.tokens_per_second), Some(other.tokens_per_second)),
            requests_per_second: ratio(
                Some(self.requests_per_second),
                Some(other.requests_per_second),
            ),
            ttft_p50: ratio(p50(other.ttft), p50(self.ttft)),
            itl_p50: ratio(p50(other.itl), p50(self.itl)),
            e2e_p50: ratio(p50(other.e2e), p50(self.e2e)),
            goodput: ratio(good(self.goodput), good(other.goodput)),
        }
    }
}

impl Latency {
    /// `None` of no samples.
    fn of(name: &str, seconds: Vec<f64>) -> Option<Self> {
        let samples = Samples::new(name, seconds).ok()?;
        Some(Self {
            n: samples.n(),
            mean: samples.mean(),
            p50: samples.median(),
            p95: samples.p95(),
            p99: samples.p99(),
            max: samples.max(),
        })
    }
}

/// From the first request sent to the last one's end.
fn wall(run: &[Outcome]) -> f64 {
    let start = run.iter().map(|outcome| outcome.sent).fold(f64::INFINITY, f64::min);
    let end = run.iter().map(|outcome| outcome.sent + outcome.seconds).fold(0.0, f64::max);
    (end - start).max(0.0)
}

fn errors<'o>(outcomes: impl Iterator<Item = &'o Outcome>) -> Vec<ErrorCount> {
    let mut errors: Vec<ErrorCount> = Vec::new();
    for failure in outcomes.filter_map(Outcome::failure) {
        let kind = failure.kind();
        match errors.iter_mut().find(|error| error.kind == kind) {
            Some(error) => error.count += 1,
            None => errors.push(ErrorCount { kind, count: 1, example: failure.to_string() }),
        }
    }
    errors.sort_by_key(|error| std::cmp::Reverse(error.count));
    errors
}

#[cfg(test)]
mod tests;
