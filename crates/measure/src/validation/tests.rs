//! Verdicts follow from the numbers, and from nothing where there are none.

use super::*;
use crate::compare::{self, Settings};
use crate::quality::{Passages, Scores, Scoring, score, toy::Bigram};
use crate::report::{MachineSummary, WorkloadSummary};
use crate::{Workload, testing::fold};
use expect_test::expect;
use serde_json::json;

/// A side of so many bytes, added and as a file.
fn side(bytes: f64, token_ms: f64) -> Side {
    let memory = Memory { before: 4e6, loaded: 4e6 + bytes, worked: 6e6 + bytes };
    Side {
        file_bytes: bytes as u64,
        memory: Ok(vec![memory; 3]),
        token_ms: vec![token_ms; 40],
        scores: None,
    }
}

fn speed(name: &str, cost: f64) -> Speed {
    let settings = Settings { min_rounds: 6, max_rounds: 6, ..Settings::default() };
    let comparison = compare::compare(&mut || Ok(cost), &mut || Ok(1.0), &settings);
    let runs = Runs::Compared(comparison.expect("constant costs"));
    Speed { name: name.into(), work: "8 tokens".into(), n_tokens: 8, runs }
}

/// Scores on the same passages as every other call's; a flawed model is three times too sure.
fn scores(is_flawed: bool) -> Option<Scores> {
    let mut model = Bigram::new(16);
    if is_flawed {
        model.table.iter_mut().flatten().for_each(|logit| *logit *= 3.0);
    }
    let documents = (0..8).map(|d| (0..12).map(|i| (d * 5 + i * 3) % 16).collect()).collect();
    let workload = Workload::new("held out", documents, 96).expect("tokens");
    let passages = Passages::new(&workload, Scoring::Documents { bos: None, n_unscored: 0 });
    Some(score(&mut model, &passages.expect("tokens to score")).expect("a toy model"))
}

fn run() -> RunReport {
    let machine = MachineSummary {
        id: "m".into(),
        cpu: "a CPU".into(),
        cores: 2,
        threads: 2,
        isa: "avx2".into(),
        ram_bytes: 8,
        gpu: None,
    };
    let workload =
        WorkloadSummary { name: "w".into(), hash: "h".into(), sizes: Default::default() };
    RunReport {
        run_id: "r".into(),
        timestamp: "2026-11-21T12:00:00Z".into(),
        machine,
        build: "b".into(),
        seed: 0,
        workload,
        metrics: vec![],
        targets: vec![],
        artefacts: vec![],
    }
}

fn validation(evidence: &Evidence) -> Validation {
    let names = ("t.gguf".to_owned(), evidence.baseline.as_ref().map(|_| "f.gguf".to_owned()));
    Validation::new(run(), Level::Balanced, names, evidence, vec!["a <note>".into()], vec![])
        .expect("possible values")
}

/// Nine times smaller and so many times faster.
fn evidence(speedup: f64, is_flawed: bool, token_ms: f64) -> Evidence {
    let (mut bitnet, mut baseline) = (side(1e6, token_ms), side(9e6, 9.0));
    bitnet.scores = scores(is_flawed);
    baseline.scores = scores(false);
    let speeds = vec![speed("decode_b1", speedup), speed("prefill_b32", 1.5)];
    Evidence { bitnet, baseline: Some(baseline), speeds }
}

fn statuses(validation: &Validation) -> Vec<(&'static str, Status)> {
    validation.checks().map(|(check, target)| (check.name, target.status())).collect()
}

// proves B-18 (the verdict): real time is a p95, and alone makes nothing ready.
#[test]
fn production_needs_every_critical_target_and_one_other() {
    let ready = |evidence| validation(&evidence).production_ready();
    assert!(ready(evidence(5.0, false, 60.0)), "4x in place of real time");
    assert!(ready(evidence(3.0, false, 40.0)), "real time in place of 4x");
    assert!(!ready(evidence(3.0, false, 60.0)), "neither");
    assert!(!ready(evidence(1.9, false, 40.0)), "too slow");
    assert!(!ready(evidence(5.0, true, 40.0)), "too lossy");
    let mut large = evidence(5.0, false, 40.0);
    large.bitnet.memory = Ok(vec![Memory { before: 4e6, loaded: 6e6, worked: 6e6 }; 3]);
    assert!(!ready(large), "a small file that is large in memory");
    let mut few = evidence(3.0, false, 40.0);
    few.bitnet.token_ms.truncate(19);
    let few = validation(&few);
    assert!(!few.production_ready() && few.status() == "CONDITIONAL");
    assert!(few.to_markdown().contains("19 tokens were timed, too few"));
    let mut strangers = validation(&evidence(5.0, false, 40.0));
    strangers.unfit.push("they are not twins".into());
    assert!(!strangers.production_ready() && strangers.status() == "CONDITIONAL");
    assert!(strangers.to_markdown().contains("- they are not twins"));
}

// proves B-16: a model that is its own baseline gains nothing, and is told so.
#[test]
fn an_identical_baseline_gives_one_and_is_not_ready() {
    let mut same = evidence(1.0, false, 9.0);
    same.bitnet = same.baseline.clone().expect("there is one");
    let same = validation(&same);
    for metric in ["file_reduction", "memory_reduction", "decode_b1_speedup"] {
        assert_eq!(same.value(metric), Some(1.0), "{metric}");
    }
    assert_eq!(same.value("loss_degradation_percent"), Some(0.0));
    assert!(!same.production_ready() && same.status() == "FAIL");
}

