//! How soon a fresh process answers, and what a second one costs: starts held against targets.
//!
//! In: samples of processes that were started for it. Out: figures, targets beside their measured
//! values (A21), and a table.

use crate::figure::short;
use crate::report::{Bound, Status, Target};
use crate::{Figure, MeasureError, Samples, Unit};
use serde::Serialize;

/// A cold start may take this many times reading the file once and packing at memory speed.
pub const MOST_COLD: f64 = 1.5;

/// Milliseconds that a warm start may take beyond its prefill.
pub const MOST_WARM_MS: f64 = 50.0;

/// A second process may add this share of the weight bytes, in percent.
pub const MOST_ADDED_PERCENT: f64 = 5.0;

/// What was measured, in the order taken.
#[derive(Debug, Clone, PartialEq)]
pub struct StartSamples {
    /// The model, as given.
    pub model: String,
    /// Threads of each process.
    pub n_threads: usize,
    /// Bytes of the model's files.
    pub file_bytes: u64,
    /// Bytes of its weights as stored.
    pub weight_bytes: u64,
    /// Bytes of the prepared weights.
    pub image_bytes: u64,
    /// Whether processes share the prepared weights through a file.
    pub is_shared: bool,
    /// Seconds to read the model's files once, by one thread.
    pub read_seconds: Vec<f64>,
    /// Bytes that the threads read from memory per second.
    pub memory_read: Vec<f64>,
    /// Processes that found an empty program cache.
    pub cold: Vec<Start>,
    /// Processes that found the program there.
    pub warm: Vec<Start>,
    /// Memory of two processes, pair by pair; or why it cannot be told.
    pub pairs: Result<Vec<Pair>, String>,
}

/// One process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Start {
    /// Seconds from before it was started until its first token was read, of a prompt of one.
    pub first_token: f64,
    /// Seconds that the same prompt takes it once everything is warm.
    pub prefill: f64,
}

/// Proportional set sizes of one process and of two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The first, while it is alone.
    pub alone: f64,
    /// Both together.
    pub both: f64,
}

/// The figures and their targets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StartReport {
    /// The model, as given.
    pub model: String,
    /// Threads of each process.
    pub threads: usize,
    /// Bytes of the model's files.
    pub file_bytes: u64,
    /// Bytes of its weights as stored.
    pub weight_bytes: u64,
    /// Whether processes share the prepared weights through a file.
    pub is_shared: bool,
    /// What came out.
    pub metrics: Vec<Figure>,
    /// What was wanted.
    pub targets: Vec<Target>,
}

impl StartReport {
    /// Judges the samples.
    ///
    /// # Errors
    /// If something was never measured, or a value is impossible.
    pub fn new(samples: &StartSamples) -> Result<Self, MeasureError> {
        let ms = |seconds: &[f64]| seconds.iter().map(|s| s * 1e3).collect::<Vec<f64>>();
        let measured = |name: &str, method: &str, values: Vec<f64>| {
            let samples = Samples::new(name, values)?;
            Figure::measured(name, Unit::Milliseconds, method, &samples)
        };
        let firsts = |starts: &[Start]| starts.iter().map(|s| s.first_token * 1e3).collect();
        let prefill = samples.warm.iter().map(|start| start.prefill * 1e3).collect();
        let beyond = samples.warm.iter().map(|s| (s.first_token - s.prefill) * 1e3).collect();
        let to_token = "from before the process starts until its first token is read";
        let read = Samples::new("read_file_ms", ms(&samples.read_seconds))?;
        let bandwidth = Samples::new("memory_read", samples.memory_read.clone())?.median();
        let pack = (samples.file_bytes + samples.image_bytes) as f64 / bandwidth * 1e3;
        let formula = "file bytes read and prepared bytes written at the read bandwidth beside it";
        let mut metrics = vec![
            measured("read_file_ms", "one thread, 1 MiB at a time", read.raw().to_vec())?,
            Figure::computed("pack_at_memory_speed_ms", Unit::Milliseconds, formula, pack)?,
            measured("cold_first_token_ms", to_token, firsts(&samples.cold))?,
            measured("warm_first_token_ms", to_token, firsts(&samples.warm))?,
            measured("prefill_ms", "the same prompt in a warm process", prefill)?,
            measured("warm_beyond_prefill_ms", "first token less prefill, by process", beyond)?,
        ];
        metrics.push(added(samples)?);
        let cold = MOST_COLD * (read.median() + pack);
        let judge = |name: &str, wanted: f64, unit: Unit| {
            Target::judge(name, Bound::AtMost, wanted, unit, &metrics)
        };
        let targets = vec![
            judge("cold_first_token_ms", cold, Unit::Milliseconds)?,
            judge("warm_beyond_prefill_ms", MOST_WARM_MS, Unit::Milliseconds)?,
            judge("second_process_percent", MOST_ADDED_PERCENT, Unit::Percent)?,
        ];
        Ok(Self {
            model: samples.model.clone(),
            threads: samples.n_threads,
            file_bytes: samples.file_bytes,
            weight_bytes: samples.weight_bytes,
            is_shared: samples.is_shared,
            metrics,
            targets,
        })
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let mb = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        let mut text = format!(
            "{}: {} of files, {} of weights, {} threads\n",
            self.model,
            mb(self.file_bytes),
            mb(self.weight_bytes),
            self.threads
        );
        text += &line(["", "median", "95% interval", "n", "target"]);
        for figure in &self.metrics {
            text += &self.row(figure);
        }
        if !self.is_shared {
            text += "the prepared weights are not in the program cache, so each process packs its \
                     own\n";
        }
        text
    }

    fn row(&self, figure: &Figure) -> String {
        let target = self.targets.iter().find(|target| target.name() == figure.name());
        let target = target.map_or(String::new(), |target| {
            let status = match target.status() {
                Status::Met => "met",
                Status::Missed => "missed",
                Status::NotEvaluated => "not evaluated",
            };
            format!("at most {} {}: {status}", short(target.wanted()), figure.unit().name())
        });
        let Some(value) = figure.value() else {
            let reason = figure.reason().unwrap_or_default();
            return line([figure.name(), "unavailable", "", "", &format!("{target} ({reason})")]);
        };
        let interval = figure.ci95().map_or(String::new(), |interval| {
            format!("[{}, {}]", short(interval.low), short(interval.high))
        });
        let count = if figure.n() == 0 { "computed".into() } else { figure.n().to_string() };
        let value = format!("{} {}", short(value), figure.unit().name());
        line([figure.name(), &value, &interval, &count, &target])
    }
}

/// What a second process adds, in percent of the weight bytes.
fn added(samples: &StartSamples) -> Result<Figure, MeasureError> {
    let (name, unit) = ("second_process_percent", Unit::Percent);
    let method = "PSS of two processes less PSS of the first alone, over weight bytes";
    let pairs = match &samples.pairs {
        Ok(pairs) => pairs,
        Err(reason) => return Figure::unavailable(name, unit, method, reason),
    };
    let weights = samples.weight_bytes as f64;
    let shares = pairs.iter().map(|pair| (pair.both - pair.alone) / weights * 100.0).collect();
    Figure::measured(name, unit, method, &Samples::new(name, shares)?)
}

fn line(cells: [&str; 5]) -> String {
    let [name, value, interval, n, target] = cells;
    let line = format!("{name:<24} {value:>14} {interval:>20} {n:>8}  {target}");
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests;
