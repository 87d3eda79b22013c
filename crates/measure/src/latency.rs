//! How fast tokens come: TTFT, ITL and throughput of requests, and benchmark rows that read like
//! llama-bench's.
//!
//! In: times of tokens, or seconds per repetition. Out: figures, JSON and a Markdown table.

mod held;

pub use held::{Held, ProbedCeiling, nearest};

use crate::{Figure, MeasureError, Samples, Unit};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// When one request's tokens came, on one clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestTimes {
    /// When it was sent.
    pub sent: Duration,
    /// When each generated token came; the first ends the TTFT, each later one an ITL.
    pub tokens: Vec<Duration>,
}

/// `ttft_ms`, `itl_ms` (every gap of every request), `e2e_ms` and `output_tokens_per_s` (all
/// tokens over the time from the first request to the last token).
///
/// # Errors
/// If no request has a token, or times run backwards.
pub fn request_figures(
    requests: &[RequestTimes],
    method: &str,
) -> Result<Vec<Figure>, MeasureError> {
    let (mut ttft, mut itl, mut e2e) = (vec![], vec![], vec![]);
    let ms = |from: Duration, to: Duration| (to.as_secs_f64() - from.as_secs_f64()) * 1e3;
    for RequestTimes { sent, tokens } in requests {
        if let (Some(first), Some(last)) = (tokens.first(), tokens.last()) {
            ttft.push(ms(*sent, *first));
            e2e.push(ms(*sent, *last));
            itl.extend(tokens.windows(2).map(|pair| ms(pair[0], pair[1])));
        }
    }
    let of = |name: &str, values: Vec<f64>| {
        Figure::measured(name, Unit::Milliseconds, method, &Samples::new(name, values)?)
    };
    let has_gaps = !itl.is_empty();
    let one_token = "each request generated one token, so there is no gap between tokens";
    let n_answered = ttft.len();
    let mut figures = vec![of("ttft_ms", ttft)?];
    figures.push(match has_gaps {
        true => of("itl_ms", itl)?,
        false => Figure::unavailable("itl_ms", Unit::Milliseconds, method, one_token)?,
    });
    figures.push(of("e2e_ms", e2e)?);
    figures.push(throughput(requests, n_answered, method)?);
    Ok(figures)
}

fn throughput(
    requests: &[RequestTimes],
    n_answered: usize,
    method: &str,
) -> Result<Figure, MeasureError> {
    let name = "output_tokens_per_s";
    let start = requests.iter().map(|request| request.sent).min().unwrap_or_default();
    let end = requests.iter().filter_map(|request| request.tokens.last()).max();
    let seconds = end.map_or(0.0, |end| end.as_secs_f64() - start.as_secs_f64());
    let n_tokens: usize = requests.iter().map(|request| request.tokens.len()).sum();
    let method = format!("{n_tokens} tokens over the whole span; {method}");
    if seconds <= 0.0 {
        let reason = "the clock did not move between the first request and the last token";
        return Figure::unavailable(name, Unit::TokensPerSecond, &method, reason);
    }
    let rate = n_tokens as f64 / seconds;
    Figure::estimated(name, Unit::TokensPerSecond, &method, rate, n_answered, None)
}

/// One row of a benchmark: repetitions of one test, in llama-bench's words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BenchFields", into = "BenchFields")]
pub struct BenchResult(BenchFields);

/// What was benchmarked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchSubject {
    /// The program and its version.
    pub build_commit: String,
    /// The CPU's own name.
    pub cpu_info: String,
    /// The kernels: `scalar`, `avx2`, `avx512`, `amx`, and what in them is not exact.
    pub backends: String,
    /// The model's file.
    pub model_filename: String,
    /// Its architecture, size and main encoding, such as `llama 1B Q4_0`.
    pub model_type: String,
    /// Bytes of its weights.
    pub model_size: u64,
    /// Its weights.
    pub model_n_params: u64,
    /// Threads used.
    pub n_threads: usize,
    /// The KV cache's encoding.
    pub type_k: String,
    /// The same for values.
    pub type_v: String,
}

