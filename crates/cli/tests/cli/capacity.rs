//! `sterna capacity` as a user meets it: measured once, asked often, refused with a sentence.

use crate::{ok, refused, sterna};
use serde_json::Value;
use std::path::Path;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/austen-4m.gguf");

/// Eight sequences at once and ten that may wait, so that 18 agents are the most whatever the
/// machine.
const FEW: [&str; 20] = [
    "capacity",
    MODEL,
    "--ctx-size",
    "128",
    "--threads",
    "2",
    "--parallel",
    "8",
    "--max-queue",
    "10",
    "--prefix-tokens",
    "32",
    "--own-tokens",
    "8",
    "--gen-tokens",
    "4",
    "--time-budget",
    "1s",
    "--share",
    "1",
];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&FEW[..], more].concat()
}

fn figure<'v>(figures: &'v Value, name: &str) -> &'v Value {
    let found = figures.as_array().unwrap().iter().find(|figure| figure["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {figures}"))
}

fn json(folder: &Path, more: &[&str]) -> Value {
    serde_json::from_str(&ok(folder, &[&with(more)[..], &["--json"]].concat())).unwrap()
}

// proves A22
#[test]
fn capacity_is_measured_once_and_answered_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let asked = ["--agents", "6", "--slo", "ttft=1h,itl=1h"];
    let first = json(folder.path(), &asked);
    assert_eq!((&first["is_met"], &first["calibration"]["is_new"]), (&true.into(), &true.into()));
    let most = &first["most_agents"];
    assert_eq!((&most["value"], &most["source"]), (&18.0.into(), &"computed".into()), "{most}");
    assert!(first["bottleneck"].as_str().unwrap().contains("--max-queue"), "{first}");
    let roles: Vec<&Value> =
        first["predictions"].as_array().unwrap().iter().map(|p| &p["role"]).collect();
    assert_eq!(roles, ["asked for", "the most", "too many"]);
    for prediction in first["predictions"].as_array().unwrap() {
        let figures = &prediction["figures"];
        for name in ["ttft_p50_seconds", "tokens_per_second", "utilisation", "kv_pages_peak"] {
            let figure = figure(figures, name);
            assert_eq!(figure["source"], "computed");
            assert!(figure["value"].as_f64().unwrap() > 0.0, "{figure}");
            assert!(figure["method"].as_str().unwrap().contains("shapes held out"), "{figure}");
        }
        assert_eq!(figure(figures, "ttft_p99_seconds")["source"], "unavailable");
    }
    for measured in first["calibration"]["measured"].as_array().unwrap() {
        assert_eq!(measured["source"], "measured");
        assert!(measured["n"].as_u64().unwrap() >= 3 && !measured["stddev"].is_null());
    }
    let again = json(folder.path(), &asked);
    assert_eq!(again["calibration"]["is_new"], false);
    assert_eq!(again["predictions"], first["predictions"], "the same question, the same answer");

    let file = first["calibration"]["file"].as_str().unwrap();
    let kept = folder.path().join("kept.json");
    std::fs::rename(file, &kept).unwrap();
    let given = json(folder.path(), &[&asked[..], &["--calibration", "kept.json"]].concat());
    assert_eq!(given["most_agents"]["value"], 18.0);
    assert!(!Path::new(file).exists(), "a calibration that is given is not measured");
}

#[test]
fn a_no_is_exit_code_1_with_its_bottleneck() {
    let folder = tempfile::tempdir().unwrap();
    let said = |more: &[&str]| {
        let output = sterna(folder.path(), &with(more));
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let no = said(&["--agents", "40", "--slo", "ttft=1h"]);
    assert!(no.contains("40 agents: no, 45% of requests"), "{no}");
    assert!(no.contains("most agents: 18 (computed)"), "{no}");
    let never = said(&["--slo", "ttft=0s,itl=0s"]);
    assert!(never.contains("most agents: none; not even one"), "{never}");
    assert!(never.contains("bottleneck with 1 agent: compute of"), "{never}");
}

#[test]
fn mistakes_are_sentences() {
    let folder = tempfile::tempdir().unwrap();
    for (more, word) in [
        (&["--agents", "4"][..], "--slo"),
        (&["--slo", "ttft=2"], "150ms"),
        (&["--slo", "ttft=2s", "--agents", "0"], "--agents 0"),
        (&["--slo", "ttft=2s", "--gen-tokens", "100"], "--ctx-size"),
        (&["--slo", "ttft=2s", "--rate", "0"], "per second"),
        (&["--slo", "ttft=2s", "--calibration", "none.json"], "none.json"),
        (&["--slo", "ttft=2s", "--vocab", "99999"], "--vocab"),
        (&["--slo", "ttft=2s", "--duration", "9s"], "--trace"),
    ] {
        // The last of a flag that is given twice is an error of its own.
        let kept: Vec<&str> =
            FEW.chunks(2).filter(|pair| !more.contains(&pair[0])).flatten().copied().collect();
        let said = refused(folder.path(), &[&kept[..], more].concat());
        assert!(said.contains(word), "{more:?} said: {said}");
    }
    let share = ["capacity", MODEL, "--slo", "ttft=2s", "--share", "1.5"];
    assert!(refused(folder.path(), &share).contains("--share 1.5"));
}
