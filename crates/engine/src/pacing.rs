//! How many rows of prompts a batch may have beside tokens being generated, so that those who
//! wait for the next token get it in time.
//!
//! A bounded controller: additive increase, multiplicative decrease (Chiu and Jain 1989), on the
//! measured time of batches that have both.

use std::time::Duration;

/// Rows of prompts beside decoding, at least: below this, prompts would starve.
const LEAST: usize = 32;

/// What the limit grows by after a batch that was in time.
const STEP: usize = 32;

/// The controller.
#[derive(Clone, Debug)]
pub struct Pacing {
    target: Option<Duration>,
    limit: usize,
    most: usize,
}

impl Pacing {
    /// Batches of at most `most` rows that should take `target`; without one, all may be full.
    pub fn new(target: Option<Duration>, most: usize) -> Self {
        Self { target, limit: most, most }
    }

    /// Rows of prompts that a batch may have which generates tokens too.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Learns from a batch that had both.
    pub fn learn(&mut self, took: Duration) {
        let Some(target) = self.target else { return };
        self.limit = if took > target {
            // As far too long as it took, but never less than half at once.
            let share = (target.as_secs_f64() / took.as_secs_f64()).max(0.5);
            (self.limit as f64 * share) as usize
        } else {
            self.limit + STEP
        };
        self.limit = self.limit.clamp(LEAST.min(self.most), self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves S-12, P-16 (in part: the action is bounded and settles at the target)
    #[test]
    fn the_limit_follows_the_time_and_stays_within_bounds() {
        let target = Duration::from_millis(100);
        let mut pacing = Pacing::new(Some(target), 512);
        // A machine that takes 10 ms and 1 ms per row settles near 90 rows.
        for _ in 0..200 {
            pacing.learn(Duration::from_millis(10 + pacing.limit() as u64));
        }
        assert!((45..=130).contains(&pacing.limit()), "{}", pacing.limit());
        for _ in 0..100 {
            pacing.learn(Duration::from_secs(5));
        }
        assert_eq!(pacing.limit(), LEAST);
        for _ in 0..100 {
            pacing.learn(Duration::ZERO);
        }
        assert_eq!(pacing.limit(), 512);
        let mut free = Pacing::new(None, 512);
        free.learn(Duration::from_secs(9));
        assert_eq!(free.limit(), 512);
    }
}
