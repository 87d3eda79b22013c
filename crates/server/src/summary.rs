//! `GET /api/v1/batch/metrics`: the few numbers of batching, of all models together.
//!
//! In: the statistics of all engines that there are and were, and what the system says of this
//! process. Out: an object. What is not known is `null`, `unknown` says why, and `notes` how the
//! others are meant.

use crate::app::App;
use crate::process;
use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use sterna_engine::{Histogram, Stats};

const NOTES: [&str; 6] = [
    "average_batch_size is requests per batch; total_batches counts every step of a model",
    "cache_hit_rate is of tokens: of those of prompts that were looked up in the prefix cache, the \
     share that was there, 0 to 1",
    "p95_latency_ms and p99_latency_ms are upper bounds: the bound of the histogram's bucket that \
     the percentile is in; null without requests, or beyond the last bound",
    "throughput_rps is requests that ended per second since the server started",
    "active_batches counts models with a request in work, since a model computes one batch at a \
     time",
    "cpu_utilization is this process's share of the CPUs that it may use since this was asked \
     last, or since the start, and memory_utilization its share of the memory that it may have; \
     1 is all",
];

/// Shows them.
pub async fn show(State(app): State<Arc<App>>) -> Json<Value> {
    let stats: Vec<Stats> = app.models.past().iter().map(|past| past.counted().stats).collect();
    let process = Process {
        cpu: app.busy.share(app.uptime()),
        memory: process::pss_bytes()
            .zip(app.options.memory_limit_bytes)
            .map(|(used, most)| used as f64 / most as f64),
    };
    Json(summary(&stats, app.uptime(), process))
}

/// What this process takes of the machine, 0 to 1 each.
#[derive(Clone, Copy, Default)]
struct Process {
    cpu: Option<f64>,
    memory: Option<f64>,
}

fn summary(models: &[Stats], uptime: Duration, process: Process) -> Value {
    let sum = |count: fn(&Stats) -> u64| models.iter().map(count).sum::<u64>();
    let ratio = |a: f64, b: f64| (b > 0.0).then(|| a / b);
    let finished = sum(|s| s.finished.iter().sum());
    let waiting = sum(|s| s.waiting as u64);
    let running = sum(|s| s.running as u64);
    let batches = sum(|s| s.batches);
    let (looked_up, cached) = (sum(|s| s.looked_up_tokens), sum(|s| s.cached_tokens));
    let wait_seconds: f64 = models.iter().map(|s| s.queue.sum()).sum();
    let wait_ms = ratio(wait_seconds * 1e3, sum(|s| s.queue.count()) as f64);
    let latencies: Vec<&Histogram> = models.iter().map(|s| &s.e2e).collect();
    let mut shown = json!({
        "total_requests": finished + waiting + running,
        "total_batches": batches,
        "average_batch_size": ratio(sum(|s| s.sequences) as f64, batches as f64),
        "average_wait_time_ms": wait_ms,
        "cache_hit_rate": ratio(cached as f64, looked_up as f64),
        "throughput_rps": ratio(finished as f64, uptime.as_secs_f64()),
        "p95_latency_ms": bound_of(&latencies, 0.95).map(|seconds| seconds * 1e3),
        "p99_latency_ms": bound_of(&latencies, 0.99).map(|seconds| seconds * 1e3),
        "active_batches": sum(|s| u64::from(s.running > 0)),
        "pending_requests": waiting,
        "cpu_utilization": process.cpu,
        "memory_utilization": process.memory,
    });
    shown["unknown"] = unknown(&shown);
    shown["notes"] = NOTES.as_slice().into();
    shown
}

/// Why the numbers are not known that are `null`.
fn unknown(shown: &Value) -> Value {
    let why = |key: &str| match key {
        "average_batch_size" => "no batch was computed yet",
        "average_wait_time_ms" => "no request has ended yet",
        "cache_hit_rate" => "no prompt was read yet",
        "throughput_rps" => "the server has only just started",
        "p95_latency_ms" | "p99_latency_ms" => {
            "no request has ended yet, or the slowest took longer than the last bound"
        }
        _ => "the system does not say, or the server has only just started",
    };
    let null = shown.as_object().into_iter().flatten().filter(|(_, value)| value.is_null());
    null.map(|(key, _)| (key.clone(), Value::from(why(key)))).collect::<Map<_, _>>().into()
}

/// The bound that a share of all values does not exceed; `None` when it is infinite, or there is no
/// value. The histograms have the same bounds.
fn bound_of(histograms: &[&Histogram], share: f64) -> Option<f64> {
    let total: u64 = histograms.iter().map(|histogram| histogram.count()).sum();
    let wanted = (total as f64 * share).ceil() as u64;
    let mut counts: Vec<(f64, u64)> = Vec::new();
    for histogram in histograms {
        for (index, (bound, count)) in histogram.cumulative().enumerate() {
            match counts.get_mut(index) {
                Some(sum) => sum.1 += count,
                None => counts.push((bound, count)),
            }
        }
    }
    let bound = counts.into_iter().find(|&(_, count)| count >= wanted).map(|(bound, _)| bound);
    bound.filter(|bound| total > 0 && bound.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_all_models() {
        let mut a = Stats { waiting: 2, running: 1, batches: 4, ..Stats::default() };
        // Prompts have many rows.
        (a.rows, a.sequences) = (800, 10);
        a.finished = [3, 1, 0, 0];
        // Of other prompts there were answers already.
        (a.prompt_tokens, a.looked_up_tokens, a.cached_tokens) = (900, 60, 15);
        let mut b = Stats { running: 2, looked_up_tokens: 40, ..Stats::default() };
        for _ in 0..19 {
            a.e2e.add(0.3);
            b.e2e.add(0.04);
        }
        b.e2e.add(3.0);
        a.queue.add(0.5);
        b.queue.add(0.25);
        let process = Process { cpu: Some(0.5), memory: None };
        let shown = summary(&[a, b], Duration::from_secs(8), process);
        for (key, value) in [
            ("total_requests", json!(9)),
            ("total_batches", json!(4)),
            ("average_batch_size", json!(2.5)),
            ("average_wait_time_ms", json!(375.0)),
            ("cache_hit_rate", json!(0.15)),
            ("throughput_rps", json!(0.5)),
            ("p95_latency_ms", json!(300.0)),
            ("p99_latency_ms", json!(5000.0)),
            ("active_batches", json!(2)),
            ("pending_requests", json!(2)),
            ("cpu_utilization", json!(0.5)),
            ("memory_utilization", Value::Null),
        ] {
            assert_eq!(shown[key], value, "{key}");
        }
        let unknown = shown["unknown"].as_object().unwrap();
        assert_eq!(unknown.keys().collect::<Vec<_>>(), ["memory_utilization"]);
    }

    #[test]
    fn what_is_unknown_is_null() {
        let shown = summary(&[Stats::default()], Duration::ZERO, Process::default());
        let null =
            ["average_batch_size", "average_wait_time_ms", "cache_hit_rate", "p95_latency_ms"];
        for key in null {
            assert_eq!(shown[key], Value::Null, "{key}");
            assert!(shown["unknown"][key].is_string(), "{key}");
        }
        let mut slow = Stats::default();
        slow.e2e.add(1e6);
        let shown = summary(&[slow], Duration::ZERO, Process::default());
        assert_eq!(shown["p99_latency_ms"], Value::Null);
    }
}
