//! The learning rate of each step.

use crate::config::{Decay, Schedule};

/// The rate of step `step` (from 0): a linear rise over the warm-up, then the decay.
pub fn learning_rate(schedule: &Schedule, step: usize) -> f64 {
    let peak = schedule.learning_rate;
    let warmup = (schedule.warmup * schedule.steps as f64).round();
    let at = step as f64;
    if at < warmup {
        return peak * (at + 1.0) / (warmup + 1.0);
    }
    let part = (at - warmup) / (schedule.steps as f64 - warmup).max(1.0);
    let low = peak * schedule.final_rate;
    match schedule.decay {
        Decay::Constant => peak,
        Decay::Linear => peak + (low - peak) * part,
        Decay::Cosine => low + (peak - low) * 0.5 * (1.0 + (std::f64::consts::PI * part).cos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_falls_as_asked() {
        let schedule = |decay| Schedule {
            steps: 100,
            warmup: 0.1,
            learning_rate: 1.0,
            final_rate: 0.1,
            decay,
            ..Schedule::default()
        };
        for decay in [Decay::Cosine, Decay::Linear, Decay::Constant] {
            let schedule = schedule(decay);
            let rate = |step| learning_rate(&schedule, step);
            assert!((1..10).all(|s| rate(s) > rate(s - 1)), "the warm-up rises");
            assert_eq!(rate(10), 1.0);
            assert!((11..100).all(|s| rate(s) <= rate(s - 1)), "then nothing rises");
        }
        let last = |decay| learning_rate(&schedule(decay), 99);
        assert!((last(Decay::Linear) - 0.11).abs() < 1e-9);
        assert!((last(Decay::Cosine) - 0.1).abs() < 1e-3);
        assert_eq!(last(Decay::Constant), 1.0);
    }
}
