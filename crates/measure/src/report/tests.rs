//! The report's JSON, its refusals, and targets that are missed in plain sight.

use super::*;
use crate::{Samples, testing::fold};
use expect_test::expect;

fn report() -> RunReport {
    let times = Samples::new("t", (0..30).map(|i| 100.0 + f64::from(i % 7)).collect()).unwrap();
    let metrics = vec![
        Figure::measured("ttft_ms", Unit::Milliseconds, "30 prompts", &times).unwrap(),
        Figure::read("pss_bytes", Unit::Bytes, "smaps_rollup", 5000.0).unwrap(),
        Figure::unavailable("power", Unit::Watts, "RAPL", "no powercap here").unwrap(),
    ];
    let judge = |name, bound, wanted, unit| Target::judge(name, bound, wanted, unit, &metrics);
    let targets = vec![
        judge("ttft_ms", Bound::AtMost, 200.0, Unit::Milliseconds).unwrap(),
        judge("pss_bytes", Bound::AtMost, 4096.0, Unit::Bytes).unwrap(),
        judge("power", Bound::AtMost, 5.0, Unit::Watts).unwrap(),
    ];
    let machine = MachineSummary {
        id: "abc".into(),
        cpu: "Zen".into(),
        cores: 2,
        threads: 2,
        isa: "avx2".into(),
        ram_bytes: 1 << 30,
        gpu: None,
    };
    let workload = crate::Workload::new("toy", vec![vec![1, 2, 3]], 9).unwrap();
    RunReport {
        run_id: "r1".into(),
        timestamp: "2026-11-21T12:00:00Z".into(),
        machine,
        build: "0.1.0".into(),
        seed: 7,
        workload: WorkloadSummary::from(&workload),
        metrics,
        targets,
        artefacts: vec![],
    }
}

