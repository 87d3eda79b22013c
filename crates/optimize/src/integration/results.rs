//! A run as system 000's result: a projection of `measure`'s schema, with nothing of its own.

use super::config::{Config, Profile};
use super::grade::{self, Grade};
use crate::error::Result;
use crate::report::Report;
use serde::Serialize;
use serde_json::{Value, json};
use sterna_measure::report::{Bound, RunReport, Target};
use sterna_measure::{Figure, Unit};

/// What came of an integration.
#[derive(Debug, Clone, Serialize)]
pub struct Results {
    /// The profile's name.
    pub profile: &'static str,
    /// What was asked for in the end.
    pub config: Config,
    /// Seconds from start to end.
    pub execution_time_seconds: f64,
    /// System 000's fields, each a measured number, or `null` with the reason.
    pub optimization_results: Vec<Field>,
    /// The grade.
    pub summary: Grade,
    /// What improved.
    pub improvement_analysis: Improvement,
    /// Whether the optimization went through to a measured artifact.
    pub integration_success: bool,
    /// When.
    pub timestamp: String,
    /// What was asked for and not done.
    pub notes: Vec<String>,
}

/// A field of the result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Field {
    /// System 000's name.
    pub name: &'static str,
    /// The number.
    pub value: Option<f64>,
    /// How it was measured, or why it was not.
    pub how: String,
}

/// Time saved by the artifact, as fractions of the baseline's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Improvement {
    /// Of reading a prompt.
    pub prefill_improvement: Option<f64>,
    /// Of generating.
    pub decode_improvement: Option<f64>,
    /// The mean of the two.
    pub overall_improvement: Option<f64>,
    /// In a word.
    pub grade: &'static str,
}

/// The rise of the share of right answers, in percentage points.
const IMPROVED: &str = "top1_improvement_percent";
/// What no machine without a GPU has.
const NO_GPU: &str = "no GPU was used";

/// The run with system 000's figures and targets added.
///
/// # Errors
/// When a figure is impossible.
pub fn run(report: &Report, config: &Config, speedup: Figure) -> Result<RunReport> {
    let mut run = report.run.clone();
    let value = |name: &str| report.run.metric(name).and_then(Figure::value);
    let method = "artifact_accuracy less baseline_accuracy, on held-out text";
    let accuracies = value("artifact_accuracy").zip(value("baseline_accuracy"));
    run.metrics.push(match accuracies {
        Some((after, before)) => {
            Figure::computed(IMPROVED, Unit::Percent, method, (after - before) * 100.0)?
        }
        None => Figure::unavailable(IMPROVED, Unit::Percent, method, "it was not measured")?,
    });
    run.metrics.push(speedup);
    let unavailable = [
        ("gpu_utilization_percent", Unit::Percent, "NVML", NO_GPU),
        ("tensor_core_utilization", Unit::Fraction, "share of the device's peak", NO_GPU),
        (
            "ensemble_gain",
            Unit::Ratio,
            "right answers of an ensemble over those of one model",
            "no ensemble was trained",
        ),
    ];
    for (name, unit, method, reason) in unavailable {
        run.metrics.push(Figure::unavailable(name, unit, method, reason)?);
    }
    let wanted = [
        (IMPROVED, config.target_accuracy_improvement * 100.0, Unit::Percent),
        (super::parallel::NAME, config.target_parallel_speedup, Unit::Ratio),
        ("ensemble_gain", config.safety_accuracy_target, Unit::Ratio),
        ("tensor_core_utilization", config.tensor_core_utilization, Unit::Fraction),
        ("gpu_utilization_percent", 85.0, Unit::Percent),
    ];
    for (name, wanted, unit) in wanted {
        run.targets.push(Target::judge(name, Bound::AtLeast, wanted, unit, &run.metrics)?);
    }
    Ok(run)
}

impl Results {
    /// The projection of a run that [`run`] gave.
    pub fn of(
        profile: Profile,
        config: &Config,
        run: &RunReport,
        n_plans: usize,
        seconds: f64,
    ) -> Self {
        let field = |name, metric: &str, scale: f64| {
            let figure = run.metric(metric);
            let why = "it was not measured in this run";
            Field {
                name,
                value: figure.and_then(Figure::value).map(|value| value * scale),
                how: figure.map_or(why, |f| f.reason().unwrap_or(f.method())).to_owned(),
            }
        };
        let known =
            |name, value, how: &str| Field { name, value: Some(value), how: how.to_owned() };
        let absent = |name, how: &str| Field { name, value: None, how: how.to_owned() };
        let saved = |name: &str| run.metric(name).and_then(Figure::value).map(|ratio| 1.0 - ratio);
        let (prefill, decode) = (saved("prefill_time_ratio"), saved("decode_time_ratio"));
        let overall = prefill.zip(decode).map(|(a, b)| (a + b) / 2.0);
        Self {
            profile: profile.name(),
            config: config.clone(),
            execution_time_seconds: seconds,
            optimization_results: vec![
                field("accuracy_improvement", IMPROVED, 0.01),
                field("parallel_speedup", super::parallel::NAME, 1.0),
                field("safety_accuracy", "ensemble_gain", 1.0),
                known("execution_time_seconds", seconds, "wall clock"),
                field("gpu_utilization_percent", "gpu_utilization_percent", 1.0),
                field("tensor_core_utilization", "tensor_core_utilization", 1.0),
                absent("memory_efficiency", "memory is planned before the run: there is no pool"),
                known("nas_iterations", n_plans as f64, "whole plans that were measured"),
                absent("quantum_safety_score", "no ensemble was trained"),
                absent("thermodynamic_efficiency", "no energy counter is read in this run"),
                absent("cognitive_pattern_preservation", "no cognitive fields in this run"),
            ],
            summary: Grade::of(&run.targets),
            improvement_analysis: Improvement {
                prefill_improvement: prefill,
                decode_improvement: decode,
                overall_improvement: overall,
                grade: overall.map_or("NOT_EVALUATED", grade::improvement),
            },
            integration_success: true,
            timestamp: run.timestamp.clone(),
            notes: config.not_done(),
        }
    }

    /// The run's JSON with this under `integration`.
    ///
    /// # Errors
    /// When two metrics share a name.
    pub fn to_json(&self, run: &RunReport) -> Result<Value> {
        let mut all: Value = serde_json::from_str(&run.to_json()?).expect("own JSON");
        let fields = all.as_object_mut().expect("a struct");
        fields.insert("integration".into(), json!(self));
        Ok(all)
    }

    /// The page of text.
    pub fn text(&self, run: &RunReport) -> String {
        let Grade { grade, targets_achieved, targets_evaluated, total_targets, .. } = &self.summary;
        let mut text = format!(
            "profile  {}\ngrade    {grade}: {targets_achieved} of {targets_evaluated} targets that \
             were measured are met, of {total_targets} in all\n",
            self.profile
        );
        for target in &run.targets {
            text += &format!("         {}\n", crate::report::target_line(target));
        }
        text += "\n";
        for Field { name, value, how } in &self.optimization_results {
            let value = value.map_or("-".into(), sterna_measure::figure::short);
            text += &format!("{name:<32} {value:>10}  {how}\n");
        }
        let improved = &self.improvement_analysis;
        if let Some(overall) = improved.overall_improvement {
            let percent = sterna_measure::figure::short(overall * 100.0);
            text += &format!(
                "\ntime saved {percent}% in the mean of prompt and generation: {}\n",
                improved.grade
            );
        }
        for note in &self.notes {
            text += &format!("note: {note}\n");
        }
        text
    }
}
