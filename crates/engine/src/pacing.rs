//! How large batches may be while somebody waits for the next token: rows of prompts beside tokens
//! being generated, and sequences that generate at once.
//!
//! A bounded controller: what steps took is fitted (`forecast.rs`), and both limits go towards
//! where the fit has a step take most of the target, a little up at a time, and down by half at
//! most. What the limits cannot change is no reason to lower them: where a step is late with a
//! single sequence, fewer of them would only be slower.

use crate::forecast::Coefficients;
use std::time::Duration;

/// Rows of prompts beside decoding, at least: below this, prompts would starve.
const LEAST_ROWS: usize = 32;

/// Sequences that generate, at least: fewer cost much of a machine's throughput.
const LEAST_PLACES: usize = 8;

/// What is aimed at, of the target: half of all steps take longer than is expected of them.
const AIM: f64 = 0.9;

/// A limit grows by this part of itself.
const GROWTH: usize = 16;

/// The controller.
#[derive(Clone, Debug)]
pub struct Pacing {
    /// Seconds that a step should take.
    aim: Option<f64>,
    rows: Limit,
    places: Limit,
}

/// A number that is controlled.
#[derive(Clone, Copy, Debug)]
struct Limit {
    now: usize,
    least: usize,
    most: usize,
}

impl Pacing {
    /// Steps that should take `target`, of at most `most_rows` rows and `most_places` sequences;
    /// without a target, all may be full.
    pub fn new(target: Option<Duration>, most_rows: usize, most_places: usize) -> Self {
        let limit = |least: usize, most| Limit { now: most, least: least.min(most), most };
        Self {
            aim: target.map(|target| target.as_secs_f64() * AIM),
            rows: limit(LEAST_ROWS, most_rows),
            places: limit(LEAST_PLACES, most_places),
        }
    }

    /// Rows of prompts that a batch may have which generates tokens too.
    pub fn rows(&self) -> usize {
        self.rows.now
    }

    /// Sequences that may generate at once. Those that do stay when it goes down.
    pub fn places(&self) -> usize {
        self.places.now
    }

    /// Follows what steps take by now, after one that had `n_decoding` tokens of sequences that
    /// generate.
    pub fn follow(&mut self, [fixed, each_row, each_token]: Coefficients, n_decoding: usize) {
        let Some(aim) = self.aim.filter(|_| n_decoding > 0) else { return };
        let fitting = |seconds: f64, each: f64| (seconds.max(0.0) / each) as usize;
        self.rows.go_to(fitting(aim - fixed - each_token * n_decoding as f64, each_row));
        let is_of_use = fixed + each_token < aim;
        self.places.go_to(if is_of_use { fitting(aim - fixed, each_token) } else { usize::MAX });
    }
}

impl Limit {
    fn go_to(&mut self, wanted: usize) {
        let up = self.now + (self.now / GROWTH).max(1);
        self.now = wanted.clamp(self.now / 2, up).clamp(self.least, self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pacing(target: Option<u64>) -> Pacing {
        Pacing::new(target.map(Duration::from_millis), 512, 64)
    }

    /// After so many steps that took what these coefficients say.
    fn after(n: usize, pacing: &mut Pacing, fit: Coefficients) -> (usize, usize) {
        (0..n).for_each(|_| pacing.follow(fit, 4));
        (pacing.rows(), pacing.places())
    }

    // proves S-12, P-16 (in part: the action is bounded)
    #[test]
    fn limits_go_where_steps_take_most_of_the_target_by_bounded_steps() {
        let mut pacing = pacing(Some(100));
        // 90 ms: 10 are fixed, 4 tokens take 16; of the rest 0.5 go to each row, or 4 to each
        // token.
        let machine = [0.010, 0.0005, 0.004];
        assert_eq!(after(1, &mut pacing, machine), (256, 32));
        assert_eq!(after(20, &mut pacing, machine), (128, 20));
        // Twice as fast: up by a sixteenth.
        let fast = machine.map(|seconds| seconds / 2.0);
        assert_eq!(after(1, &mut pacing, fast), (136, 21));
        assert_eq!(after(99, &mut pacing, fast), (308, 42));
        assert_eq!(after(99, &mut pacing, [0.0; 3]), (512, 64));
        assert_eq!(after(99, &mut pacing, [0.010, 1.0, 0.080]), (LEAST_ROWS, LEAST_PLACES));
    }

    #[test]
    fn what_cannot_be_helped_changes_no_places() {
        let mut late = pacing(Some(100));
        // Alone a sequence takes longer; prompts must go on all the same.
        assert_eq!(after(99, &mut late, [0.100, 0.001, 0.001]), (LEAST_ROWS, 64));
        // Steps that generate nothing are nobody's time between tokens.
        let mut reading = pacing(Some(100));
        (0..99).for_each(|_| reading.follow([9.0; 3], 0));
        assert_eq!((reading.rows(), reading.places()), (512, 64));
        assert_eq!(after(99, &mut pacing(None), [9.0; 3]), (512, 64));
    }
}
