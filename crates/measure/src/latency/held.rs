//! A benchmark held against a ceiling that was probed just before each of its runs.
//!
//! In: rates of runs and of their neighbouring probes. Out: the median of their shares, with every
//! sample. A share of another minute's ceiling would say how the machine drifts, not how good the
//! program is.

use crate::{MeasureError, Samples, Unit};
use serde::{Deserialize, Serialize};

/// A ceiling and its probes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbedCeiling {
    /// Which: `memory_read`, `int8_peak`, `f32_peak`.
    pub name: String,
    /// What is counted: bytes or operations, per second.
    pub unit: Unit,
    /// The median of the probes.
    pub per_second: f64,
    /// Each probe, in the order of the runs that they preceded.
    pub samples: Vec<f64>,
    /// What a token takes of it, in bytes or operations.
    pub work_per_token: f64,
}

impl ProbedCeiling {
    /// The ceiling for people: `31.7 GB/s read`.
    pub fn text(&self) -> String {
        let unit = if self.unit == Unit::BytesPerSecond { "GB/s" } else { "GOP/s" };
        let what = match self.name.as_str() {
            "memory_read" => "read",
            name => name.trim_end_matches("_peak"),
        };
        format!("{:.1} {unit} {what}", self.per_second / 1e9)
    }
}

/// Runs held against a ceiling.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// The ceiling.
    pub ceiling: ProbedCeiling,
    /// The median of the shares.
    pub share: f64,
    /// Each run's share of its own neighbour.
    pub share_samples: Vec<f64>,
}

impl Held {
    /// Runs of `rates` tokens per second, each beside its probe.
    ///
    /// # Errors
    /// If runs and probes are not pairs, or a probe is not positive.
    pub fn new(
        name: &str,
        unit: Unit,
        work_per_token: f64,
        rates: &[f64],
        probes: Vec<f64>,
    ) -> Result<Self, MeasureError> {
        if rates.len() != probes.len() {
            let (runs, probes) = (rates.len(), probes.len());
            let why = format!("{name}: {runs} runs and {probes} probes are not pairs");
            return Err(MeasureError::Data(why));
        }
        let shares = rates.iter().zip(&probes).map(|(rate, probe)| rate * work_per_token / probe);
        let shares = Samples::new("share", shares.collect())?;
        let probes = Samples::new(name, probes)?;
        let ceiling = ProbedCeiling {
            name: name.into(),
            unit,
            per_second: probes.median(),
            samples: probes.raw().to_vec(),
            work_per_token,
        };
        Ok(Self { ceiling, share: shares.median(), share_samples: shares.raw().to_vec() })
    }
}

/// Of several ceilings the one that the runs come nearest to: it is what bounds them.
pub fn nearest(held: Vec<Held>) -> Option<Held> {
    held.into_iter().max_by(|a, b| a.share.total_cmp(&b.share))
}
