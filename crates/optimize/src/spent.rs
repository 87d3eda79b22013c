//! What an optimization itself took of time and memory: of the run that made an artifact, from
//! opening its source until it was proven.
//!
//! In: a clock and the moment when the run began. Out: [`Spent`], which two figures follow from.

use serde::{Deserialize, Serialize};
use std::time::Duration;
use sterna_measure::memory::{Process, peak_rss};
use sterna_measure::{Clock, Figure, MeasureError, Unit};

/// What was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    /// Seconds.
    pub seconds: f64,
    /// Bytes that the process had resident at most, or why that is not known.
    pub peak_bytes: Result<u64, String>,
}

/// The names of the figures.
pub const METRICS: [&str; 2] = ["optimize_s", "optimize_peak_rss_bytes"];

impl Spent {
    /// What this process has taken since a moment of a clock.
    pub fn since(begun: Duration, clock: &dyn Clock) -> Self {
        let peak = peak_rss(Process::Own).map_err(|error| error.to_string());
        let bytes = |figure: Figure| match figure.value() {
            Some(bytes) => Ok(bytes as u64),
            None => Err(figure.reason().unwrap_or("it was not read").to_owned()),
        };
        let seconds = (clock.now() - begun).as_secs_f64();
        Self { seconds, peak_bytes: peak.and_then(bytes) }
    }

    /// As figures.
    ///
    /// # Errors
    /// When a number is impossible.
    pub fn figures(&self) -> Result<Vec<Figure>, MeasureError> {
        let [seconds, peak] = METRICS;
        let method = "from opening the source until the artifact was proven; of a resumed run only \
                      what it did itself";
        let taken = Figure::read(seconds, Unit::Seconds, method, self.seconds)?;
        let method = "VmHWM of the process: what it had resident at most, pages of the files that \
                      it mapped included";
        let peak = match &self.peak_bytes {
            Ok(bytes) => Figure::read(peak, Unit::Bytes, method, *bytes as f64)?,
            Err(why) => Figure::unavailable(peak, Unit::Bytes, method, why)?,
        };
        Ok(vec![taken, peak])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_what_was_taken_or_say_why_there_is_none() {
        let values = |spent: &Spent| -> Vec<Option<f64>> {
            spent.figures().unwrap().iter().map(Figure::value).collect()
        };
        let spent = Spent { seconds: 2.5, peak_bytes: Ok(7) };
        assert_eq!(values(&spent), [Some(2.5), Some(7.0)]);
        let unknown = Spent { peak_bytes: Err("no /proc here".into()), ..spent };
        assert_eq!(values(&unknown), [Some(2.5), None]);
        assert!(Spent { seconds: f64::NAN, ..unknown }.figures().is_err());
    }
}
