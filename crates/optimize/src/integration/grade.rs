//! A grade from measured targets only (K-16): the share that was met of those that were measured.

use serde::Serialize;
use sterna_measure::report::{Status, Target};

/// The grade.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Grade {
    /// In a word.
    pub grade: &'static str,
    /// Targets met over targets evaluated; `None` where none was.
    pub success_rate: Option<f64>,
    /// Targets met.
    pub targets_achieved: usize,
    /// Targets that a measurement stands beside.
    pub targets_evaluated: usize,
    /// Targets in all.
    pub total_targets: usize,
    /// Those without a measurement, which count neither way.
    pub not_evaluated: Vec<String>,
}

/// From which share on which word.
const WORDS: [(f64, &str); 5] = [
    (0.9, "EXCELLENT"),
    (0.8, "VERY_GOOD"),
    (0.7, "GOOD"),
    (0.6, "SATISFACTORY"),
    (0.5, "NEEDS_IMPROVEMENT"),
];

/// The same for improvements, as fractions.
const IMPROVEMENT_WORDS: [(f64, &str); 4] =
    [(0.5, "EXCELLENT"), (0.3, "VERY_GOOD"), (0.15, "GOOD"), (0.05, "MODERATE")];

impl Grade {
    /// The grade of some targets.
    pub fn of(targets: &[Target]) -> Self {
        let n = |status| targets.iter().filter(|target| target.status() == status).count();
        let (met, missed) = (n(Status::Met), n(Status::Missed));
        let evaluated = met + missed;
        let rate = (evaluated > 0).then(|| met as f64 / evaluated as f64);
        let open = targets.iter().filter(|target| target.status() == Status::NotEvaluated);
        Self {
            grade: rate.map_or("NOT_EVALUATED", |rate| word(rate, &WORDS, "POOR")),
            success_rate: rate,
            targets_achieved: met,
            targets_evaluated: evaluated,
            total_targets: targets.len(),
            not_evaluated: open.map(|target| target.name().to_owned()).collect(),
        }
    }
}

/// The word for an improvement, as a fraction.
pub fn improvement(fraction: f64) -> &'static str {
    word(fraction, &IMPROVEMENT_WORDS, "MINIMAL")
}

fn word(value: f64, words: &[(f64, &'static str)], least: &'static str) -> &'static str {
    words.iter().find(|(from, _)| value >= *from).map_or(least, |(_, word)| word)
}
