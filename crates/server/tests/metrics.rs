//! `/metrics` as Prometheus reads it, and as vLLM's dashboards and the Gateway API Inference
//! Extension ask for it.

mod common;

use axum::http::Method;
use common::scripted::here_and_away;
use common::{CHATML, Client, Scripted, fake, noon, say, served, text};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use sterna_engine::{AgentStats, Stats};
use sterna_server::{Counted, Options, router};
use tower::ServiceExt;

/// The expressions of vLLM's dashboards, from its repository: `prometheus_grafana/grafana.json` as
/// of vLLM 0 and 1, and `dashboards/grafana/{performance,query}_statistics.json`, which write
/// `vllm_`. Quantiles that differ in their number only are here once.
const QUERIES: &str = include_str!("vllm-dashboards.promql");

/// Of the same dashboards, what `METRICS.md` says is not here.
const NOT_HERE: [&str; 2] = ["vllm:num_requests_swapped", "vllm:cpu_cache_usage_perc"];

/// What an engine says that has done something.
fn busy() -> Stats {
    let mut stats = Stats { running: 2, waiting: 3, pages: 8, pages_used: 6, ..Stats::default() };
    (stats.pages_cached, stats.finished) = (2, [5, 4, 2, 1]);
    (stats.prompt_tokens, stats.looked_up_tokens) = (900, 60);
    for seconds in [0.015, 0.3, 9999.0] {
        let class = stats.queue_by_class.iter_mut();
        let all = [&mut stats.ttft, &mut stats.e2e, &mut stats.queue, &mut stats.prefill];
        all.into_iter().chain(class).for_each(|histogram| histogram.add(seconds));
    }
    let agent = |name: &str, new_tokens| AgentStats {
        running: 0,
        name: name.into(),
        open: 0,
        requests: 1,
        prompt_tokens: 7,
        new_tokens,
    };
    stats.agents = vec![agent("", 1), agent("a\"b\n", 2), agent("c", 4)];
    stats
}

async fn scrape(metrics_agents: usize) -> Vec<Sample> {
    let model = |name: &str, stats: Stats| {
        let engine = fake(|request| say(request, "x"));
        *engine.stats.lock().unwrap() = Some(stats);
        served(name, None, engine)
    };
    let models = vec![model("tiny", busy()), model("b\\\"", Stats::default())];
    let options = Options { metrics_agents, now: noon, ..Options::default() };
    let models = Scripted::new(models, Vec::new(), &options.agents);
    let router = router(models, options).unwrap();
    let request = axum::http::Request::get("/metrics").body(axum::body::Body::empty()).unwrap();
    let answer = text(router.oneshot(request).await.unwrap()).await;
    read(&answer)
}

#[derive(Debug)]
struct Sample {
    family: String,
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// The text format 0.0.4, and nothing that it does not allow.
fn read(text: &str) -> Vec<Sample> {
    let (mut samples, mut family, mut families) = (Vec::new(), None, HashSet::new());
    let mut helped = String::new();
    assert!(text.ends_with('\n') && !text.contains('\r'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            helped = help.split_once(' ').expect("a help has a text").0.to_owned();
        } else if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.split_once(' ').unwrap();
            assert_eq!(name, helped, "each family has its help before its type");
            assert!(families.insert(name.to_owned()), "{name} is described twice");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            let is_total = name.ends_with("_total");
            assert!(kind != "counter" || is_total, "{name} is a counter without _total");
            family = Some((name.to_owned(), kind.to_owned()));
        } else {
            let (family, kind) = family.as_ref().expect("samples come after their type");
            let sample = sample(line, family);
            let rest = sample.name.strip_prefix(family.as_str()).expect(line);
            let is_part = matches!(rest, "_bucket" | "_sum" | "_count");
            assert!(if kind == "histogram" { is_part } else { rest.is_empty() }, "{line}");
            samples.push(sample);
        }
    }
    let mut seen = HashSet::new();
    for Sample { name, labels, .. } in &samples {
        assert!(seen.insert((name, labels)), "{name} {labels:?} is there twice");
    }
    samples
}

fn sample(line: &str, family: &str) -> Sample {
    let end = line.find(['{', ' ']).expect(line);
    let (name, mut rest) = line.split_at(end);
    let is_name = |name: &str, extra: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || extra.contains(c))
    };
    assert!(is_name(name, ":"), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").expect(line);
            assert!(is_name(label, "") && !label.starts_with("__"), "{line}");
            let (value, after) = quoted(after);
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').expect(line).parse().expect(line);
    Sample { family: family.into(), name: name.into(), labels, value }
}