/// What was timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchTest {
    /// Prompt tokens of each sequence.
    pub n_prompt: usize,
    /// Tokens that each sequence generates after them.
    pub n_gen: usize,
    /// Tokens that each sequence has before, which are not timed.
    pub n_depth: usize,
    /// Sequences that run in one batch.
    pub n_sequences: usize,
}

impl BenchTest {
    /// Its name: `pp512`, `tg128`, `pp512+tg128`, with ` @ d1024` at a depth, ` x 8` in sequences.
    pub fn name(&self) -> String {
        let mut name = match (self.n_prompt, self.n_gen) {
            (n_prompt, 0) => format!("pp{n_prompt}"),
            (0, n_gen) => format!("tg{n_gen}"),
            (n_prompt, n_gen) => format!("pp{n_prompt}+tg{n_gen}"),
        };
        if self.n_sequences != 1 {
            name += &format!(" x {}", self.n_sequences);
        }
        if self.n_depth != 0 {
            name += &format!(" @ d{}", self.n_depth);
        }
        name
    }

    /// Tokens that are timed.
    pub fn n_tokens(&self) -> usize {
        (self.n_prompt + self.n_gen) * self.n_sequences
    }

    /// Tokens of each sequence at the end.
    pub fn context_len(&self) -> usize {
        self.n_depth + self.n_prompt + self.n_gen
    }
}

impl std::fmt::Display for BenchTest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct BenchFields {
    #[serde(flatten)]
    subject: BenchSubject,
    n_prompt: usize,
    n_gen: usize,
    n_depth: usize,
    depth: usize,
    sequences: usize,
    test_time: String,
    avg_ns: u64,
    stddev_ns: Option<u64>,
    avg_ts: f64,
    stddev_ts: Option<f64>,
    samples_ns: Vec<u64>,
    samples_ts: Vec<f64>,
    ceiling: Option<ProbedCeiling>,
    share: Option<f64>,
    share_samples: Vec<f64>,
}

impl BenchResult {
    /// `seconds` holds each repetition's time for the test.
    ///
    /// # Errors
    /// If there is no repetition, no token, or a time that is not positive.
    pub fn new(
        subject: BenchSubject,
        test: BenchTest,
        test_time: String,
        seconds: &[f64],
    ) -> Result<Self, MeasureError> {
        let BenchTest { n_prompt, n_gen, n_depth, n_sequences } = test;
        let n_tokens = test.n_tokens() as f64;
        let rates = seconds.iter().map(|seconds| n_tokens / seconds).collect();
        let rates = Samples::new("t/s", rates)?;
        if rates.min() <= 0.0 {
            let why = "a benchmark needs at least one token and times above zero".into();
            return Err(MeasureError::Data(why));
        }
        let times = Samples::new("ns", seconds.iter().map(|seconds| seconds * 1e9).collect())?;
        Ok(Self(BenchFields {
            subject,
            n_prompt,
            n_gen,
            n_depth,
            depth: n_depth,
            sequences: n_sequences,
            test_time,
            avg_ns: times.mean() as u64,
            stddev_ns: times.stddev().map(|ns| ns as u64),
            avg_ts: rates.mean(),
            stddev_ts: rates.stddev(),
            samples_ns: times.raw().iter().map(|ns| *ns as u64).collect(),
            samples_ts: rates.raw().to_vec(),
            ceiling: None,
            share: None,
            share_samples: Vec::new(),
        }))
    }

    /// The same, held against a ceiling that was probed beside it.
    #[must_use]
    pub fn held(mut self, held: Held) -> Self {
        (self.0.ceiling, self.0.share) = (Some(held.ceiling), Some(held.share));
        self.0.share_samples = held.share_samples;
        self
    }

    /// The test's name, as [`BenchTest::name`].
    pub fn test(&self) -> String {
        let BenchFields { n_prompt, n_gen, n_depth, sequences: n_sequences, .. } = self.0;
        BenchTest { n_prompt, n_gen, n_depth, n_sequences }.name()
    }

    /// The mean over repetitions, tokens per second.
    pub fn avg_ts(&self) -> f64 {
        self.0.avg_ts
    }

    /// The repetitions, tokens per second.
    pub fn samples_ts(&self) -> &[f64] {
        &self.0.samples_ts
    }

