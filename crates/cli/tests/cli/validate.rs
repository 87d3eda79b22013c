//! `sterna validate` through the real binary, with processes of its own.

use crate::{refused, sterna, tiny};
use serde_json::Value;
use std::path::Path;

/// Runs a validation that must end with code 1: measured, and not ready for production.
fn not_ready(at: &Path, args: &[&str]) -> Value {
    let all = [&["validate", "--level", "basic", "--json", "-t", "1"], args].concat();
    let output = sterna(at, &all);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "sterna {all:?} said: {stderr}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn metric(summary: &Value, name: &str) -> Value {
    let metrics = summary["run"]["metrics"].as_array().expect("a list");
    let metric = metrics.iter().find(|metric| metric["name"] == name);
    metric.unwrap_or_else(|| panic!("no {name} in {summary:#}")).clone()
}

fn value(summary: &Value, name: &str) -> f64 {
    let metric = metric(summary, name);
    metric["value"].as_f64().unwrap_or_else(|| panic!("{metric:#}"))
}

// proves B-16: an identical model as its own baseline gains nothing.
// proves B-5: both are measured in processes of their own, files and memory apart.
// proves B-15: interleaved rounds, CSV columns.
#[test]
fn a_model_is_no_better_than_itself() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "model.gguf", &tiny::WIDE);
    std::fs::copy(at.join("model.gguf"), at.join("twin.gguf")).expect("writable");
    std::fs::write(at.join("text.txt"), tiny::text(20)).expect("writable");
    let args = ["--bitnet", "model.gguf", "--baseline", "twin.gguf", "--text", "text.txt"];
    let said = not_ready(at, &args);
    assert_eq!(value(&said, "file_reduction"), 1.0);
    assert_eq!(value(&said, "loss_degradation_percent"), 0.0);
    let within = |name: &str, low: f64, high: f64| {
        let value = value(&said, name);
        assert!((low..high).contains(&value), "{name} {value}");
    };
    within("memory_reduction", 0.8, 1.25);
    within("process_memory_reduction", 0.8, 1.25);
    for name in ["decode_b1", "decode_b32", "prefill_b1", "prefill_b32"] {
        // Whatever else this machine does meanwhile.
        within(&format!("{name}_speedup"), 0.2, 5.0);
        assert!(metric(&said, &format!("{name}_speedup"))["ci95"].is_array());
    }
    // The weights alone are 4.6 MB.
    within("bitnet_pss_added_bytes", 4e6, 2e7);
    within("p95_latency_b1_ms", 0.0, 1e4);
    assert_eq!(said["executive_summary"]["production_ready"], false);
    assert_eq!(said["executive_summary"]["validation_level"], "development");
    assert_eq!(said["targets_achieved"]["speed_2x_minimum"], "missed");

    let read = |ending: &str| {
        let path = at.join("sterna-validation").join(format!("executive_summary.{ending}"));
        std::fs::read_to_string(path).expect("written")
    };
    assert!(read("csv").starts_with("Metric,Value,Target,Achieved\nbitnet_file_bytes,"));
    assert!(read("csv").contains("\nfile_reduction,1,at least 8,missed\n"));
    assert!(read("md").contains("FAIL: production ready: no"));
    assert!(read("md").contains("hardly a BitNet"), "it is told that nothing is ternary");
    assert!(read("html").contains("twin.gguf"));
    let written: Value = serde_json::from_str(&read("json")).expect("JSON");
    assert_eq!(written, said);
}

// proves B-16: no baseline, no comparison, no pass.
// proves B-18: the p95 per token is measured, in real time or not.
#[test]
fn without_a_baseline_nothing_is_compared() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "model.gguf", &tiny::SMALL);
    let said = not_ready(at, &["--bitnet", "model.gguf", "--out", "out"]);
    for (target, status) in said["targets_achieved"].as_object().expect("an object") {
        let wanted = if target == "realtime_inference" { "met" } else { "not_evaluated" };
        assert_eq!(status, wanted, "{target}");
    }
    let speedup = metric(&said, "decode_b1_speedup");
    assert!(speedup["value"].is_null() && speedup["source"] == "unavailable", "{speedup:#}");
    assert!(speedup["reason"].as_str().expect("a reason").contains("--baseline"));
    assert!(metric(&said, "bitnet_nll")["reason"].as_str().expect("why").contains("--text"));
    assert!(value(&said, "bitnet_decode_b1_tokens_per_s") > 0.0);
    assert_eq!(said["executive_summary"]["baseline_name"], Value::Null);
    assert!(at.join("out/executive_summary.html").is_file());
}

