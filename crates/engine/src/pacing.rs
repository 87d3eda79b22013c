//! How large batches may be while somebody waits for the next token: rows of prompts beside tokens
//! being generated, and sequences that generate at once.
//!
//! A bounded controller on the measured time of steps: up a little after a step that was in time,
//! down after one that was not by as much as it was late, but never below half at once. It aims
//! below the target, so that what goes up a little is still in time.

use crate::batch::Batch;
use std::time::Duration;

/// Rows of prompts beside decoding, at least: below this, prompts would starve.
const LEAST_ROWS: usize = 32;

/// What is aimed at, of the target.
const AIM: f64 = 0.85;

/// A limit grows by this part of itself.
const GROWTH: usize = 16;

/// The controller.
#[derive(Clone, Debug)]
pub struct Pacing {
    aim: Option<Duration>,
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
        Self {
            aim: target.map(|target| target.mul_f64(AIM)),
            rows: Limit { now: most_rows, least: LEAST_ROWS.min(most_rows), most: most_rows },
            places: Limit { now: most_places, least: 1, most: most_places },
        }
    }

    /// Rows of prompts that a batch may have which generates tokens too.
    pub fn rows(&self) -> usize {
        self.rows.now
    }

    /// Sequences that may be in work at once. Those that are stay when it goes down.
    pub fn places(&self) -> usize {
        self.places.now
    }

    /// Learns what a batch took.
    pub fn learn(&mut self, batch: &Batch, took: Duration) {
        let Some(aim) = self.aim else { return };
        let share = aim.as_secs_f64() / took.as_secs_f64().max(f64::MIN_POSITIVE);
        let n_decoding = batch.parts.iter().filter(|part| part.is_decode).count();
        if n_decoding == 0 {
            // Nobody waits for the next token.
        } else if n_decoding < batch.parts.len() {
            let is_least = self.rows.now == self.rows.least;
            self.rows.learn(share, self.rows.now);
            if is_least && share < 1.0 {
                // Prompts can have no less: it is those who generate.
                self.places.learn(share, n_decoding);
            }
        } else {
            self.places.learn(share, n_decoding);
        }
    }
}

impl Limit {
    /// Learns that of the time aimed at a step with `n` of them took `1 / share`.
    fn learn(&mut self, share: f64, n: usize) {
        if share < 1.0 {
            let less = (n as f64 * share.max(0.5)) as usize;
            self.now = self.now.min(less).max(self.least);
        } else if n >= self.now {
            self.now = (self.now + (self.now / GROWTH).max(1)).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Part;
    use sterna_runtime::Logits;

    const TARGET: Duration = Duration::from_millis(100);

    fn batch(n_decoding: usize, n_rows: usize) -> Batch {
        let part = |key, n_tokens, is_decode| Part {
            key,
            n_tokens,
            n_drafted: 0,
            logits: Logits::Last,
            is_decode,
        };
        let decoding = (0..n_decoding as u64).map(|key| part(key, 1, true));
        let prompts = (n_rows > 0).then(|| part(1_000, n_rows, false));
        Batch { copies: Vec::new(), parts: decoding.chain(prompts).collect() }
    }

    // proves S-12, P-16 (in part: the action is bounded and settles at the target)
    #[test]
    fn rows_of_prompts_follow_the_time_and_stay_within_bounds() {
        let mut pacing = Pacing::new(Some(TARGET), 512, 64);
        // A machine that takes 10 ms and 1 ms per row settles below 85 rows.
        for n in 0..200 {
            let took = Duration::from_millis(10 + pacing.rows() as u64);
            pacing.learn(&batch(1, pacing.rows()), took);
            assert!(n < 20 || (65..=85).contains(&pacing.rows()), "{}", pacing.rows());
        }
        (0..4).for_each(|_| pacing.learn(&batch(9, 100), Duration::from_secs(5)));
        assert_eq!((pacing.rows(), pacing.places()), (LEAST_ROWS, 4));
        (0..100).for_each(|_| pacing.learn(&batch(9, 100), Duration::ZERO));
        assert_eq!((pacing.rows(), pacing.places()), (512, 4), "prompts say nothing of places");
        let mut free = Pacing::new(None, 512, 64);
        free.learn(&batch(64, 0), Duration::from_secs(9));
        free.learn(&batch(64, 9), Duration::from_secs(9));
        assert_eq!((free.rows(), free.places()), (512, 64));
    }

    // proves S-12, P-16 (in part: the same of the batch's size)
    #[test]
    fn places_follow_the_time_of_generating_alone() {
        let mut pacing = Pacing::new(Some(TARGET), 512, 64);
        // Prompts alone are nobody's time between tokens, and a small batch says nothing of more.
        pacing.learn(&batch(0, 512), Duration::from_secs(9));
        pacing.learn(&batch(8, 0), Duration::ZERO);
        assert_eq!((pacing.rows(), pacing.places()), (512, 64));
        // A machine that takes 20 ms and 4 ms per sequence settles near 16.
        for n in 0..200 {
            let running = pacing.places();
            let took = Duration::from_millis(20 + 4 * running as u64);
            pacing.learn(&batch(running, 0), took);
            assert!(n < 20 || (14..=17).contains(&pacing.places()), "{}", pacing.places());
        }
        (0..100).for_each(|_| pacing.learn(&batch(9, 0), Duration::from_secs(5)));
        assert_eq!(pacing.places(), 4, "as few as took too long, halved at most");
        (0..100).for_each(|_| pacing.learn(&batch(64, 0), Duration::ZERO));
        assert_eq!(pacing.places(), 64);
    }
}
