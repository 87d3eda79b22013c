//! What a loaded model takes of memory: planned before it is built, and measured in a process of
//! its own, where nothing that was freed before hides what it takes.
//!
//! In: a [`Footprint`], which knows how to plan and to measure. Out: [`Memory`], which every figure
//! about memory follows from.

use crate::engine::Engine;
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;
use sterna_measure::{Figure, MeasureError, Unit};
use sterna_model::{Graph, Plan, WeightSource};

/// Plans and measures memory.
pub trait Footprint: Send + Sync {
    /// What a model does while it is measured, for people.
    fn workload(&self) -> String;
    /// Bytes that the runtime plans for a model that does it.
    ///
    /// # Errors
    /// When it cannot be run here.
    fn planned(&self, graph: &Graph, weights: &dyn WeightSource, how: &RunAs) -> Result<u64>;
    /// Bytes of its own, no file's, by which a fresh process grows when it loads a model's file and
    /// does it.
    ///
    /// # Errors
    /// Why that could not be measured, as a sentence.
    fn measured(&self, model: &Path, how: &RunAs) -> std::result::Result<u64, String>;
}

/// How a model is run, where a Plan decides it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunAs {
    /// How keys and values are kept, as Plans name it.
    pub kv: String,
    /// Optimizations of the runtime that are off.
    pub off: Vec<String>,
}

impl RunAs {
    /// As an engine runs models.
    pub fn by(engine: &dyn Engine) -> Self {
        Self { kv: engine.kv(), off: Vec::new() }
    }

    /// As a Plan has its artifact run.
    pub fn of(plan: &Plan) -> Self {
        Self { kv: plan.kv.clone(), off: plan.off.clone() }
    }
}

/// Bytes that a model takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// Before it was run.
    pub planned: u64,
    /// When it was, or why not.
    pub measured: std::result::Result<u64, String>,
}

/// What the artifact and its baseline take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// What they did.
    pub workload: String,
    /// The baseline.
    pub baseline: Taken,
    /// The artifact.
    pub artifact: Taken,
}

impl Taken {
    /// Bytes besides what the runtime plans: vocabulary, metadata, what the allocator keeps.
    /// Negative where not all that is planned is touched.
    pub fn unplanned(&self) -> Option<i64> {
        let measured = i64::try_from(*self.measured.as_ref().ok()?).ok()?;
        measured.checked_sub_unsigned(self.planned)
    }

    /// What a model takes that is planned with so many bytes, by what this one takes.
    pub fn predict(&self, planned: u64) -> Option<u64> {
        Some(planned.saturating_add_signed(self.unplanned()?))
    }
}

/// The names of the figures about memory.
pub const METRICS: [&str; 4] = [
    "artifact_memory_bytes",
    "baseline_memory_bytes",
    "predicted_memory_bytes",
    "memory_prediction_error_percent",
];

/// Why there are no figures.
const NOBODY: &str = "nobody was asked to measure memory";

/// Everything about memory.
///
/// # Errors
/// When a number is impossible.
pub fn figures(memory: Option<&Memory>) -> std::result::Result<Vec<Figure>, MeasureError> {
    let [artifact, baseline, predicted, error] = METRICS;
    let method = format!(
        "growth of a fresh process's own memory (Pss_Anon: pages of no file, so that the program's \
         code is left out) when it loads the model and {}",
        memory.map_or("runs it", |memory| &memory.workload)
    );
    let read = |name, taken: fn(&Memory) -> &Taken| match memory.map(taken).map(|t| &t.measured) {
        Some(Ok(bytes)) => Figure::read(name, Unit::Bytes, &method, *bytes as f64),
        Some(Err(why)) => Figure::unavailable(name, Unit::Bytes, &method, why),
        None => Figure::unavailable(name, Unit::Bytes, &method, NOBODY),
    };
    let mut figures = vec![read(artifact, |m| &m.artifact)?, read(baseline, |m| &m.baseline)?];
    let Some(memory) = memory else { return Ok(figures) };
    let Some(bytes) = memory.baseline.predict(memory.artifact.planned) else { return Ok(figures) };
    let method = "what the runtime plans for the artifact, and what the baseline was measured to \
                  take besides its plan; before the artifact was run";
    figures.push(Figure::computed(predicted, Unit::Bytes, method, bytes as f64)?);
    if let Ok(measured) = memory.artifact.measured
        && measured > 0
    {
        let percent = (bytes as f64 / measured as f64 - 1.0) * 100.0;
        let method = format!("{predicted} over {artifact}, less 1");
        figures.push(Figure::computed(error, Unit::Percent, &method, percent)?);
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prediction_follows_from_the_plan_and_from_what_the_baseline_took() {
        let baseline = Taken { planned: 1000, measured: Ok(1300) };
        let artifact = Taken { planned: 400, measured: Ok(680) };
        let memory = Memory { workload: "reads".into(), baseline, artifact };
        let figures = figures(Some(&memory)).unwrap();
        let values: Vec<Option<f64>> = figures.iter().map(Figure::value).collect();
        assert_eq!(values[..3], [Some(680.0), Some(1300.0), Some(700.0)]);
        assert!((values[3].unwrap() - 20.0 / 6.8).abs() < 1e-9);
        let absurd = Taken { planned: 1, measured: Ok(u64::MAX) };
        assert_eq!(absurd.predict(400), None);
        let untouched = Taken { planned: 1000, measured: Ok(700) };
        assert_eq!((untouched.predict(400), untouched.predict(200)), (Some(100), Some(0)));
    }

    #[test]
    fn what_was_not_measured_is_said() {
        let lost = Taken { planned: 1, measured: Err("no /proc".into()) };
        let artifact = Taken { planned: 1, measured: Ok(5) };
        let memory = Memory { workload: "reads".into(), baseline: lost, artifact };
        let figures = figures(Some(&memory)).unwrap();
        assert_eq!(figures.len(), 2, "no prediction without what the baseline takes");
        assert_eq!(figures[1].reason(), Some("no /proc"));
        assert_eq!(super::figures(None).unwrap()[0].reason(), Some(NOBODY));
    }
}
