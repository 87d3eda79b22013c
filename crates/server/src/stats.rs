//! `/api/v1/stats`: what the dashboard shows, for programs too.

use crate::agents::{Agent, Agents};
use crate::app::App;
use crate::cache::CacheStats;
use crate::models::Listed;
use crate::process;
use crate::quotas::{Quotas, locked};
use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use sterna_engine::{AgentStats, AnswerStats, Histogram, State as Guessing, Stats};

/// Who guesses, in the order in which an engine counts them.
pub const SOURCES: [&str; 3] = ["prediction", "lookup", "draft_model"];

/// Counters and gauges of every model, and of the process.
pub async fn show(State(app): State<Arc<App>>) -> Json<Value> {
    let past = app.models.past();
    let models = past.iter().filter_map(|past| {
        let served = &past.model.as_ref()?.served;
        let memory: Map<String, Value> =
            served.memory.iter().map(|(kind, bytes)| ((*kind).to_owned(), json!(bytes))).collect();
        Some(json!({
            "name": served.name,
            "describe": served.describe,
            "context_length": served.context_len,
            "memory": memory,
            "stats": stats(&past.counted().stats, &app.options.agents),
        }))
    });
    let models = models.collect::<Vec<_>>();
    Json(json!({
        "uptime_seconds": app.uptime().as_secs_f64(),
        "process": { "pss_bytes": process::pss_bytes() },
        "models": models,
        "catalog": app.models.list().iter().map(listed).collect::<Vec<_>>(),
        "agents": app.options.agents.all().map(|one| known(one, &app)).collect::<Vec<_>>(),
        "memory": memory(&app.models.stats()),
    }))
}

/// A model, in memory or not.
fn listed(model: &Listed) -> Value {
    json!({
        "name": model.name,
        "aliases": model.aliases,
        "status": model.status(),
        "pinned": model.is_pinned,
        "memory_bytes": model.bytes(),
        "expires": model.expires,
        "describe": model.describe,
    })
}

/// An agent that an operator knows, whether or not it has asked for anything.
fn known(agent: &Agent, app: &App) -> Value {
    let Quotas { requests_per_minute, tokens_per_minute, concurrent_requests } = agent.quotas;
    let meter = app.options.agents.meter(&agent.name);
    let refused = meter.map(|meter| locked(meter, |meter| meter.refused()));
    let [requests, tokens, concurrent] = refused.unwrap_or_default();
    json!({
        "name": agent.name,
        "model": agent.model,
        "class": agent.class.unwrap_or_default().name(),
        "share": agent.share,
        "has_key": agent.key_sha256.is_some(),
        "quotas": {
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
            "concurrent_requests": concurrent_requests,
        },
        "refused": {
            "requests_per_minute": requests,
            "tokens_per_minute": tokens,
            "concurrent_requests": concurrent,
        },
    })
}

/// What models take turns in.
fn memory(stats: &CacheStats) -> Value {
    json!({
        "limit_bytes": stats.limit_bytes,
        "used_bytes": stats.used_bytes,
        "peak_bytes": stats.peak_bytes,
        "hits": stats.hits,
        "misses": stats.misses,
        "loads": stats.load_seconds.count(),
        "evictions": stats.evictions.iter().map(|(_, n)| n).sum::<u64>(),
        "preload_useful_bytes": stats.preload_useful_bytes,
        "preload_wasted_bytes": stats.preload_wasted_bytes,
    })
}

fn stats(stats: &Stats, agents: &Agents) -> Value {
    let [stop, length, cancelled, failed] = stats.finished;
    json!({
        "waiting": stats.waiting,
        "running": stats.running,
        "pages": stats.pages,
        "pages_used": stats.pages_used,
        "pages_cached": stats.pages_cached,
        "prompt_tokens": stats.prompt_tokens,
        "looked_up_tokens": stats.looked_up_tokens,
        "cached_tokens": stats.cached_tokens,
        "disk_tokens": stats.disk_tokens,
        "prefilled_tokens": stats.prefilled_tokens,
        "new_tokens": stats.new_tokens,
        "coalesced": stats.coalesced,
        "response_cache": answers(&stats.answers),
        "deadlines": { "refused": stats.deadlines[0], "missed": stats.deadlines[1] },
        "sessions": stats.sessions,
        "preemptions": stats.preemptions,
        "speculation": speculation(stats),
        "batches": stats.batches,
        "pacing": {
            "sequences": stats.paced_running,
            "prompt_rows": stats.paced_rows,
            "forecast_mape": mean(&stats.forecast_error),
        },
        "rows": stats.rows,
        "sequences": stats.sequences,
        "finished": { "stop": stop, "length": length, "cancelled": cancelled, "failed": failed },
        "ttft": spread(&stats.ttft),
        "itl": spread(&stats.itl),
        "e2e": spread(&stats.e2e),
        "queue": spread(&stats.queue),
        "agents": stats.agents.iter().map(|asked| agent(asked, agents)).collect::<Vec<_>>(),
    })
}

/// Guesses, by who made them.
fn speculation(stats: &Stats) -> Value {
    let by_source = |counts: [u64; 3]| {
        let named = SOURCES.iter().zip(counts).map(|(name, n)| ((*name).to_owned(), n.into()));
        Value::Object(named.collect())
    };
    json!({
        "state": match stats.speculation {
            Guessing::Off => "off",
            Guessing::On => "on",
            Guessing::Resting => "resting",
        },
        "drafted": by_source(stats.spec.drafted),
        "accepted": by_source(stats.spec.accepted),
        "draft_failure": stats.draft_failure,
    })
}

fn answers(answers: &AnswerStats) -> Value {
    let AnswerStats { hits, misses, evictions, entries, bytes } = answers;
    json!({
        "hits": hits,
        "misses": misses,
        "evictions": evictions,
        "entries": entries,
        "bytes": bytes,
    })
}

fn mean(histogram: &Histogram) -> Option<f64> {
    let count = histogram.count();
    (count > 0).then(|| histogram.sum() / count as f64)
}

/// Percentiles are upper bounds of a histogram's buckets; null where there is no value, or it lies
/// beyond the last bound.
fn spread(histogram: &Histogram) -> Value {
    let count = histogram.count();
    let percentile = |share: f64| {
        let wanted = (share * count as f64).ceil() as u64;
        let (bound, _) = histogram.cumulative().find(|&(_, sum)| sum >= wanted && sum > 0)?;
        bound.is_finite().then_some(bound)
    };
    json!({
        "count": count,
        "mean": mean(histogram),
        "p50": percentile(0.50),
        "p95": percentile(0.95),
        "p99": percentile(0.99),
    })
}

fn agent(agent: &AgentStats, known: &Agents) -> Value {
    let policy = known.get(&agent.name);
    json!({
        "name": agent.name,
        "class": policy.class.unwrap_or_default().name(),
        "share": policy.share,
        "open": agent.open,
        "requests": agent.requests,
        "prompt_tokens": agent.prompt_tokens,
        "new_tokens": agent.new_tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_bounds_of_buckets() {
        let mut histogram = Histogram::new(&[0.1, 1.0]);
        assert_eq!(spread(&histogram)["p50"], Value::Null);
        for seconds in [0.05, 0.05, 0.5, 5.0] {
            histogram.add(seconds);
        }
        let found = spread(&histogram);
        assert_eq!((&found["p50"], &found["p95"]), (&json!(0.1), &Value::Null));
        assert_eq!(found["count"], 4);
    }
}
