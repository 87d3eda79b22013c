//! What measures speed: `sterna bench`, `sterna bench start`, `sterna profile`. How fast anything is
//! is never asserted; what the numbers say of each other is.

use crate::{ok, tiny};
use serde_json::Value;
use std::path::Path;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in {text}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(number).collect()
}

fn rows(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

/// Bytes of F32 weights that a token of [`tiny::SMALL`] or [`tiny::WIDE`] reads: all but the
/// embedding; and of keys and values of a position.
fn bytes_read(shape: &tiny::Shape, vocabulary: usize) -> (f64, f64) {
    let kv = shape.dim / shape.heads * shape.kv_heads;
    let matrices = 2 * shape.dim * shape.dim + 2 * kv * shape.dim + 3 * shape.dim * shape.ffn;
    let layer = matrices + 2 * shape.dim;
    let weights = shape.layers * layer + shape.dim + vocabulary * shape.dim;
    (4.0 * weights as f64, (2 * 2 * kv * shape.layers) as f64)
}

#[test]
fn speeds_are_reported_in_llama_bench_words() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "tiny.gguf", &tiny::SMALL);
    let args = ["bench", "tiny.gguf", "-p", "16", "-n", "8", "-d", "0,40", "-r", "3", "--json"];
    let found = json(&ok(at, &args));
    let tests = |row: &Value| [&row["n_prompt"], &row["n_gen"], &row["n_depth"]].map(number);
    let wanted = [[16.0, 0.0, 0.0], [0.0, 8.0, 0.0], [16.0, 0.0, 40.0], [0.0, 8.0, 40.0]];
    assert_eq!(rows(&found).iter().map(tests).collect::<Vec<_>>(), wanted);
    for row in rows(&found) {
        let (rates, shares) = (numbers(&row["samples_ts"]), numbers(&row["share_samples"]));
        assert_eq!((rates.len(), shares.len()), (3, 3));
        assert!(rates.iter().all(|rate| *rate > 0.0), "{row}");
        let is_prompt = number(&row["n_gen"]) == 0.0;
        let name = if is_prompt { "f32_peak" } else { "memory_read" };
        assert_eq!(row["ceiling"]["name"], name);
        // Each share is of its own neighbour, and the share is their median.
        let work = number(&row["ceiling"]["work_per_token"]);
        let probes = numbers(&row["ceiling"]["samples"]);
        for ((rate, probe), share) in rates.iter().zip(&probes).zip(&shares) {
            assert!((rate * work / probe - share).abs() < 1e-9 * share, "{row}");
        }
        let mut sorted = shares.clone();
        sorted.sort_by(f64::total_cmp);
        assert_eq!(number(&row["share"]), sorted[1]);
    }
    // A generated token reads the weights, and the keys and values of its context: 41 to 48.
    let vocabulary = number(&found[0]["model_n_params"]) as usize;
    let shape = tiny::SMALL;
    let (no_table, _) = bytes_read(&shape, 0);
    let vocabulary = (vocabulary as f64 - no_table / 4.0) as usize / (2 * shape.dim);
    let (weights, position) = bytes_read(&shape, vocabulary);
    let work = number(&found[3]["ceiling"]["work_per_token"]);
    assert!((work - (weights + 44.5 * position)).abs() < 1.0, "{work}");
}

#[test]
fn sequences_generate_together() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "tiny.gguf", &tiny::SMALL);
    let args = ["bench", "tiny.gguf", "-n", "4", "--sequences", "1,3", "-r", "2"];
    let found = json(&ok(at, &[&args[..], &["--json"]].concat()));
    assert_eq!(rows(&found).len(), 2, "no prompt was asked for: {found}");
    for (row, n_sequences) in rows(&found).iter().zip([1.0, 3.0]) {
        assert_eq!((number(&row["sequences"]), number(&row["depth"])), (n_sequences, 256.0));
        let (rates, times) = (numbers(&row["samples_ts"]), numbers(&row["samples_ns"]));
        for (rate, ns) in rates.iter().zip(&times) {
            let tokens = rate * ns / 1e9;
            assert!((tokens - 4.0 * n_sequences).abs() < 0.01, "{tokens} tokens in {row}");
        }
    }
    let table = ok(at, &[&args[..], &["--no-probe"]].concat());
    assert!(table.contains(" tg4 x 3 @ d256 |") && table.contains("| not probed"), "{table}");
    assert!(table.contains("| kv   |") && table.contains("| f16  |"), "{table}");
}

/// Seconds of a list of rows.
fn seconds(rows: &Value) -> f64 {
    self::rows(rows).iter().map(|row| number(&row["seconds"])).sum()
}