// proves B-16: without a measured baseline nothing is evaluated, which is no pass.
#[test]
fn without_a_baseline_comparisons_are_not_evaluated() {
    let mut alone = evidence(5.0, false, 9.0);
    alone.baseline = None;
    alone.speeds[0].runs = Runs::Alone(vec![1.0; 6]);
    alone.speeds[1].runs = Runs::Alone(vec![1.0; 6]);
    let alone = validation(&alone);
    let wanted = [Status::NotEvaluated; 5].into_iter().chain([Status::Met]);
    assert!(statuses(&alone).iter().map(|(_, status)| *status).eq(wanted));
    assert!(!alone.production_ready() && alone.status() == "CONDITIONAL");
    assert!(alone.run.metrics.iter().all(|metric| !metric.name().starts_with("baseline")));
    let json: serde_json::Value = serde_json::from_str(&alone.to_json().unwrap()).unwrap();
    assert_eq!(json["executive_summary"]["key_metrics"]["memory_reduction"], json!(null));
    assert_eq!(json["targets_achieved"]["memory_8x_reduction"], json!("not_evaluated"));
    let unknown = Evidence {
        bitnet: Side { memory: Err("no /proc".into()), ..side(1e6, 9.0) },
        ..evidence(5.0, false, 9.0)
    };
    assert!(validation(&unknown).to_csv().contains("memory_reduction,,at least 8,not evaluated"));
}

// proves B-15: the columns, and targets that come from measurement.
#[test]
fn the_csv_has_a_row_per_metric_and_target() {
    expect![[r#"
        Metric,Value,Target,Achieved
        bitnet_file_bytes,1000000,,
        baseline_file_bytes,9000000,,
        file_reduction,9,at least 8,met
        bitnet_pss_added_bytes,1000000,,
        baseline_pss_added_bytes,9000000,,
        memory_reduction,9,at least 8,met
        bitnet_process_pss_bytes,7000000,,
        baseline_process_pss_bytes,15000000,,
        process_memory_reduction,2.142857142857143,,
        bitnet_decode_b1_tokens_per_s,8,,
        baseline_decode_b1_tokens_per_s,2.6666666666666665,,
        decode_b1_speedup,2.9999999999999996,,
        bitnet_prefill_b32_tokens_per_s,8,,
        baseline_prefill_b32_tokens_per_s,5.333333333333333,,
        prefill_b32_speedup,1.5,,
        bitnet_token_ms,60,,
        p95_latency_b1_ms,60,at most 50,missed
        baseline_token_ms,9,,
        bitnet_nll,3.63222951137439,,
        baseline_nll,3.63222951137439,,
        loss_degradation_percent,0,,
        decode_b1_speedup_low,2.9999999999999996,at least 2,met
        decode_b1_speedup_low,2.9999999999999996,at least 4,missed
        loss_degradation_percent_high,0,at most 10,met
    "#]]
    .assert_eq(&validation(&evidence(3.0, false, 60.0)).to_csv());
}

#[test]
fn the_summary_speaks_the_suites_words() {
    let json = validation(&evidence(3.0, true, 40.0)).to_json().unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let run = json.as_object_mut().unwrap().shift_remove("run").unwrap();
    assert_eq!(run["grade"], json!("missed"));
    expect![[r#"
        {
          "executive_summary": {
            "model_name": "t.gguf",
            "baseline_name": "f.gguf",
            "validation_level": "balanced",
            "validation_status": "FAIL",
            "targets_achieved": "4/6",
            "achievement_rate_percent": 66.66666666666667,
            "production_ready": false,
            "key_metrics": {
              "memory_reduction": 9.0,
              "model_size_mb": 1.0,
              "speedup_achieved": 2.9999999999999996,
              "inference_time_ms": 40.0,
              "realtime_capable": true
            }
          },
          "targets_achieved": {
            "model_size_8x_reduction": "met",
            "memory_8x_reduction": "met",
            "speed_2x_minimum": "met",
            "accuracy_preservation": "missed",
            "speed_4x_optimal": "missed",
            "realtime_inference": "met"
          },
          "critical_issues": [
            "accuracy_preservation is missed: 99.30%, wanted at most 10.00%"
          ],
          "notes": [
            "a <note>"
          ]
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&json).unwrap());
}

#[test]
fn the_page_shows_what_is_missed() {
    let validation = validation(&evidence(3.0, true, 40.0));
    let page = validation.to_markdown();
    let (top, rest) = page.split_once("## Everything").unwrap();
    expect![[r#"
        # BitNet validation of t.gguf

        FAIL: production ready: no; 4 of 6 targets met  
        Baseline: f.gguf, each model in its own process  
        a CPU, 2 threads, avx2; level balanced; 2026-11-21T12:00:00Z  

        | Target | Wanted | Measured | Status |
        |---|---|---|---|
        | model_size_8x_reduction | at least 8.00x | 9.00x | **met** |
        | memory_8x_reduction | at least 8.00x | 9.00x | **met** |
        | speed_2x_minimum | at least 2.00x | 3.00x | **met** |
        | accuracy_preservation | at most 10.00% | 99.30% | **missed** |
        | speed_4x_optimal | at least 4.00x | 3.00x | **missed** |
        | realtime_inference | at most 50.00 ms | 40.00 ms | **met** |

        ## What is in the way

        - accuracy_preservation is missed: 99.30%, wanted at most 10.00%

        ## To know

        - a <note>
    "#]]
    .assert_eq(&fold(top));
    assert!(validation.run.metrics.iter().all(|metric| rest.contains(metric.name())));
    let html = validation.to_html();
    assert!(html.contains("a &lt;note&gt;") && !html.contains("<note>"), "{html}");
    for text in ["loss_degradation_percent", "<b", "missed", "memory_8x_reduction"] {
        assert!(html.contains(text), "{text}");
    }
}
