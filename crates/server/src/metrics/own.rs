//! Metrics of ours, and those of a process that Prometheus' own clients have.

use super::{
    Family, Labels, Of, Seen, counter, family, gauge, labelled, only, pages_in_use, spread,
};
use crate::app::App;
use crate::cache::{CacheStats, LOAD_BOUNDS};
use crate::models::{Evidence, Listed, Status};
use crate::process;
use crate::stats::SOURCES;
use std::time::UNIX_EPOCH;
use sterna_engine::stats::{ERROR_BOUNDS, LATENCY_BOUNDS};
use sterna_engine::{Class, State};

pub const FAMILIES: &[Family] = &[
    counter(
        "sterna_prefix_lookup_tokens_total",
        |m| m.stats.looked_up_tokens as f64,
        "Tokens of prompts that were looked up in the prefix tree.",
    ),
    family(
        "sterna_prefix_tokens_reused_total",
        "counter",
        Of::Numbers(|m| {
            let of_ram = m.stats.cached_tokens.saturating_sub(m.stats.disk_tokens);
            labelled("tier", [("ram", of_ram as f64), ("disk", m.stats.disk_tokens as f64)])
        }),
        "Tokens of prompts whose keys and values were there already, by where they were.",
    ),
    counter(
        "sterna_prefill_tokens_total",
        |m| m.stats.prefilled_tokens as f64,
        "Tokens of prompts that were computed.",
    ),
    counter(
        "sterna_coalesced_requests_total",
        |m| m.stats.coalesced as f64,
        "Requests that another one answered.",
    ),
    counter(
        "sterna_preemptions_total",
        |m| m.stats.preemptions as f64,
        "Times that a request lost its place to another and was computed again.",
    ),
    counter(
        "sterna_response_cache_hits_total",
        |m| m.stats.answers.hits as f64,
        "Requests that the response cache answered.",
    ),
    counter(
        "sterna_response_cache_misses_total",
        |m| m.stats.answers.misses as f64,
        "Requests that it might have answered and did not.",
    ),
    counter(
        "sterna_response_cache_evictions_total",
        |m| m.stats.answers.evictions as f64,
        "Answers that made room for others or were too old.",
    ),
    gauge(
        "sterna_response_cache_bytes",
        |m| m.stats.answers.bytes as f64,
        "Bytes of the answers in the response cache.",
    ),
    counter(
        "sterna_deadline_refused_total",
        |m| m.stats.deadlines[0] as f64,
        "Requests refused at once, since they would have missed their deadline.",
    ),
    counter(
        "sterna_deadline_missed_total",
        |m| m.stats.deadlines[1] as f64,
        "Requests whose deadline passed before they were answered.",
    ),
    gauge("sterna_sessions", |m| m.stats.sessions as f64, "Sessions whose pages are kept."),
    counter(
        "sterna_kv_disk_read_bytes_total",
        |m| m.stats.disk.read_bytes as f64,
        "Bytes of keys and values read from the disk.",
    ),
    counter(
        "sterna_kv_disk_written_bytes_total",
        |m| m.stats.disk.written_bytes as f64,
        "Bytes of keys and values written to the disk.",
    ),
    counter(
        "sterna_kv_disk_evicted_bytes_total",
        |m| m.stats.disk.evicted_bytes as f64,
        "Bytes of keys and values on the disk that made room for others.",
    ),
    counter(
        "sterna_kv_disk_dropped_writes_total",
        |m| m.stats.disk.dropped_writes as f64,
        "Files of keys and values not written, since the disk was behind.",
    ),
    counter(
        "sterna_kv_disk_failed_writes_total",
        |m| m.stats.disk.failed_writes as f64,
        "Files of keys and values not written, since the system refused.",
    ),
    counter(
        "sterna_kv_disk_refused_files_total",
        |m| m.stats.disk.refused_files as f64,
        "Files of keys and values that were damaged or could not be read.",
    ),
    family(
        "sterna_spec_drafted_tokens_total",
        "counter",
        Of::Numbers(|m| by_source(m.stats.spec.drafted)),
        "Guessed tokens that were computed beside the last one, by who guessed.",
    ),
    family(
        "sterna_spec_accepted_tokens_total",
        "counter",
        Of::Numbers(|m| by_source(m.stats.spec.accepted)),
        "Those of them that were right, each of which saved a step.",
    ),
    gauge(
        "sterna_spec_active",
        |m| f64::from(u8::from(m.stats.speculation == State::On)),
        "Whether guesses are computed; 0 where nobody wants them or they do not pay.",
    ),
    family(
        "sterna_optimization_disabled_info",
        "gauge",
        Of::Numbers(disabled),
        "What was switched on and is not used now, and why.",
    ),
    counter("sterna_batches_total", |m| m.stats.batches as f64, "Batches computed."),
    counter("sterna_batch_rows_total", |m| m.stats.rows as f64, "Rows of all batches."),
    gauge(
        "sterna_paced_sequences",
        |m| m.stats.paced_running as f64,
        "Sequences that may be in work at once, so that steps meet --itl-target.",
    ),
    gauge(
        "sterna_paced_prompt_rows",
        |m| m.stats.paced_rows as f64,
        "Tokens of prompts that a step may read beside generating, for the same.",
    ),
    spread(
        "sterna_step_forecast_error_ratio",
        ERROR_BOUNDS,
        |m| only(&m.stats.forecast_error),
        "By which part of what a step took it differed from what was expected of it.",
    ),
    family(
        "sterna_requests_finished_total",
        "counter",
        Of::Numbers(|m| {
            let reasons = ["stop", "length", "cancelled", "failed"];
            labelled("reason", reasons.into_iter().zip(m.stats.finished.map(|n| n as f64)))
        }),
        "Requests that ended, by reason.",
    ),
    spread(
        "sterna_queue_wait_seconds",
        LATENCY_BOUNDS,
        |m| {
            let classes = Class::ALL.map(|class| vec![("class", class.name().to_owned())]);
            classes.into_iter().zip(&m.stats.queue_by_class).collect()
        },
        "Seconds that a request waited in the queue, by its class.",
    ),
    family(
        "sterna_kv_pages",
        "gauge",
        Of::Numbers(pages),
        "Pages of the KV cache: held by requests, by the prefix tree alone, or free.",
    ),
    family(
        "sterna_memory_bytes",
        "gauge",
        Of::Numbers(|m| labelled("kind", m.memory.iter().map(|&(kind, n)| (kind, n as f64)))),
        "Memory that a model was given, by kind.",
    ),
    family(
        "sterna_model_memory_limit_bytes",
        "gauge",
        Of::Server(|_, cache| of_all(cache.limit_bytes)),
        "Memory that models may take together, if there is a limit.",
    ),
    family(
        "sterna_model_memory_used_bytes",
        "gauge",
        Of::Server(|_, cache| of_all([cache.used_bytes])),
        "Memory that models take together, with those on the way and those that are leaving.",
    ),
    family(
        "sterna_models",
        "gauge",
        Of::Server(|app, _| models(app)),
        "Models, by where they are: unloaded, loading, loaded, unloading.",
    ),
    family(
        "sterna_model_evidence_info",
        "gauge",
        Of::Server(|app, _| evidence(app)),
        "1 for each model: whether its own evidence meets what was asked (none, met, not_met), \
         and whether it is served all the same (--force).",
    ),
    family(
        "sterna_model_requests_total",
        "counter",
        Of::Server(|_, cache| {
            let found = [("yes", cache.hits as f64), ("no", cache.misses as f64)];
            labelled("in_memory", found)
        }),
        "Requests for a model, by whether it was in memory.",
    ),
    family(
        "sterna_model_load_seconds",
        "histogram",
        Of::ServerSpread(LOAD_BOUNDS, |cache| &cache.load_seconds),
        "Seconds that loading a model took.",
    ),
    family(
        "sterna_model_evictions_total",
        "counter",
        Of::Server(|_, cache| {
            labelled("reason", cache.evictions.iter().map(|&(reason, n)| (reason, n as f64)))
        }),
        "Models that left memory, by reason.",
    ),
    family(
        "sterna_preload_useful_bytes_total",
        "counter",
        Of::Server(|_, cache| of_all([cache.preload_useful_bytes])),
        "Bytes of models that were loaded before anybody asked, and then asked for.",
    ),
    family(
        "sterna_preload_wasted_bytes_total",
        "counter",
        Of::Server(|_, cache| of_all([cache.preload_wasted_bytes])),
        "Bytes of models that were loaded before anybody asked, and left without.",
    ),
    family(
        "sterna_preload_enabled",
        "gauge",
        Of::Server(|_, CacheStats { preload, .. }| of_all([u64::from(preload.0)])),
        "1 while loading ahead is shown to gain more than a plain LRU does.",
    ),
    family(
        "sterna_quota_refused_total",
        "counter",
        Of::Server(|app, _| {
            let refused = app.options.agents.refused();
            labelled("quota", refused.into_iter().map(|(quota, n)| (quota, n as f64)))
        }),
        "Requests refused since their agent had used up a quota, by quota.",
    ),
    family(
        "sterna_agent_requests_total",
        "counter",
        Of::Numbers(|m| labelled("agent", m.agents.iter().map(|a| (&a.name, a.requests as f64)))),
        "Requests of an agent; shown with --metrics-agents.",
    ),
    family(
        "sterna_agent_tokens_total",
        "counter",
        Of::Numbers(agent_tokens),
        "Tokens of an agent's prompts, and tokens generated for it; shown with --metrics-agents.",
    ),
    family(
        "sterna_process_pss_bytes",
        "gauge",
        Of::Process(|_| plain(process::pss_bytes()? as f64)),
        "Memory of this process; what it shares with others counts in part.",
    ),
    family(
        "sterna_build_info",
        "gauge",
        Of::Process(|_| Some((vec![("version", env!("CARGO_PKG_VERSION").into())], 1.0))),
        "The program, as labels.",
    ),
    family(
        "process_resident_memory_bytes",
        "gauge",
        Of::Process(|_| plain(process::resident_bytes()? as f64)),
        "Memory of this process, with all of what it shares.",
    ),
    family(
        "process_cpu_seconds_total",
        "counter",
        Of::Process(|_| plain(process::cpu_seconds()?)),
        "Seconds of all CPUs that this process was computing.",
    ),
    family(
        "process_start_time_seconds",
        "gauge",
        Of::Process(|app| plain(app.started.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())),
        "When serving began, in seconds since 1970.",
    ),
];

