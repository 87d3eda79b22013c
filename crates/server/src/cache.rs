//! What models take and took of the memory: for programs and for people.
//!
//! In: the counters of whoever keeps the models. Out: `GET /v1/cache/stats`, with the names of
//! system 001's model cache manager; megabytes are 2^20 bytes there.

use crate::app::App;
use crate::asked::{parameters, with_warnings};
use crate::errors::ApiError;
use crate::fields::Fields;
use crate::models::{Listed, Status};
use crate::posted::Posted;
use crate::process;
use crate::tables::CACHE_LIMIT;
use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use sterna_engine::Histogram;

/// Bounds in seconds of the times that loads take.
pub const LOAD_BOUNDS: &[f64] =
    &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Counters and gauges of the memory that models take.
#[derive(Clone, Debug)]
pub struct CacheStats {
    /// Bytes that models may take; `None` is no limit.
    pub limit_bytes: Option<u64>,
    /// Bytes that they take now.
    pub used_bytes: u64,
    /// The most there was.
    pub peak_bytes: u64,
    /// Requests that found their model in memory.
    pub hits: u64,
    /// Requests that did not.
    pub misses: u64,
    /// Models that left, by reason.
    pub evictions: Vec<(&'static str, u64)>,
    /// Seconds that loads took, by [`LOAD_BOUNDS`].
    pub load_seconds: Histogram,
    /// Bytes that were loaded before anybody asked, and then asked for.
    pub preload_useful_bytes: u64,
    /// Bytes that were loaded before anybody asked, and left without having been asked for.
    pub preload_wasted_bytes: u64,
    /// Whether loading ahead is shown to pay, and what a request gains by it: hits, less loads for
    /// nothing, as a 95% confidence interval from a comparison on paper with a plain LRU.
    pub preload: (bool, Option<[f64; 2]>),
    /// The models in memory, the most efficient first.
    pub models: Vec<InMemory>,
    /// How many models each agent asked for.
    pub agent_models: BTreeMap<String, usize>,
}

/// A model in memory.
#[derive(Clone, Debug)]
pub struct InMemory {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// Requests since it came.
    pub accesses: u64,
    /// Agents since it came.
    pub agents: usize,
    /// What its memory brings.
    pub efficiency_score: f64,
    /// What it is worth to keep; the lowest goes first.
    pub eviction_score: f64,
}

const NOTES: [&str; 3] = [
    "memory_saved_by_sharing_mb is measured: what other processes share with this one, its RSS \
     less its PSS; null where the system does not say",
    "average_load_time_ms is null before the first load, cache_hit_rate before the first request, \
     memory_utilization without a limit",
    "preload.gain is what a request gains by loading ahead, on paper: hits less loads for nothing, \
     as a 95% confidence interval; models are loaded ahead only while all of it is above 0",
];

const MB: f64 = (1u64 << 20) as f64;

/// `GET /v1/cache/stats`.
pub async fn show(State(app): State<Arc<App>>) -> Json<Value> {
    Json(object_of(&app.models.stats(), process::shared_bytes()))
}

fn object_of(stats: &CacheStats, saved_bytes: Option<u64>) -> Value {
    let mb = |bytes: u64| bytes as f64 / MB;
    let ratio = |a: f64, b: f64| (b > 0.0).then(|| a / b);
    let n_loads = stats.load_seconds.count() as f64;
    let asked = stats.hits + stats.misses;
    let models = stats.models.iter().map(|model| {
        json!({
            "name": model.name,
            "size_mb": mb(model.bytes),
            "access_count": model.accesses,
            "agents_using": model.agents,
            "efficiency_score": model.efficiency_score,
            "eviction_score": model.eviction_score,
        })
    });
    let evictions: Map<String, Value> =
        stats.evictions.iter().map(|(reason, n)| ((*reason).to_owned(), json!(n))).collect();
    let used_of = stats.limit_bytes.and_then(|limit| ratio(stats.used_bytes as f64, limit as f64));
    json!({
        "models_cached": stats.models.len(),
        "memory_used_mb": mb(stats.used_bytes),
        "memory_limit_mb": stats.limit_bytes.map(mb),
        "memory_utilization": used_of.map(|part| 100.0 * part),
        "cache_hit_rate": ratio(stats.hits as f64, asked as f64),
        "total_hits": stats.hits,
        "total_misses": stats.misses,
        "models_evicted": stats.evictions.iter().map(|(_, n)| n).sum::<u64>(),
        "memory_saved_by_sharing_mb": saved_bytes.map(mb),
        "average_load_time_ms": ratio(stats.load_seconds.sum() * 1e3, n_loads),
        "peak_memory_mb": mb(stats.peak_bytes),
        "top_models": models.collect::<Vec<_>>(),
        "agent_model_count": stats.agent_models,
        "evictions": evictions,
        "preload": {
            "is_on": stats.preload.0,
            "gain": stats.preload.1,
            "useful_bytes": stats.preload_useful_bytes,
            "wasted_bytes": stats.preload_wasted_bytes,
            "precision": precision(stats),
        },
        "notes": NOTES,
    })
}

/// `POST /v1/cache/limit`: what models may take from now on.
pub async fn set_limit(posted: Posted) -> Result<Json<Value>, ApiError> {
    let app = posted.app.clone();
    let (body, mut warnings) = posted.read(|posted| parameters(posted, CACHE_LIMIT)).await?;
    let Some(mb) = Fields(&body).integer("max_memory_mb", 1, 1 << 40)? else {
        let message = "max_memory_mb is missing; it is the megabytes that models may take";
        return Err(ApiError::invalid("max_memory_mb", message));
    };
    let limit = (mb as u64) << 20;
    app.models.set_limit(limit);
    let models = app.models.list();
    let stay = models.iter().filter(|m| m.is_pinned && m.status != Status::Unloaded);
    let pinned: u64 = stay.map(Listed::bytes).sum();
    if pinned > limit {
        warnings.push(format!(
            "pinned models hold {pinned} bytes, which is more than {limit} and stays so; \
             DELETE /v1/models/MODEL/pin lets one go"
        ));
    }
    Ok(Json(with_warnings(json!({ "max_memory_mb": mb }), warnings)))
}

/// The part of what was loaded ahead that was asked for; `None` before either is known.
fn precision(stats: &CacheStats) -> Option<f64> {
    let known = stats.preload_useful_bytes + stats.preload_wasted_bytes;
    (known > 0).then(|| stats.preload_useful_bytes as f64 / known as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> CacheStats {
        let mut load_seconds = Histogram::new(LOAD_BOUNDS);
        load_seconds.add(0.5);
        load_seconds.add(0.25);
        let model = InMemory {
            name: "a".into(),
            bytes: 3 << 20,
            accesses: 7,
            agents: 2,
            efficiency_score: 0.25,
            eviction_score: 0.5,
        };
        CacheStats {
            limit_bytes: Some(8 << 20),
            used_bytes: 4 << 20,
            peak_bytes: 6 << 20,
            hits: 3,
            misses: 1,
            evictions: vec![("room", 2), ("idle", 1)],
            load_seconds,
            preload_useful_bytes: 6,
            preload_wasted_bytes: 2,
            preload: (true, Some([0.125, 0.5])),
            models: vec![model],
            agent_models: BTreeMap::from([("x".to_owned(), 2)]),
        }
    }

    // proves S-14: the keys are those of system 001, the numbers those of the counters
    #[test]
    fn the_names_are_those_of_system_001() {
        let shown = object_of(&stats(), Some(1 << 20));
        for (key, value) in [
            ("models_cached", json!(1)),
            ("memory_used_mb", json!(4.0)),
            ("memory_limit_mb", json!(8.0)),
            ("memory_utilization", json!(50.0)),
            ("cache_hit_rate", json!(0.75)),
            ("total_hits", json!(3)),
            ("total_misses", json!(1)),
            ("models_evicted", json!(3)),
            ("memory_saved_by_sharing_mb", json!(1.0)),
            ("average_load_time_ms", json!(375.0)),
            ("peak_memory_mb", json!(6.0)),
            ("agent_model_count", json!({ "x": 2 })),
            (
                "preload",
                json!({
                    "is_on": true,
                    "gain": [0.125, 0.5],
                    "useful_bytes": 6,
                    "wasted_bytes": 2,
                    "precision": 0.75,
                }),
            ),
        ] {
            assert_eq!(shown[key], value, "{key}");
        }
        let top = &shown["top_models"][0];
        assert_eq!((&top["name"], &top["size_mb"]), (&json!("a"), &json!(3.0)));
        assert_eq!((&top["access_count"], &top["agents_using"]), (&json!(7), &json!(2)));
        assert_eq!(top["efficiency_score"], json!(0.25));
    }
}