    /// The median share of the ceiling probed beside it, if one was.
    pub fn share(&self) -> Option<f64> {
        self.0.share
    }

    /// The median rate as a figure of a report, named by the test.
    ///
    /// # Errors
    /// Never for a result that could be made.
    pub fn figure(&self) -> Result<Figure, MeasureError> {
        let (test, subject) = (self.test(), &self.0.subject);
        let method = format!(
            "{test} of {}, {} threads, {}",
            subject.model_filename, subject.n_threads, subject.backends
        );
        let samples = Samples::new(&test, self.0.samples_ts.clone())?;
        Figure::measured(&format!("{test}_tokens_per_s"), Unit::TokensPerSecond, &method, &samples)
    }
}

impl TryFrom<BenchFields> for BenchResult {
    type Error = MeasureError;

    /// The averages of a file are recomputed from its samples and must agree.
    fn try_from(fields: BenchFields) -> Result<Self, MeasureError> {
        let samples = Samples::new("samples_ts", fields.samples_ts.clone())?;
        if (samples.mean() - fields.avg_ts).abs() > 1e-3 * fields.avg_ts.abs() {
            let (avg, mean) = (fields.avg_ts, samples.mean());
            let why = format!("avg_ts is {avg} but the samples' mean is {mean}");
            return Err(MeasureError::Data(why));
        }
        Ok(Self(fields))
    }
}

impl From<BenchResult> for BenchFields {
    fn from(result: BenchResult) -> Self {
        result.0
    }
}

/// The rows as a Markdown table with llama-bench's columns, the KV cache's encoding, and how near
/// each came to its ceiling.
pub fn markdown(results: &[BenchResult]) -> String {
    let mut table = row(COLUMNS.map(|(name, ..)| name));
    let rule = |width: usize, is_left: bool| {
        format!("{}{}", "-".repeat(width - 1), if is_left { '-' } else { ':' })
    };
    let rules = COLUMNS.map(|(_, width, is_left)| rule(width, is_left));
    table.push_str(&row(rules.each_ref().map(String::as_str)));
    for result in results {
        let BenchFields { subject, avg_ts, stddev_ts, ceiling, share, .. } = &result.0;
        let (threads, test) = (subject.n_threads.to_string(), result.test());
        let size = size_text(subject.model_size);
        let params = params_text(subject.model_n_params);
        // One repetition has no spread, and 0.00 would claim that it has none.
        let spread = stddev_ts.map_or("n/a".into(), |stddev| format!("{stddev:.2}"));
        let rate = format!("{avg_ts:.2} ± {spread}");
        let (model, backend) = (subject.model_type.as_str(), subject.backends.as_str());
        let kv = subject.type_k.as_str();
        let share = match (share, ceiling) {
            (Some(share), Some(ceiling)) => format!("{:.0}% of {}", share * 100.0, ceiling.text()),
            _ => "not probed".into(),
        };
        let cells = [model, &size, &params, backend, &threads, kv, &test, &rate, &share];
        table.push_str(&row(cells));
    }
    table
}

/// Name and width of each column, and whether its text stands to the left.
const COLUMNS: [(&str, usize, bool); 9] = [
    ("model", 30, true),
    ("size", 10, false),
    ("params", 10, false),
    ("backend", 10, true),
    ("threads", 7, false),
    ("kv", 4, true),
    ("test", 18, false),
    ("t/s", 20, false),
    ("share of ceiling", 26, true),
];

fn row(cells: [&str; 9]) -> String {
    let cells = cells.iter().zip(COLUMNS).map(|(cell, (_, width, is_left))| match is_left {
        true => format!(" {cell:<width$} |"),
        false => format!(" {cell:>width$} |"),
    });
    format!("|{}\n", cells.collect::<String>())
}

fn size_text(bytes: u64) -> String {
    let mib = bytes as f64 / (1 << 20) as f64;
    if mib < 1024.0 { format!("{mib:.2} MiB") } else { format!("{:.2} GiB", mib / 1024.0) }
}

fn params_text(n_params: u64) -> String {
    let millions = n_params as f64 / 1e6;
    if millions < 1e3 { format!("{millions:.2} M") } else { format!("{:.2} B", millions / 1e3) }
}

#[cfg(test)]
mod tests;
