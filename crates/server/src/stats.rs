//! `/api/v1/stats`: what the dashboard shows, for programs too.

use crate::app::App;
use crate::process;
use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use sterna_engine::{AgentStats, AnswerStats, Histogram, Stats};

/// Counters and gauges of every model, and of the process.
pub async fn show(State(app): State<Arc<App>>) -> Json<Value> {
    let models = app.models.iter().map(|model| {
        let served = &model.served;
        let memory: Map<String, Value> =
            served.memory.iter().map(|(kind, bytes)| ((*kind).to_owned(), json!(bytes))).collect();
        json!({
            "name": served.name,
            "describe": served.describe,
            "context_length": served.context_len,
            "memory": memory,
            "stats": stats(&served.engine.stats()),
        })
    });
    let models = models.collect::<Vec<_>>();
    Json(json!({
        "uptime_seconds": app.uptime().as_secs_f64(),
        "process": { "pss_bytes": process::pss_bytes() },
        "models": models,
    }))
}

fn stats(stats: &Stats) -> Value {
    let [stop, length, cancelled, failed] = stats.finished;
    json!({
        "waiting": stats.waiting,
        "running": stats.running,
        "pages": stats.pages,
        "pages_used": stats.pages_used,
        "pages_cached": stats.pages_cached,
        "prompt_tokens": stats.prompt_tokens,
        "cached_tokens": stats.cached_tokens,
        "disk_tokens": stats.disk_tokens,
        "prefilled_tokens": stats.prefilled_tokens,
        "new_tokens": stats.new_tokens,
        "coalesced": stats.coalesced,
        "response_cache": answers(&stats.answers),
        "deadlines": { "refused": stats.deadlines[0], "missed": stats.deadlines[1] },
        "sessions": stats.sessions,
        "preemptions": stats.preemptions,
        "batches": stats.batches,
        "rows": stats.rows,
        "finished": { "stop": stop, "length": length, "cancelled": cancelled, "failed": failed },
        "ttft": spread(&stats.ttft),
        "itl": spread(&stats.itl),
        "e2e": spread(&stats.e2e),
        "queue": spread(&stats.queue),
        "agents": stats.agents.iter().map(agent).collect::<Vec<_>>(),
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
        "mean": (count > 0).then(|| histogram.sum() / count as f64),
        "p50": percentile(0.50),
        "p95": percentile(0.95),
        "p99": percentile(0.99),
    })
}

fn agent(agent: &AgentStats) -> Value {
    json!({
        "name": agent.name,
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
