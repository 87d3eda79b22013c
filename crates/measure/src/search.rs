//! A search over knobs that is never slower than where it starts (T-8).
//!
//! In: knobs with candidate values, and what runs a configuration. Out: the best configuration
//! found, one knob after the other, each candidate measured against the best so far, interleaved,
//! and taken only if it is faster beyond noise. At the end the result must win against the start
//! once more, or the start stays.

use crate::compare::{Comparison, Settings, Subject, Verdict, compare};
use crate::{Clock, MeasureError};
use std::time::Duration;

/// A number to choose.
#[derive(Debug, Clone)]
pub struct Knob {
    /// Its name.
    pub name: String,
    /// The value to start from.
    pub default: usize,
    /// The others to try.
    pub candidates: Vec<usize>,
}

/// Something that runs in a configuration.
pub trait Tunable {
    /// Prepares the values of all knobs, in their order; each call of the result is one run and
    /// gives its cost.
    ///
    /// # Errors
    /// Why it cannot run so, as a sentence.
    fn prepare(&self, values: &[usize]) -> Result<Box<Subject<'_>>, String>;
}

/// One candidate that was looked at.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The knob.
    pub knob: String,
    /// Its value.
    pub value: usize,
    /// The best so far against it; `None` where time was up.
    pub comparison: Option<Comparison>,
    /// Whether it was taken.
    pub is_taken: bool,
}

/// What a search found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The chosen values, in the knobs' order.
    pub values: Vec<usize>,
    /// Everything tried.
    pub trials: Vec<Trial>,
    /// The start against the choice; `None` where they are the same, or time was up.
    pub proof: Option<Comparison>,
}

/// Searches until `deadline` on the clock: comparisons that would begin later are left out. The
/// proof at the end is always made.
///
/// # Errors
/// When a run fails.
pub fn search(
    knobs: &[Knob],
    target: &dyn Tunable,
    settings: &Settings,
    clock: &dyn Clock,
    deadline: Duration,
    on_trial: &mut dyn FnMut(&Trial),
) -> Result<Found, MeasureError> {
    let start: Vec<usize> = knobs.iter().map(|knob| knob.default).collect();
    let (mut best, mut trials) = (start.clone(), Vec::new());
    for (k, knob) in knobs.iter().enumerate() {
        let before = best[k];
        for &value in knob.candidates.iter().filter(|&&value| value != before) {
            let mut values = best.clone();
            values[k] = value;
            let comparison = match clock.now() < deadline {
                true => Some(race(target, &best, &values, settings)?),
                false => None,
            };
            let is_taken = comparison.as_ref().is_some_and(|c| c.verdict == Verdict::BFaster);
            if is_taken {
                best = values;
            }
            let trial = Trial { knob: knob.name.clone(), value, comparison, is_taken };
            on_trial(&trial);
            trials.push(trial);
        }
    }
    if best == start {
        return Ok(Found { values: start, trials, proof: None });
    }
    let proof = race(target, &start, &best, settings)?;
    let values = if proof.verdict == Verdict::BFaster { best } else { start };
    Ok(Found { values, trials, proof: Some(proof) })
}

fn race(
    target: &dyn Tunable,
    a: &[usize],
    b: &[usize],
    settings: &Settings,
) -> Result<Comparison, MeasureError> {
    let failed = |why| MeasureError::Failed { what: format!("preparing {b:?}"), why };
    let mut a = target.prepare(a).map_err(failed)?;
    let mut b = target.prepare(b).map_err(failed)?;
    compare(&mut *a, &mut *b, settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimulatedClock;

    /// A cost that is least at 8 and 3, or the same everywhere; runs move the clock.
    struct Made<'c> {
        clock: &'c SimulatedClock,
        is_flat: bool,
    }

    impl Tunable for Made<'_> {
        fn prepare(&self, values: &[usize]) -> Result<Box<Subject<'_>>, String> {
            let away = values[0].abs_diff(8) as f64 + values[1].abs_diff(3) as f64;
            let (mut n, is_flat) = (0u32, self.is_flat);
            Ok(Box::new(move || {
                n += 1;
                self.clock.advance(Duration::from_millis(10));
                let noise = 1.0 + 0.002 * f64::from(n * 7 % 5);
                Ok(noise * (1.0 + if is_flat { 0.0 } else { 0.1 * away }))
            }))
        }
    }

    fn found(is_flat: bool, deadline: u64) -> Found {
        let clock = SimulatedClock::default();
        let knob = |name: &str, default, candidates: &[usize]| Knob {
            name: name.into(),
            default,
            candidates: candidates.to_vec(),
        };
        let knobs = [knob("a", 4, &[2, 4, 8, 16]), knob("b", 1, &[2, 3, 5])];
        let settings = Settings { min_rounds: 6, max_rounds: 10, ..Settings::default() };
        let made = Made { clock: &clock, is_flat };
        let deadline = Duration::from_secs(deadline);
        search(&knobs, &made, &settings, &clock, deadline, &mut |_| {}).unwrap()
    }

    // proves T-8
    #[test]
    fn the_fastest_is_found_and_proven() {
        let found = found(false, 1000);
        assert_eq!(found.values, [8, 3]);
        assert_eq!(found.proof.unwrap().verdict, Verdict::BFaster);
        assert_eq!(found.trials.len(), 6, "the default is not tried against itself");
    }

    #[test]
    fn without_a_difference_the_start_stays() {
        let found = found(true, 1000);
        assert_eq!(found.values, [4, 1]);
        assert!(found.proof.is_none() && found.trials.iter().all(|t| !t.is_taken));
    }

    #[test]
    fn no_comparison_begins_after_the_deadline() {
        let found = found(false, 0);
        assert_eq!(found.values, [4, 1]);
        assert!(found.trials.iter().all(|t| t.comparison.is_none()));
    }
}