/// A label's value up to its closing quote, and what follows.
fn quoted(text: &str) -> (String, &str) {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('\\' | '"'))) => value.push(c),
                other => panic!("no such escape: {other:?}"),
            },
            c => value.push(c),
        }
    }
    panic!("a value without an end: {text}")
}

/// The names of an expression with the matchers that follow them.
fn selectors(query: &str) -> Vec<(String, Vec<(String, String)>)> {
    let query = query.replace("vllm_", "vllm:");
    let starts = query.match_indices("vllm:").map(|(at, _)| at);
    let selector = |at: usize| {
        let rest = &query[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"_:".contains(c));
        let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let inner = rest.strip_prefix('{').and_then(|rest| Some(rest.split_once('}')?.0));
        let matchers = inner.unwrap_or("").split(',').filter(|part| !part.is_empty()).map(|part| {
            let (label, value) = part.split_once('=').unwrap();
            let value = value.trim_start_matches('~').trim_matches('"');
            // The dashboards' variables hold the model that is looked at.
            (label.to_owned(), if value.starts_with('$') { "tiny" } else { value }.to_owned())
        });
        (name.to_owned(), matchers.collect())
    };
    starts.map(selector).collect()
}

fn found<'a>(samples: &'a [Sample], name: &str, labels: &[(&str, &str)]) -> Vec<&'a Sample> {
    let fits = |sample: &&Sample| {
        let has =
            |(label, value): &(&str, &str)| sample.labels.get(*label).is_some_and(|v| v == value);
        sample.name == name && labels.iter().all(has)
    };
    samples.iter().filter(fits).collect()
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    match found(samples, name, labels)[..] {
        [one] => one.value,
        ref other => panic!("{name} {labels:?}: {other:?}"),
    }
}

// proves B29, P-21 (what is scraped can be read)
#[tokio::test]
async fn every_query_of_vllms_dashboards_finds_something() {
    let samples = scrape(0).await;
    let queries: Vec<&str> = QUERIES.lines().filter(|line| !line.is_empty()).collect();
    assert!(queries.len() > 25);
    for query in queries {
        let selectors = selectors(query);
        assert!(!selectors.is_empty(), "{query}");
        for (name, matchers) in selectors {
            let matchers: Vec<(&str, &str)> =
                matchers.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            let found = found(&samples, &name, &matchers);
            assert!(!found.is_empty(), "{name} of {query}");
            for by in ["le", "finished_reason"] {
                let is_grouped = query.contains(&format!("by({by}"));
                assert!(!is_grouped || found.iter().all(|s| s.labels.contains_key(by)), "{query}");
            }
        }
    }
    for name in NOT_HERE {
        assert!(found(&samples, name, &[]).is_empty(), "{name} is there: see METRICS.md");
    }
}

// proves B29
#[tokio::test]
async fn the_gateway_api_inference_extension_finds_what_it_needs() {
    let samples = scrape(0).await;
    let tiny = [("model_name", "tiny"), ("engine", "0")];
    assert_eq!(value(&samples, "vllm:num_requests_waiting", &tiny), 3.0);
    assert_eq!(value(&samples, "vllm:num_requests_running", &tiny), 2.0);
    assert_eq!(value(&samples, "vllm:kv_cache_usage_perc", &tiny), 0.5);
    let cache = &found(&samples, "vllm:cache_config_info", &tiny)[0].labels;
    assert_eq!(cache["num_gpu_blocks"], "8");
    assert_eq!(cache["block_size"], sterna_engine::PAGE_LEN.to_string());
    let none = [("max_lora", "0"), ("running_lora_adapters", ""), ("waiting_lora_adapters", "")];
    assert_eq!(value(&samples, "vllm:lora_requests_info", &none), 1_795_262_400.0);
}

