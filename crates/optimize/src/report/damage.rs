//! The damage that an unchanged score hides: answers that changed, confidence that no longer means
//! what it did (A5).
//!
//! In: a report's metrics. Out: warnings in words, for the page and the terminal.

use sterna_measure::{Figure, RunReport};

/// What warnings are made of; an artifact's own evidence always has it.
pub const METRICS: [&str; 7] = [
    "top1_agreement",
    "baseline_accuracy",
    "artifact_accuracy",
    "baseline_ece",
    "artifact_ece",
    "baseline_brier",
    "artifact_brier",
];

/// How the shares of changed answers to tasks are named.
pub const FLIPS: &str = "_answers_changed";
/// More answers than this changed: the model is another one, whatever its accuracy.
pub const MAX_FLIPS: f64 = 0.05;
/// Calibration error may rise by so much.
pub const MAX_ECE_RISE: f64 = 0.01;
/// The Brier score may rise by so much.
pub const MAX_BRIER_RISE: f64 = 0.01;

/// What a user should know before trusting the artifact; empty where nothing stands out.
pub fn warnings(run: &RunReport) -> Vec<String> {
    let value = |name: &str| run.metric(name).and_then(Figure::value);
    let rise = |name: &str| {
        let before = value(&format!("baseline_{name}"))?;
        Some((before, value(&format!("artifact_{name}"))?))
    };
    let mut warnings = Vec::new();
    if let Some(flips) = value("top1_agreement").map(|same| 1.0 - same)
        && flips > MAX_FLIPS
    {
        let accuracy = rise("accuracy").map_or(String::new(), |(before, after)| {
            format!(
                ", though accuracy went only from {:.1}% to {:.1}%",
                before * 100.0,
                after * 100.0
            )
        });
        warnings.push(format!(
            "{:.1}% of answers changed{accuracy}; up to {:.0}% pass without a warning",
            flips * 100.0,
            MAX_FLIPS * 100.0
        ));
    }
    for figure in run.metrics.iter().filter(|figure| figure.name().ends_with(FLIPS)) {
        if let Some(flips) = figure.value().filter(|flips| *flips > MAX_FLIPS) {
            let task = figure.name().trim_end_matches(FLIPS);
            warnings.push(format!("{:.1}% of answers to task {task} changed", flips * 100.0));
        }
    }
    for (name, what, most) in
        [("ece", "calibration error", MAX_ECE_RISE), ("brier", "Brier score", MAX_BRIER_RISE)]
    {
        if let Some((before, after)) = rise(name)
            && after - before > most
        {
            warnings.push(format!("the {what} rose from {before:.4} to {after:.4}"));
        }
    }
    warnings
}