// proves B-2 and B-5 in part: what the file loses and the process loses are told apart.
#[test]
fn a_ternary_model_is_compared_with_the_model_it_came_from() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "full.gguf", &tiny::WIDE);
    std::fs::write(at.join("text.txt"), tiny::text(20)).expect("writable");
    crate::ok(at, &["quantize", "full.gguf", "ternary.gguf", "TQ2_0"]);
    let args = ["--bitnet", "ternary.gguf", "--baseline", "full.gguf", "--text", "text.txt"];
    let said = not_ready(at, &args);
    assert!(value(&said, "file_reduction") > 4.0 && value(&said, "memory_reduction") > 2.0);
    assert!(value(&said, "loss_degradation_percent") > 0.0, "rounding to ternary costs");
    assert!(metric(&said, "loss_degradation_percent")["ci95"].is_array());
    let notes = said["notes"].as_array().expect("a list");
    assert!(notes.iter().any(|note| note.as_str().is_some_and(|note| note.contains("TQ2_0"))));
}

#[test]
fn mistakes_get_a_sentence() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "model.gguf", &tiny::SMALL);
    let mut bytes = std::fs::read(at.join("model.gguf")).expect("written");
    let token = "\u{2581}the".as_bytes();
    let place = bytes.windows(token.len()).position(|w| w == token).expect("it has the token");
    bytes[place + token.len() - 1] = b'y';
    std::fs::write(at.join("other.gguf"), bytes).expect("writable");
    std::fs::write(at.join("text.txt"), tiny::text(9)).expect("writable");
    std::fs::write(at.join("empty.txt"), "").expect("writable");
    std::fs::write(at.join("short.txt"), "the cat").expect("writable");
    let model = ["--bitnet", "model.gguf"];
    let cases: &[(&[&str], &str)] = &[
        (&[], "--bitnet"),
        (&["--bitnet", "none.gguf"], "none.gguf"),
        (&[&model[..], &["--baseline", "none.gguf"]].concat(), "none.gguf"),
        (&[&model[..], &["--text", "none.txt", "--level", "basic"]].concat(), "none.txt"),
        (&[&model[..], &["--text", "empty.txt", "--level", "basic"]].concat(), "empty.txt"),
        (&[&model[..], &["--text", "short.txt", "--level", "basic"]].concat(), "too short"),
        (
            &[&model[..], &["--baseline", "other.gguf", "--text", "text.txt"]].concat(),
            "token 262 is \"\u{2581}the\" and the baseline's is \"\u{2581}thy\"",
        ),
        (&[&model[..], &["--out", "model.gguf"]].concat(), "is a file"),
        // proves B-21: other names are errors, never the default.
        (&[&model[..], &["--validation-level", "prod"]].concat(), "did you mean \"production\"?"),
    ];
    for (args, word) in cases {
        let said = refused(at, &[&["validate"], *args].concat());
        assert!(said.contains(word), "{args:?} said: {said}");
    }
}

// proves B-21: every command that takes a level knows every name.
#[test]
fn every_level_name_is_accepted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let validate = ["validate", "--bitnet", "none.gguf", "--validation-level"];
    let optimize = ["optimize", "none.gguf", "--calib", "text.txt", "--max-drop", "1%", "--level"];
    for command in [&validate[..], &optimize] {
        for (name, _) in sterna_measure::level::NAMES {
            let said = refused(folder.path(), &[command, &[name]].concat());
            assert!(said.contains("none.gguf"), "{name}: {said}");
        }
        let said = refused(folder.path(), &[command, &["fastest"]].concat());
        assert!(said.contains("no level") && said.contains("conservative"), "{said}");
    }
}