#[tokio::test]
async fn histograms_grow_to_their_count() {
    let samples = scrape(0).await;
    let mut n_series = 0;
    for count in samples.iter().filter(|sample| sample.name.ends_with("_count")) {
        let of = |name: &str| format!("{}{name}", count.family);
        let is_same = |sample: &&Sample| {
            let mut labels = sample.labels.clone();
            labels.remove("le").is_some() && labels == count.labels
        };
        let buckets: Vec<&Sample> =
            samples.iter().filter(|s| s.name == of("_bucket")).filter(is_same).collect();
        let bound = |sample: &Sample| sample.labels["le"].parse::<f64>().unwrap();
        let pairs = || buckets.iter().zip(&buckets[1..]);
        assert!(pairs().all(|(a, b)| bound(a) < bound(b)), "{count:?}");
        assert!(pairs().all(|(a, b)| a.value <= b.value), "{count:?}");
        let last = buckets.last().unwrap();
        assert_eq!((last.labels["le"].as_str(), last.value), ("+Inf", count.value));
        n_series += 1;
    }
    assert!(n_series > 20);
    let at = |name, le| value(&samples, name, &[("model_name", "tiny"), ("le", le)]);
    assert_eq!(at("vllm:time_to_first_token_seconds_bucket", "0.02"), 1.0);
    assert_eq!(at("vllm:e2e_request_latency_seconds_bucket", "0.3"), 2.0);
    assert_eq!(at("vllm:e2e_request_latency_seconds_bucket", "7680.0"), 2.0);
    let finer = [("model_name", "tiny"), ("le", "0.02")];
    assert!(found(&samples, "vllm:e2e_request_latency_seconds_bucket", &finer).is_empty());
    let batch = [("model_name", "tiny"), ("class", "batch"), ("le", "0.02")];
    assert_eq!(value(&samples, "sterna_queue_wait_seconds_bucket", &batch), 1.0);
}

#[tokio::test]
async fn own_numbers_are_those_of_the_engine_and_of_the_process() {
    let samples = scrape(0).await;
    let of = |name, labels: &[(&str, &str)]| {
        value(&samples, name, &[labels, &[("model_name", "tiny")]].concat())
    };
    assert_eq!(of("sterna_requests_finished_total", &[("reason", "cancelled")]), 2.0);
    assert_eq!(of("vllm:request_success_total", &[("finished_reason", "length")]), 4.0);
    assert_eq!(of("sterna_kv_pages", &[("state", "free")]), 2.0);
    for name in ["sterna_prefix_lookup_tokens_total", "vllm:prefix_cache_queries_total"] {
        assert_eq!(of(name, &[]), 60.0, "{name}");
    }
    assert_eq!(of("sterna_memory_bytes", &[("kind", "weights")]), 1_000.0);
    assert!(found(&samples, "sterna_agent_tokens_total", &[]).is_empty(), "nobody asked for them");
    #[cfg(target_os = "linux")]
    assert!(value(&samples, "sterna_process_pss_bytes", &[]) > 1e6);
}

#[tokio::test]
async fn agents_are_named_up_to_the_number_asked_for() {
    let samples = scrape(2).await;
    let tokens = |agent, kind| {
        let labels = [("model_name", "tiny"), ("agent", agent), ("kind", kind)];
        value(&samples, "sterna_agent_tokens_total", &labels)
    };
    assert_eq!(tokens("(none)", "generated"), 1.0);
    assert_eq!(tokens("a\"b\n", "prompt"), 7.0);
    assert_eq!(tokens("(others)", "generated"), 4.0);
    let others = [("model_name", "tiny"), ("agent", "(others)")];
    assert_eq!(value(&samples, "sterna_agent_requests_total", &others), 1.0);
}