/// A number of all models together, where there is one.
fn of_all(bytes: impl IntoIterator<Item = u64>) -> Vec<(Labels, f64)> {
    bytes.into_iter().map(|bytes| (Labels::new(), bytes as f64)).collect()
}

fn models(app: &App) -> Vec<(Labels, f64)> {
    let listed = app.models.list();
    let count = |status| listed.iter().filter(|model| model.status == status).count() as f64;
    labelled("state", Status::ALL.map(|status| (status.name(), count(status))))
}

fn evidence(app: &App) -> Vec<(Labels, f64)> {
    let one = |model: &Listed| {
        let Evidence { standing, is_forced, .. } = &model.evidence;
        let labels = vec![
            ("model_name", model.name.clone()),
            ("standing", (*standing).to_owned()),
            ("forced", is_forced.to_string()),
        ];
        (labels, 1.0)
    };
    app.models.list().iter().map(one).collect()
}

fn plain(value: f64) -> Option<(Labels, f64)> {
    Some((Labels::new(), value))
}

fn pages(model: &Seen) -> Vec<(Labels, f64)> {
    let stats = &model.stats;
    let free = stats.pages.saturating_sub(stats.pages_used);
    let states = [("used", pages_in_use(stats)), ("cached", stats.pages_cached), ("free", free)];
    labelled("state", states.map(|(state, n)| (state, n as f64)))
}

fn by_source(counts: [u64; 3]) -> Vec<(Labels, f64)> {
    labelled("source", SOURCES.into_iter().zip(counts.map(|n| n as f64)))
}

fn disabled(model: &Seen) -> Vec<(Labels, f64)> {
    let one = |name: &str, reason: &str| {
        (vec![("name", name.to_owned()), ("reason", reason.to_owned())], 1.0)
    };
    let rests = model.stats.speculation == State::Resting;
    let mut all: Vec<_> = rests.then(|| one("speculation", "does not pay")).into_iter().collect();
    all.extend(model.stats.draft_failure.as_deref().map(|why| one("draft_model", why)));
    all
}

fn agent_tokens(model: &Seen) -> Vec<(Labels, f64)> {
    let kinds = |name: &String, prompt: u64, new: u64| {
        [("prompt", prompt), ("generated", new)]
            .map(|(kind, n)| (vec![("agent", name.clone()), ("kind", kind.to_owned())], n as f64))
    };
    model.agents.iter().flat_map(|a| kinds(&a.name, a.prompt_tokens, a.new_tokens)).collect()
}
