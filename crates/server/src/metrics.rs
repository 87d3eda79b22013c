//! `GET /metrics`: counters and gauges of the engines as Prometheus reads them.
//!
//! In: the engines' statistics. Out: text. `vllm:*` names are there where they mean the same, so
//! that dashboards and autoscalers made for vLLM work; `sterna_*` are ours.

use crate::app::App;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::fmt::Write;
use std::sync::Arc;
use sterna_engine::{Histogram, Stats};

/// A number that a model has one of.
struct Single {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&Stats) -> f64,
}

const fn gauge(name: &'static str, value: fn(&Stats) -> f64, help: &'static str) -> Single {
    Single { name, kind: "gauge", help, value }
}

const fn counter(name: &'static str, value: fn(&Stats) -> f64, help: &'static str) -> Single {
    Single { name, kind: "counter", help, value }
}

const SINGLES: &[Single] = &[
    gauge("vllm:num_requests_running", |s| s.running as f64, "Requests in work."),
    gauge("vllm:num_requests_waiting", |s| s.waiting as f64, "Requests in the queue."),
    gauge("vllm:kv_cache_usage_perc", kv_usage, "KV cache in use by requests; 1 is all of it."),
    counter("vllm:prompt_tokens_total", |s| s.prompt_tokens as f64, "Tokens of prompts."),
    counter("vllm:generation_tokens_total", |s| s.new_tokens as f64, "Tokens generated."),
    counter(
        "vllm:prefix_cache_queries_total",
        |s| s.prompt_tokens as f64,
        "Tokens of prompts that were looked up in the prefix cache.",
    ),
    counter(
        "vllm:prefix_cache_hits_total",
        |s| s.cached_tokens as f64,
        "Tokens of prompts that were found in the prefix cache.",
    ),
    counter(
        "vllm:num_preemptions_total",
        |s| s.preemptions as f64,
        "Times that a request lost its place to another.",
    ),
    counter(
        "sterna_prefix_lookup_tokens_total",
        |s| s.prompt_tokens as f64,
        "Tokens of prompts that were looked up in the prefix tree.",
    ),
    counter(
        "sterna_prefill_tokens_total",
        |s| s.prefilled_tokens as f64,
        "Tokens of prompts that were computed.",
    ),
    counter(
        "sterna_coalesced_requests_total",
        |s| s.coalesced as f64,
        "Requests that another one answered.",
    ),
    counter(
        "sterna_preemptions_total",
        |s| s.preemptions as f64,
        "Times that a request lost its place to another and was computed again.",
    ),
    counter(
        "sterna_response_cache_hits_total",
        |s| s.answers.hits as f64,
        "Requests that the response cache answered.",
    ),
    counter(
        "sterna_response_cache_misses_total",
        |s| s.answers.misses as f64,
        "Requests that it might have answered and did not.",
    ),
    counter(
        "sterna_response_cache_evictions_total",
        |s| s.answers.evictions as f64,
        "Answers that made room for others or were too old.",
    ),
    gauge(
        "sterna_response_cache_bytes",
        |s| s.answers.bytes as f64,
        "Bytes of the answers in the response cache.",
    ),
    counter(
        "sterna_deadline_refused_total",
        |s| s.deadlines[0] as f64,
        "Requests refused at once, since they would have missed their deadline.",
    ),
    counter(
        "sterna_deadline_missed_total",
        |s| s.deadlines[1] as f64,
        "Requests whose deadline passed before they were answered.",
    ),
    gauge("sterna_sessions", |s| s.sessions as f64, "Sessions whose pages are kept."),
    counter("sterna_batches_total", |s| s.batches as f64, "Batches computed."),
    counter("sterna_batch_rows_total", |s| s.rows as f64, "Rows of all batches."),
];

/// Pages that only the prefix tree holds make room when it is needed, as vLLM's free blocks do.
fn kv_usage(stats: &Stats) -> f64 {
    let in_use = stats.pages_used.saturating_sub(stats.pages_cached);
    if stats.pages == 0 { 0.0 } else { in_use as f64 / stats.pages as f64 }
}

