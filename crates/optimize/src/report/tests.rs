//! Reports of known numbers: what the files say, and what they refuse.

use super::*;
use expect_test::expect;
use sterna_measure::report::{Bound, MachineSummary, Target, WorkloadSummary};
use sterna_measure::stats::Interval;
use sterna_measure::{Figure, RunReport, Unit};

pub(crate) fn report(drop: f64, n_metrics: usize) -> Report {
    let interval = Some(Interval { low: drop - 0.1, high: drop + 0.1 });
    let mut metrics = vec![
        Figure::estimated("perplexity_drop_percent", Unit::Percent, "paired", drop, 900, interval)
            .unwrap(),
        Figure::computed("size_ratio", Unit::Ratio, "bytes over bytes", 3.9).unwrap(),
        Figure::unavailable("energy", Unit::Joules, "RAPL", "this machine has no meter").unwrap(),
    ];
    for i in 0..n_metrics {
        metrics.push(Figure::read(&format!("m{i}"), Unit::Count, "counted", i as f64).unwrap());
    }
    Report { run: run(metrics), details: details() }
}

fn run(metrics: Vec<Figure>) -> RunReport {
    let name = "perplexity_drop_percent";
    let target = Target::judge(name, Bound::AtMost, 1.0, Unit::Percent, &metrics).unwrap();
    RunReport {
        run_id: "r1".into(),
        timestamp: "2026-11-21T12:00:00Z".into(),
        machine: MachineSummary {
            id: "m1".into(),
            cpu: "a <CPU>".into(),
            cores: 2,
            threads: 2,
            isa: "avx2".into(),
            ram_bytes: 8_000_000_000,
            gpu: None,
        },
        build: "sterna 0.1.0".into(),
        seed: 7,
        workload: WorkloadSummary { name: "w".into(), hash: "h".into(), sizes: Default::default() },
        targets: vec![target],
        metrics,
        artefacts: vec![],
    }
}

fn details() -> Details {
    let point = |label: &str, kind: &str, bytes, kl| Point {
        label: label.into(),
        kind: kind.into(),
        bytes,
        kl,
        drop_percent: kl * 100.0,
        drop_percent_ci95: None,
        n: 900,
    };
    Details {
        model: ModelFacts {
            name: "tiny".into(),
            architecture: "llama".into(),
            n_parameters: 12_345,
            n_layers: 1,
        },
        budget: "perplexity rises at most 1%".into(),
        command: "sterna optimize tiny --max-drop 1%".into(),
        hashes: vec![("plan".into(), "blake3:0".into())],
        tried: vec![point("knapsack", "tried", 900, 0.02)],
        held_out: vec![
            point("baseline", "baseline", 4000, 0.0),
            point("artifact", "chosen", 1000, 0.01),
        ],
        tensors: vec![TensorRow {
            name: "blk.0.ffn_up.weight".into(),
            role: "MLP up".into(),
            layer: Some(0),
            shape: [64, 32],
            from: "F32".into(),
            to: "Q8_0".into(),
            bits: 8.5,
            bytes: 2176,
            why: "mixed".into(),
        }],
        fits: vec![],
        sensitivities: vec![],
        strategies: vec![],
        reliability: ReliabilityBins::default(),
        series: vec![Series {
            name: "itl_ms".into(),
            unit: "ms".into(),
            baseline: vec![1.0, 1.5, 1.2],
            artifact: vec![0.5, 0.6, 0.55],
        }],
        ablations: Vec::new(),
        races: vec![],
        notes: vec!["a <b>remark</b>".into()],
    }
}