#[test]
fn json_is_the_schema_and_reads_back() {
    let json = report().to_json().unwrap();
    assert_eq!(RunReport::from_json(&json).unwrap(), report());
    let mut short = report();
    short.metrics.truncate(0);
    short.targets.truncate(2);
    expect![[r#"
        {
          "run_id": "r1",
          "timestamp": "2026-11-21T12:00:00Z",
          "machine": {
            "id": "abc",
            "cpu": "Zen",
            "cores": 2,
            "threads": 2,
            "isa": "avx2",
            "ram_bytes": 1073741824,
            "gpu": null
          },
          "build": "0.1.0",
          "seed": 7,
          "workload": {
            "name": "toy",
            "hash": "a76cdd6f069cec17398b5c4f6b11694e43a6ea3422808484cfe09347a7599dc4",
            "sizes": {
              "bytes": 9,
              "documents": 1,
              "tokens": 3
            }
          },
          "metrics": [],
          "targets": [
            {
              "name": "ttft_ms",
              "bound": "at_most",
              "wanted": 200.0,
              "unit": "ms",
              "actual": 103.0,
              "status": "met"
            },
            {
              "name": "pss_bytes",
              "bound": "at_most",
              "wanted": 4096.0,
              "unit": "bytes",
              "actual": 5000.0,
              "status": "missed"
            }
          ],
          "artefacts": [],
          "grade": "missed"
        }
    "#]]
    .assert_eq(&short.to_json().unwrap());
}

#[test]
fn a_miss_is_a_miss_and_no_value_is_no_pass() {
    let mut report = report();
    let lines: Vec<String> = report.targets.iter().map(Target::line).collect();
    expect![[r#"
        met: ttft_ms 103 ms, wanted at most 200 ms
        missed: pss_bytes 5000 bytes, wanted at most 4096 bytes
        not evaluated: power has no value, wanted at most 5 W"#]]
    .assert_eq(&lines.join("\n"));
    assert_eq!(report.grade(), Some(Status::Missed));
    report.targets.remove(1);
    assert_eq!(report.grade(), Some(Status::NotEvaluated));
    report.targets.remove(1);
    assert_eq!(report.grade(), Some(Status::Met));
    report.targets.clear();
    assert_eq!(report.grade(), None);
}

#[test]
fn forged_reports_are_refused() {
    let json = report().to_json().unwrap();
    let forgeries = [
        ("\"status\": \"missed\"", "\"status\": \"met\""),
        ("\"grade\": \"missed\"", "\"grade\": \"met\""),
        ("\"value\": 5000.0", "\"value\": -5000.0"),
        ("\"seed\": 7", "\"seed\": 7, \"magic\": true"),
    ];
    let errors: Vec<String> = forgeries
        .iter()
        .map(|(honest, lie)| RunReport::from_json(&json.replace(honest, lie)).unwrap_err())
        .map(|error| error.to_string())
        .collect();
    expect![[r#"
        report: target pss_bytes claims Met but is Missed
        report: its grade is "met" but its targets give "missed"
        report: pss_bytes: -5000 bytes is impossible (it cannot be negative); the method is
          wrong
        report: unknown field `magic`, expected one of `run_id`, `timestamp`, `machine`,
          `build`, `seed`, `workload`, `metrics`, `targets`, `artefacts`"#]]
    .assert_eq(&fold(&errors.join("\n")));
}

#[test]
fn runs_of_different_circumstances_are_not_compared() {
    // proves S-15
    let before = report();
    let refused = |edit: fn(&mut RunReport)| {
        let mut other = report();
        edit(&mut other);
        before.changes(&other).unwrap_err().to_string()
    };
    let errors = [
        refused(|r| r.machine.id = "def".into()),
        refused(|r| r.machine.threads = 1),
        refused(|r| r.machine.isa = "avx512".into()),
        refused(|r| r.workload.hash = "0".into()),
    ];
    let hash = &before.workload.hash;
    expect![[r#"
        these runs cannot be compared: machine was abc in one and def in the other; measure both
          on one machine, interleaved
        these runs cannot be compared: threads was 2 in one and 1 in the other; measure both on
          one machine, interleaved
        these runs cannot be compared: isa was avx2 in one and avx512 in the other; measure both
          on one machine, interleaved
        these runs cannot be compared: workload was HASH in one and 0 in the other; measure both
          on one machine, interleaved"#]]
    .assert_eq(&fold(&errors.join("\n").replace(hash, "HASH")));
}

#[test]
fn changes_know_what_they_cannot_tell() {
    let before = report();
    let mut after = report();
    let slower = Samples::new("t", (0..30).map(|i| 120.0 + f64::from(i % 7)).collect()).unwrap();
    after.metrics[0] =
        Figure::measured("ttft_ms", Unit::Milliseconds, "30 prompts", &slower).unwrap();
    let changes = before.changes(&after).unwrap();
    assert_eq!(changes.len(), 2, "the unavailable one has nothing to compare");
    assert_eq!(
        (changes[0].after - changes[0].before, changes[0].is_beyond_noise),
        (20.0, Some(true))
    );
    assert_eq!(changes[1].is_beyond_noise, None);
    assert_eq!(before.changes(&before).unwrap()[0].is_beyond_noise, Some(false));
}

#[test]
fn names_and_units_must_fit() {
    let mut twice = report();
    twice.metrics.push(twice.metrics[1].clone());
    assert!(twice.to_json().unwrap_err().to_string().contains("two metrics are called pss_bytes"));
    let metrics = report().metrics;
    let wrong = Target::judge("ttft_ms", Bound::AtMost, 1.0, Unit::Seconds, &metrics);
    expect!["ttft_ms is measured in ms but its target is in s"]
        .assert_eq(&wrong.unwrap_err().to_string());
    assert!(Target::judge("x", Bound::AtMost, f64::NAN, Unit::Seconds, &metrics).is_err());
}

#[test]
fn artefacts_are_hashed_whole() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"abc").unwrap();
    let artefact = Artefact::of(file.path()).unwrap();
    let expected = blake3::hash(b"abc").to_hex().to_string();
    assert_eq!((artefact.bytes, artefact.blake3), (3, expected));
    assert!(Artefact::of(Path::new("/nonexistent")).is_err());
}