/// A number that a model has several of, told apart by a label.
struct Labelled {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    label: &'static str,
    values: fn(&Stats) -> Vec<(&'static str, f64)>,
}

const LABELLED: &[Labelled] = &[
    Labelled {
        name: "vllm:request_success_total",
        kind: "counter",
        help: "Requests that ended, by reason.",
        label: "finished_reason",
        values: |stats| finished(stats, ["stop", "length", "abort", "error"]),
    },
    Labelled {
        name: "sterna_requests_finished_total",
        kind: "counter",
        help: "Requests that ended, by reason.",
        label: "reason",
        values: |stats| finished(stats, ["stop", "length", "cancelled", "failed"]),
    },
    Labelled {
        name: "sterna_prefix_tokens_reused_total",
        kind: "counter",
        help: "Tokens of prompts whose keys and values were there already, by where they were.",
        label: "tier",
        values: |stats| vec![("ram", stats.cached_tokens as f64)],
    },
    Labelled {
        name: "sterna_kv_pages",
        kind: "gauge",
        help: "Pages of the KV cache: held by requests, by the prefix tree alone, or free.",
        label: "state",
        values: |stats| {
            let in_use = stats.pages_used.saturating_sub(stats.pages_cached);
            let free = stats.pages.saturating_sub(stats.pages_used);
            vec![
                ("used", in_use as f64),
                ("cached", stats.pages_cached as f64),
                ("free", free as f64),
            ]
        },
    },
];

fn finished(stats: &Stats, reasons: [&'static str; 4]) -> Vec<(&'static str, f64)> {
    reasons.into_iter().zip(stats.finished.map(|n| n as f64)).collect()
}

/// A distribution of seconds.
struct Distribution {
    name: &'static str,
    help: &'static str,
    of: fn(&Stats) -> &Histogram,
}

const DISTRIBUTIONS: &[Distribution] = &[
    Distribution {
        name: "vllm:time_to_first_token_seconds",
        help: "Seconds from a request's arrival to its first token.",
        of: |stats| &stats.ttft,
    },
    Distribution {
        name: "vllm:inter_token_latency_seconds",
        help: "Seconds between tokens of a request.",
        of: |stats| &stats.itl,
    },
    Distribution {
        name: "vllm:e2e_request_latency_seconds",
        help: "Seconds from a request's arrival to its end.",
        of: |stats| &stats.e2e,
    },
    Distribution {
        name: "vllm:request_queue_time_seconds",
        help: "Seconds that a request waited in the queue.",
        of: |stats| &stats.queue,
    },
    Distribution {
        name: "sterna_queue_wait_seconds",
        help: "Seconds that a request waited in the queue.",
        of: |stats| &stats.queue,
    },
];

/// Shows them.
pub async fn show(State(app): State<Arc<App>>) -> Response {
    let served = app.models.iter().map(|model| &model.served);
    let models: Vec<(String, Stats)> =
        served.map(|served| (served.name.clone(), served.engine.stats())).collect();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], render(&models)).into_response()
}

/// The text: a family of samples after another, in each a sample per model.
fn render(models: &[(String, Stats)]) -> String {
    let mut out = String::new();
    for Single { name, kind, help, value } in SINGLES {
        open(&mut out, name, kind, help);
        for (model, stats) in models {
            sample(&mut out, name, &[("model_name", model.as_str())], value(stats));
        }
    }
    for Labelled { name, kind, help, label, values } in LABELLED {
        open(&mut out, name, kind, help);
        for (model, stats) in models {
            for (text, value) in values(stats) {
                let labels = [("model_name", model.as_str()), (*label, text)];
                sample(&mut out, name, &labels, value);
            }
        }
    }
    for Distribution { name, help, of } in DISTRIBUTIONS {
        open(&mut out, name, "histogram", help);
        for (model, stats) in models {
            distribution(&mut out, name, model, of(stats));
        }
    }
    out
}

fn distribution(out: &mut String, name: &str, model: &str, histogram: &Histogram) {
    let labels = [("model_name", model)];
    for (bound, count) in histogram.cumulative() {
        // Debug writes `1.0` where Display writes `1`, and Prometheus' own clients the former.
        let bound = if bound.is_finite() { format!("{bound:?}") } else { "+Inf".into() };
        let labels = [labels[0], ("le", bound.as_str())];
        sample(out, &format!("{name}_bucket"), &labels, count as f64);
    }
    sample(out, &format!("{name}_sum"), &labels, histogram.sum());
    sample(out, &format!("{name}_count"), &labels, histogram.count() as f64);
}

fn open(out: &mut String, name: &str, kind: &str, help: &str) {
    line(out, format_args!("# HELP {name} {help}"));
    line(out, format_args!("# TYPE {name} {kind}"));
}

fn sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    let label = |(name, value): &(&str, &str)| format!("{name}=\"{}\"", escaped(value));
    let labels: Vec<String> = labels.iter().map(label).collect();
    line(out, format_args!("{name}{{{}}} {value}", labels.join(",")));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a string never fails");
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_described_once_and_have_a_sample_per_model() {
        let mut stats =
            Stats { waiting: 3, pages: 8, pages_used: 6, pages_cached: 2, ..Stats::default() };
        stats.finished = [5, 4, 2, 1];
        stats.ttft.add(0.015);
        stats.ttft.add(9999.0);
        let models = [("a".to_owned(), stats), ("b\"".to_owned(), Stats::default())];
        let text = render(&models);
        for line in [
            "# TYPE vllm:num_requests_waiting gauge",
            "vllm:num_requests_waiting{model_name=\"a\"} 3",
            "vllm:num_requests_waiting{model_name=\"b\\\"\"} 0",
            "vllm:kv_cache_usage_perc{model_name=\"a\"} 0.5",
            "vllm:request_success_total{model_name=\"a\",finished_reason=\"length\"} 4",
            "sterna_requests_finished_total{model_name=\"a\",reason=\"cancelled\"} 2",
            "sterna_kv_pages{model_name=\"a\",state=\"free\"} 2",
            "vllm:time_to_first_token_seconds_bucket{model_name=\"a\",le=\"0.01\"} 0",
            "vllm:time_to_first_token_seconds_bucket{model_name=\"a\",le=\"0.02\"} 1",
            "vllm:time_to_first_token_seconds_bucket{model_name=\"a\",le=\"1.0\"} 1",
            "vllm:time_to_first_token_seconds_bucket{model_name=\"a\",le=\"+Inf\"} 2",
            "vllm:time_to_first_token_seconds_sum{model_name=\"a\"} 9999.015",
            "vllm:time_to_first_token_seconds_count{model_name=\"a\"} 2",
        ] {
            assert_eq!(text.lines().filter(|l| *l == line).count(), 1, "{line} in\n{text}");
        }
        let described = text.lines().filter(|l| l.starts_with("# TYPE"));
        assert_eq!(described.count(), SINGLES.len() + LABELLED.len() + DISTRIBUTIONS.len());
    }
}