#[test]
fn the_page_of_text() {
    expect![[r#"
        tiny  12345 parameters, llama
        budget   perplexity rises at most 1%
        verdict  met: every cap is kept, by measurement on held-out text
                 met: perplexity_drop_percent 0.5000 %, wanted at most 1 %

        perplexity_drop_percent 0.5000 % [0.4000, 0.6000] (measured, n=900)
        size_ratio 3.900 ratio (computed)
        energy unavailable: this machine has no meter

        held-out text            bytes      KL/token    drop %
        baseline                   4000     0.000000     0.000
        artifact                   1000     0.010000     1.000
        note: a <b>remark</b>
    "#]]
    .assert_eq(&text::render(&report(0.5, 0)));
}

#[test]
fn a_missed_budget_is_shown_as_missed() {
    let page = html::render(&report(1.5, 0)).unwrap();
    assert!(page.contains("Budget missed") && page.contains("missed: perplexity_drop_percent 1.5"));
    assert!(html::render(&report(0.5, 0)).unwrap().contains("Budget met"));
}

#[test]
fn the_json_reads_back_and_holds_the_schema() {
    let report = report(0.5, 0);
    let json: Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    let schema = [
        "run_id",
        "timestamp",
        "machine",
        "build",
        "seed",
        "workload",
        "metrics",
        "targets",
        "artefacts",
        "grade",
        "optimize",
    ];
    assert_eq!(keys, schema);
    assert_eq!(Report::from_value(&json).unwrap(), report);
    let mut forged = json.clone();
    forged["targets"][0]["actual"] = 0.1.into();
    forged["grade"] = "missed".into();
    assert!(Report::from_value(&forged).is_err());
    assert!(Report::from_value(&serde_json::json!({"run_id": 1})).is_err());
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let page = html::render(&report(0.5, 3)).unwrap();
    for outside in ["http:", "https:", "src=", "<link", "<script", "@import", "url("] {
        let rest = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!rest.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<svg").count(), 4, "two fronts, the layers, one distribution");
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("currentColor"));
    assert!(page.contains("this machine has no meter") && page.contains("12\u{202f}345"));
    assert!(page.contains("a &lt;b&gt;remark&lt;") && page.contains("a &lt;CPU&gt;"));
}

#[test]
fn evidence_is_short_and_keeps_what_the_budget_is_about() {
    let long = report(0.5, 200);
    let evidence = long.evidence(4000);
    assert_eq!(evidence.len(), 4000, "spaces fill what is left");
    let read = Report::from_value(&serde_json::from_str(&evidence).unwrap()).unwrap();
    assert!(read.run.metric("perplexity_drop_percent").is_some());
    assert_eq!(read.run.targets, long.run.targets);
    // A page can still be made of it, and says where the rest is.
    let page = html::render(&read).unwrap();
    assert!(page.contains("in report.json"));
}

#[test]
fn an_artifacts_evidence_keeps_what_warnings_are_made_of() {
    let mut report = report(0.5, 60);
    for name in damage::METRICS {
        let value = if name.starts_with("artifact") { 0.4 } else { 0.3 };
        report.run.metrics.push(Figure::computed(name, Unit::Fraction, "counted", value).unwrap());
    }
    let before = damage::warnings(&report.run);
    assert_eq!(before.len(), 3, "{before:?}");
    let evidence = serde_json::from_str(&report.evidence(6000)).unwrap();
    let carried = Report::from_value(&evidence).unwrap();
    assert!(carried.run.metrics.len() < report.run.metrics.len());
    assert_eq!(damage::warnings(&carried.run), before);
}

#[test]
fn what_each_technique_brings_is_drawn() {
    let mut report = report(0.5, 0);
    let ablation = |name: &str, percent: f64, is_off| Ablation {
        name: name.into(),
        line: "costs 5.00 ms per run (+126.0%)".into(),
        without_percent: percent,
        without_percent_ci95: Interval { low: percent - 1.0, high: percent + 1.0 },
        is_off,
    };
    report.details.ablations =
        vec![ablation("ultra_fusion", 20.0, false), ablation("sleepy", -56.0, true)];
    let plain = Point { kind: "ablation".into(), kl: 0.02, ..report.details.held_out[1].clone() };
    report.details.held_out.push(plain);
    let page = html::render(&report).unwrap();
    assert!(page.contains("sleepy (off)") && page.contains("-56.0%") && page.contains("+20.0%"));
    assert!(page.contains("fitted to calibration text") && page.contains("off in the Plan"));
    let read = Report::from_value(&report.to_value().unwrap()).unwrap();
    assert_eq!(read, report);
}
