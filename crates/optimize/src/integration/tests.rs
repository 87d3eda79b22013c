//! The config's table, and every threshold of the grades.

use super::*;
use crate::budget::Budget;
use crate::pipeline::Settings;
use serde_json::json;
use sterna_measure::report::{Bound, Target};
use sterna_measure::{Figure, Unit};

// proves K-1
#[test]
fn profiles_are_those_of_the_table_and_survive_json() {
    let facts = Profile::ALL.map(|profile| {
        let c = profile.config();
        let json = serde_json::to_string(&c).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), c);
        assert_eq!(Profile::Full.config().with(&serde_json::to_value(&c).unwrap()).unwrap(), c);
        let switches = (
            c.enable_neural_architecture_search,
            c.enable_parallel_execution,
            c.enable_quantum_safety,
            c.enable_tensor_core_optimization,
            c.enable_thermodynamic_modeling,
        );
        let numbers = (c.gpu_streams, c.target_accuracy_improvement, c.memory_allocation_gb);
        (profile.name(), switches, numbers, c.mixed_precision)
    });
    let wanted = [
        ("full", (true, true, true, true, true), (16, 0.015, 22.0), true),
        ("conservative", (true, false, true, true, false), (8, 0.010, 16.0), true),
        ("minimal", (false, false, true, true, false), (4, 0.005, 8.0), true),
    ];
    assert_eq!(facts, wanted);
}

#[test]
fn a_wrong_value_is_told_by_its_field() {
    let wrong = |overrides| Config::default().with(&overrides).unwrap_err().to_string();
    assert!(wrong(json!({"gpu_streams": 0})).contains("gpu_streams is 0"));
    assert!(wrong(json!({"gpu_streams": "many"})).contains("gpu_streams is a text"));
    assert!(wrong(json!({"mixed_precision": 1})).contains("mixed_precision is a number"));
    assert!(wrong(json!({"gpu_stream": 4})).contains("did you mean gpu_streams?"));
    assert!(wrong(json!({"tensor_core_utilization": 1.5})).contains("0 to 1"));
    assert!(wrong(json!([1])).contains("no JSON object"));
    assert_eq!(Config::default().with(&json!({"gpu_streams": 4})).unwrap().gpu_streams, 4);
}

#[test]
fn what_is_not_done_as_asked_is_said() {
    let asked = json!({"adversarial_training": false, "log_optimization_steps": false});
    let notes = Profile::Minimal.config().with(&asked).unwrap().not_done().join("\n");
    assert!(notes.contains("enable_quantum_safety: ensembles"), "{notes}");
    assert!(!notes.contains("adversarial_training"), "{notes}");
    assert!(notes.contains("log_optimization_steps is off, and is done in any case"), "{notes}");
}

#[test]
fn a_profile_decides_what_is_searched() {
    let settings = |profile: Profile| {
        let mut settings = Settings::new("m".into(), "o".into(), "t".into(), Budget::default());
        profile.config().apply(&mut settings);
        settings
    };
    let (full, minimal) = (settings(Profile::Full), settings(Profile::Minimal));
    assert_eq!((full.strategy.name(), minimal.strategy.name()), ("anneal", "exact"));
    assert_eq!(full.budget.max_memory, Some(22_000_000_000));
    let names: Vec<&str> = minimal.budget.allow.iter().map(|e| e.name()).collect();
    assert_eq!(names, ["F32", "F16", "BF16", "Q8_0"]);
    assert!(full.budget.allow.len() > 8 && minimal.n_bands == Some(1));
}

/// So many targets met, missed, and without a measurement.
fn targets(met: usize, missed: usize, open: usize) -> Vec<Target> {
    let figure = |name: &str, value| Figure::computed(name, Unit::Ratio, "test", value).unwrap();
    let metrics = [figure("high", 2.0), figure("low", 0.5)];
    let judge = |name: &str| Target::judge(name, Bound::AtLeast, 1.0, Unit::Ratio, &metrics);
    let all = [("high", met), ("low", missed), ("absent", open)];
    all.iter().flat_map(|&(name, n)| (0..n).map(move |_| judge(name).unwrap())).collect()
}

// proves K-16
#[test]
fn grades_come_of_measured_targets_only() {
    let words = (0..=10).map(|met| Grade::of(&targets(met, 10 - met, 3)).grade);
    let wanted = ["POOR"; 5].into_iter().chain([
        "NEEDS_IMPROVEMENT",
        "SATISFACTORY",
        "GOOD",
        "VERY_GOOD",
        "EXCELLENT",
        "EXCELLENT",
    ]);
    assert!(words.eq(wanted));
    let grade = Grade::of(&targets(1, 1, 2));
    assert_eq!((grade.targets_evaluated, grade.total_targets), (2, 4));
    assert_eq!(grade.not_evaluated, ["absent", "absent"]);
    assert_eq!(grade.success_rate, Some(0.5));
    let none = Grade::of(&targets(0, 0, 2));
    assert_eq!((none.grade, none.success_rate), ("NOT_EVALUATED", None));
    let improvements = [0.5, 0.3, 0.15, 0.05, 0.049, -1.0].map(grade::improvement);
    assert_eq!(improvements, ["EXCELLENT", "VERY_GOOD", "GOOD", "MODERATE", "MINIMAL", "MINIMAL"]);
}
