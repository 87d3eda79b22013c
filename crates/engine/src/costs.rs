//! What steps took by their rows, as measured lately.
//!
//! What was not measured, or long ago, is taken to cost nothing more: so it is tried, and known
//! then.

use std::time::Duration;

/// Steps are told apart by their rows up to so many.
pub const MOST_ROWS: usize = 64;

/// Measurements that count, roughly.
const MEMORY: u32 = 16;

/// Steps for which a measurement is good, when there are [`SURE`] of it; fewer are good for less.
const GOOD_FOR: u64 = 256;

/// Measurements after which more add no certainty.
const SURE: u32 = 8;

/// A time that is measured again and again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    mean: f64,
    /// Measurements in the mean.
    n_recent: u32,
    /// Measurements of all times, as far as they count.
    n: u32,
    /// The step of the last measurement.
    at: u64,
}

impl Cost {
    /// Learns from a measurement at a step. One that follows a long pause counts alone: what was
    /// before may hold no longer.
    pub fn learn(&mut self, took: Duration, step: u64) {
        let is_known = self.seconds(step).is_some();
        self.n_recent = if is_known { (self.n_recent + 1).min(MEMORY) } else { 1 };
        self.mean += (took.as_secs_f64() - self.mean) / f64::from(self.n_recent);
        self.n = (self.n + 1).min(SURE);
        self.at = step;
    }

    /// Its seconds, if that is known at a step.
    pub fn seconds(&self, step: u64) -> Option<f64> {
        let good_for = GOOD_FOR * u64::from(self.n) / u64::from(SURE);
        (self.n > 0 && step - self.at < good_for).then_some(self.mean)
    }
}

/// The times of steps of 1 to [`MOST_ROWS`] rows.
#[derive(Clone, Debug)]
pub struct Costs {
    by_rows: [Cost; MOST_ROWS + 1],
    step: u64,
}

impl Default for Costs {
    fn default() -> Self {
        Self { by_rows: [Cost::default(); MOST_ROWS + 1], step: 0 }
    }
}

impl Costs {
    /// Learns from a step.
    pub fn learn(&mut self, rows: usize, took: Duration) {
        self.step += 1;
        if let Some(cost) = self.by_rows.get_mut(rows) {
            cost.learn(took, self.step);
        }
    }

    /// Steps that were learned from.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The seconds of a step of so many rows, if they are known.
    pub fn known(&self, rows: usize) -> Option<f64> {
        self.by_rows.get(rows)?.seconds(self.step)
    }

    /// The same, guessed from the nearest that are known: between two on a line, beyond the largest
    /// as much as that one.
    pub fn estimate(&self, rows: usize) -> Option<f64> {
        let known = |rows: usize| Some((rows as f64, self.known(rows)?));
        let below = (0..=rows.min(MOST_ROWS)).rev().find_map(known);
        let above = (rows..=MOST_ROWS).find_map(known);
        match (below, above) {
            (Some((r0, t0)), Some((r1, t1))) if r1 > r0 => {
                Some(t0 + (t1 - t0) * (rows as f64 - r0) / (r1 - r0))
            }
            (below, above) => below.or(above).map(|(_, seconds)| seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_costs_no_more_and_what_is_old_is_not_known() {
        let mut costs = Costs::default();
        assert_eq!(costs.estimate(1), None);
        costs.learn(1, Duration::from_secs(1));
        assert_eq!((costs.known(2), costs.estimate(9)), (None, Some(1.0)));
        costs.learn(9, Duration::from_secs(3));
        assert_eq!((costs.estimate(5), costs.estimate(64)), (Some(2.0), Some(3.0)));
        (0..GOOD_FOR).for_each(|_| costs.learn(1, Duration::from_secs(1)));
        assert_eq!(costs.estimate(9), Some(1.0));
        costs.learn(1_000, Duration::from_secs(9));
        assert_eq!(costs.estimate(1_000), Some(1.0));
    }
}
