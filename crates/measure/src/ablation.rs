//! Does an optimization pay? Each is measured on against off, interleaved (A6).
//!
//! In: things that can be switched, each a call that gives its cost. Out: their effects, and which
//! of them cost more than they bring: those `auto` switches off.

use crate::MeasureError;
use crate::compare::{Comparison, Settings, Verdict, compare};
use std::cell::RefCell;

/// An optimization that can be on or off.
pub trait Switch {
    /// Its name.
    fn name(&self) -> &str;
    /// One run of the workload with it on or off: its cost, in seconds.
    ///
    /// # Errors
    /// Why the run failed, as a sentence.
    fn run(&mut self, on: bool) -> Result<f64, String>;
}

/// What an optimization does to the cost of a run.
#[derive(Debug, Clone)]
pub struct Effect {
    /// The optimization.
    pub name: String,
    /// A is on, B is off.
    pub comparison: Comparison,
}

/// What follows from an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Runs are shorter with it.
    Helps,
    /// No difference that exceeds the noise.
    None,
    /// Runs are longer with it.
    Costs,
}

impl Effect {
    /// Median seconds of a run with it on.
    pub fn seconds_on(&self) -> f64 {
        self.comparison.a.median()
    }

    /// Median seconds of a run with it off.
    pub fn seconds_off(&self) -> f64 {
        self.comparison.b.median()
    }

    /// What follows.
    pub fn outcome(&self) -> Outcome {
        match self.comparison.verdict {
            Verdict::AFaster => Outcome::Helps,
            Verdict::NoDifference => Outcome::None,
            Verdict::BFaster => Outcome::Costs,
        }
    }

    /// Whether `auto` leaves it on: unless it is known to cost.
    pub fn keeps(&self) -> bool {
        self.outcome() != Outcome::Costs
    }

    /// `costs 5.06 ms per run (+126.0%)`, or what it brings.
    pub fn change(&self) -> String {
        let percent = (1.0 / self.comparison.ratio - 1.0) * 100.0;
        let ms = (self.seconds_on() - self.seconds_off()) * 1e3;
        match self.outcome() {
            Outcome::Helps => format!("saves {:.2} ms per run ({percent:+.1}%)", -ms),
            Outcome::None => format!(
                "has no effect on speed that exceeds the noise of {:.1}%",
                self.comparison.resolution * 100.0
            ),
            Outcome::Costs => format!("costs {ms:.2} ms per run ({percent:+.1}%)"),
        }
    }

    /// Its name, what it brings or costs, and what `auto` does about it.
    pub fn line(&self) -> String {
        let tail = if self.keeps() { "" } else { ", so auto switches it off" };
        format!("{} {}{tail}", self.name, self.change())
    }
}

/// Measures one optimization.
///
/// # Errors
/// When a run fails or takes no time.
pub fn effect(switch: &mut dyn Switch, settings: &Settings) -> Result<Effect, MeasureError> {
    let name = switch.name().to_owned();
    let switch = RefCell::new(switch);
    let (mut on, mut off) = (|| switch.borrow_mut().run(true), || switch.borrow_mut().run(false));
    let comparison = compare(&mut on, &mut off, settings)?;
    Ok(Effect { name, comparison })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, RealClock};
    use std::time::Duration;

    /// Work of about 2 ms, and more where it is on.
    struct Sleeper {
        name: &'static str,
        more: Duration,
    }

    impl Switch for Sleeper {
        fn name(&self) -> &str {
            self.name
        }

        fn run(&mut self, on: bool) -> Result<f64, String> {
            let clock = RealClock::new();
            std::thread::sleep(
                Duration::from_millis(2) + if on { self.more } else { Duration::ZERO },
            );
            Ok(clock.now().as_secs_f64())
        }
    }

    fn measured(name: &'static str, more: u64) -> Effect {
        let settings =
            Settings { min_rounds: 10, max_rounds: 20, floor: 0.3, ..Settings::default() };
        let mut switch = Sleeper { name, more: Duration::from_millis(more) };
        effect(&mut switch, &settings).unwrap()
    }

    // proves A6
    #[test]
    fn an_optimization_that_sleeps_is_switched_off_with_its_cost() {
        let bad = measured("sleepy", 5);
        assert!(!bad.keeps(), "{}", bad.line());
        let cost = (bad.seconds_on() - bad.seconds_off()) * 1e3;
        assert!((3.0..12.0).contains(&cost), "5 ms were measured as {cost} ms");
        assert!(
            bad.line().contains("sleepy costs") && bad.line().contains("auto"),
            "{}",
            bad.line()
        );
        let harmless = measured("harmless", 0);
        assert!(harmless.keeps(), "{}", harmless.line());
    }
}