// proves P-10: per op and per layer time, bytes, operations; all of the wall is in the table.
// proves B-13: exclusive times sum to at most the wall.
// proves T-18: operations are those of the formula.
#[test]
fn a_profile_accounts_for_the_wall() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "tiny.gguf", &tiny::WIDE);
    ok(at, &["quantize", "tiny.gguf", "q8.gguf", "Q8_0"]);
    let args = ["profile", "q8.gguf", "-p", "32", "-n", "4", "-d", "8", "-r", "2", "-t", "2"];
    let found = json(&ok(at, &[&args[..], &["--trace", "trace.json", "--json"]].concat()));
    let names: Vec<&Value> = rows(&found["tests"]).iter().map(|test| &test["test"]).collect();
    assert_eq!(names, ["pp32 @ d8", "tg4 @ d8"]);
    for test in rows(&found["tests"]) {
        let profile = &test["profile"];
        let wall = number(&profile["wall_seconds"]);
        let between = number(&profile["between_seconds"]);
        let in_steps = seconds(&profile["steps"]);
        assert!(between >= 0.0 && in_steps <= wall * (1.0 + 1e-9), "{in_steps} of {wall}");
        for part in [in_steps, seconds(&profile["ops"]), seconds(&profile["layers"])] {
            assert!((part + between - wall).abs() < 1e-9, "{part} and {between} of {wall}");
        }
        let layers: Vec<&Value> = rows(&profile["layers"]).iter().map(|row| &row["name"]).collect();
        assert_eq!(layers, ["layer 0", "layer 1", "(outside layers)"]);
        let overhead = number(&profile["overhead"]);
        assert!((between / wall - 1e-9..1.0).contains(&overhead), "{overhead}");
        assert!(number(&profile["share_of_roofline"]) > 0.0);
        let flops = |row: &Value| number(&row["work"]["flops"]);
        let of_layers: f64 = rows(&profile["layers"])[..2].iter().map(flops).sum();
        assert_eq!(of_layers, layer_flops(test["test"] == "pp32 @ d8"));
    }
    check_trace(at, &found);
    let table = ok(at, &args);
    for word in ["linear ffn_down", "attention", "(between steps)", "layer 1", "roofline: read"] {
        assert!(table.contains(word), "no {word} in {table}");
    }
}

/// Operations of the two layers of [`tiny::WIDE`], by the formula: two per weight and row, where
/// rows after the last attention are those whose logits are wanted; four per key that a query head's
/// feature meets.
fn layer_flops(is_prompt: bool) -> f64 {
    let (n_rows, n_wanted) = if is_prompt { (32, 1) } else { (4, 4) };
    let shape = tiny::WIDE;
    let kv = shape.dim / shape.heads * shape.kv_heads;
    let before = shape.dim * shape.dim + 2 * kv * shape.dim;
    let after = shape.dim * shape.dim + 3 * shape.dim * shape.ffn;
    let keys: usize = (0..n_rows).map(|row| 8 + row + 1).sum();
    let linear = 2 * before * n_rows + after * (n_rows + n_wanted);
    (2 * linear + 2 * 4 * shape.dim * keys) as f64
}

/// What a viewer needs: complete events on named tracks, and each step once in each batch.
fn check_trace(at: &Path, found: &Value) {
    let text = std::fs::read_to_string(at.join("trace.json")).expect("written");
    let trace = json(&text);
    let events = rows(&trace["traceEvents"]);
    let names = |key: &str| -> Vec<&str> {
        let named = events.iter().filter(|event| event["ph"] == "M" && event["name"] == key);
        named.map(|event| event["args"]["name"].as_str().expect("a name")).collect()
    };
    assert_eq!(names("process_name"), ["pp32 @ d8", "tg4 @ d8"]);
    assert_eq!(names("thread_name"), ["steps", "worker 0", "worker 1"].repeat(2));
    for (run, n_batches) in [(1, 1), (2, 4)] {
        let of_run = |event: &&Value| event["ph"] == "X" && event["pid"] == run;
        let steps = events.iter().filter(of_run).filter(|event| event["tid"] == 0);
        let n_steps = rows(&found["tests"][run - 1]["profile"]["steps"]).len();
        assert_eq!(steps.count(), n_steps * n_batches, "run {run}");
        for event in events.iter().filter(of_run) {
            assert!(number(&event["ts"]) >= 0.0 && number(&event["dur"]) >= 0.0, "{event}");
            let has_amounts = event["args"]["bytes"].is_number();
            assert_eq!(has_amounts, event["tid"] == 0, "{event}");
        }
        let workers = events.iter().filter(of_run).filter(|event| event["tid"] != 0);
        assert!(workers.count() > 0, "workers have tracks of their own");
    }
}

fn metric<'r>(report: &'r Value, name: &str) -> &'r Value {
    let metric = rows(&report["metrics"]).iter().find(|metric| metric["name"] == name);
    metric.unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

// proves A21 (its measurement): two processes map one prepared file, and the second adds little.
#[test]
fn a_second_process_shares_the_weights() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    let shape = tiny::Shape { layers: 6, dim: 512, ffn: 1536, ..tiny::WIDE };
    tiny::write(at, "model.gguf", &shape);
    let args = ["bench", "start", "model.gguf", "-r", "1", "-t", "1", "-c", "64", "--json"];
    let shared = json(&ok(at, &args));
    assert_eq!(shared["is_shared"], true, "{shared:#}");
    assert!(!at.join("cache/sterna/programs").exists(), "the user's cache is left alone");
    let apart = json(&ok(at, &[&args[..], &["--no-cache"]].concat()));
    assert_eq!(apart["is_shared"], false, "{apart:#}");
    let added = |report: &Value| {
        let metric = metric(report, "second_process_percent");
        metric["value"].as_f64().ok_or_else(|| metric["reason"].clone())
    };
    match (added(&shared), added(&apart)) {
        (Ok(shared), Ok(apart)) => {
            // The process itself takes some megabytes of these 75.
            assert!(shared < 40.0 && apart > 80.0, "{shared}% shared, {apart}% apart");
        }
        (Err(why), _) | (_, Err(why)) => println!("skipped: {why}"),
    }
    for report in [&shared, &apart] {
        let value = |name: &str| number(&metric(report, name)["value"]);
        for name in ["read_file_ms", "cold_first_token_ms", "prefill_ms"] {
            assert!(value(name) > 0.0, "{report:#}");
        }
        let beyond = value("warm_first_token_ms") - value("prefill_ms");
        assert!((value("warm_beyond_prefill_ms") - beyond).abs() < 1e-6);
        let targets: Vec<&Value> = rows(&report["targets"]).iter().map(|t| &t["name"]).collect();
        let wanted = ["cold_first_token_ms", "warm_beyond_prefill_ms", "second_process_percent"];
        assert_eq!(targets, wanted);
    }
}