#[tokio::test]
async fn whole_requests_are_counted_by_their_choices() {
    let client = Client::with(Options::default(), Some(CHATML), |request| say(request, "Hello"));
    for stream in [false, true] {
        let body = json!({ "prompt": ["a", "b"], "n": 2, "max_tokens": 3, "stream": stream });
        let body = body.to_string();
        let response = client.send(Method::POST, "/v1/completions", &[], body).await;
        assert_eq!(response.status(), 200);
        text(response).await;
    }
    let (_, answer) = client.get("/metrics", &[]).await;
    let samples = read(&answer);
    for (name, wanted) in [
        ("vllm:request_params_n_sum", 8.0),
        ("vllm:request_params_n_count", 4.0),
        ("vllm:request_max_num_generation_tokens_sum", 12.0),
    ] {
        assert_eq!(value(&samples, name, &[("model_name", "tiny")]), wanted, "{name}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_memory_in_use_is_a_share_of_what_the_process_may_have() {
    for (memory_limit_bytes, is_known) in [(Some(1 << 50), true), (None, false)] {
        let options = Options { memory_limit_bytes, ..Options::default() };
        let client = Client::with(options, None, |request| say(request, "x"));
        let (_, answer) = client.get("/api/v1/batch/metrics", &[]).await;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let share = answer["memory_utilization"].as_f64();
        assert_eq!(share.is_some_and(|share| share > 0.0 && share < 1e-3), is_known, "{answer}");
    }
}

// proves S-14
#[tokio::test]
async fn batch_metrics_have_every_key() {
    let client = Client::new(|request| say(request, "x"));
    let (status, answer) = client.get("/api/v1/batch/metrics", &[]).await;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(status, 200);
    for key in [
        "total_requests",
        "total_batches",
        "average_batch_size",
        "average_wait_time_ms",
        "cache_hit_rate",
        "throughput_rps",
        "p95_latency_ms",
        "p99_latency_ms",
        "active_batches",
        "pending_requests",
        "cpu_utilization",
        "memory_utilization",
    ] {
        let value = answer.get(key).expect(key);
        let is_explained = answer["unknown"].get(key).is_some();
        assert_eq!(value.is_null(), is_explained, "{key}: {answer}");
        assert!(value.is_null() || value.is_number(), "{key}: {answer}");
    }
    // What the scripted engine says of itself.
    assert_eq!((&answer["pending_requests"], &answer["cache_hit_rate"]), (&json!(2), &json!(0.0)));
}

#[tokio::test]
async fn the_cache_is_shown_under_both_names_and_to_prometheus() {
    let (client, _) = here_and_away(fake(|request| say(request, "hi")), Vec::new());
    let (_, ours) = client.get("/v1/cache/stats", &[]).await;
    let (status, compatible) = client.get("/api/v1/cache/stats", &[]).await;
    assert_eq!(status, 200);
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let (mut ours, mut compatible) = (parse(&ours), parse(&compatible));
    assert_eq!(ours["cache_hit_rate"], 0.75);
    assert_eq!(ours["memory_limit_mb"], Value::Null);
    // Measured anew each time.
    for stats in [&mut ours, &mut compatible] {
        stats["memory_saved_by_sharing_mb"] = Value::Null;
    }
    assert_eq!(ours, compatible);
    let (_, metrics) = client.get("/metrics", &[]).await;
    for line in [
        "sterna_memory_bytes{model_name=\"here\",kind=\"weights\"} 1000\n",
        "sterna_model_evictions_total{reason=\"room\"} 5\n",
        "sterna_preload_useful_bytes_total 0\n",
        "sterna_model_load_seconds_count 0\n",
        "sterna_models{state=\"unloaded\"} 1\n",
        "sterna_model_requests_total{in_memory=\"yes\"} 3\n",
        "sterna_model_memory_used_bytes 1000\n",
        "sterna_preload_enabled 0\n",
        "sterna_quota_refused_total{quota=\"tokens_per_minute\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn what_models_counted_before_they_left_memory_is_still_counted() {
    let (client, models) = here_and_away(fake(|request| say(request, "hi")), Vec::new());
    let counted = |new_tokens| {
        let mut counted = Counted::default();
        (counted.stats.new_tokens, counted.stats.waiting) = (new_tokens, 9);
        counted.stats.finished[0] = 1;
        counted.stats.e2e.add(0.5);
        counted
    };
    let before = [("here".to_owned(), counted(5)), ("org/away".to_owned(), counted(7))];
    models.before.lock().unwrap().extend(before);
    let (_, metrics) = client.get("/metrics", &[]).await;
    for line in [
        "vllm:generation_tokens_total{model_name=\"here\",engine=\"0\"} 5\n",
        "vllm:generation_tokens_total{model_name=\"org/away\",engine=\"0\"} 7\n",
        "vllm:e2e_request_latency_seconds_count{model_name=\"org/away\",engine=\"0\"} 1\n",
        "vllm:num_requests_waiting{model_name=\"here\",engine=\"0\"} 2\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(!metrics.contains("vllm:num_requests_waiting{model_name=\"org/away\""));
    let get = async |path| serde_json::from_str::<Value>(&client.get(path, &[]).await.1).unwrap();
    let stats = get("/api/v1/stats").await;
    assert_eq!(stats["models"].as_array().unwrap().len(), 1);
    assert_eq!(stats["models"][0]["stats"]["new_tokens"], 5);
    assert_eq!(get("/api/v1/batch/metrics").await["total_requests"], 1 + 1 + 2 + 1);
}
