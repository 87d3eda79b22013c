//! A7: what is equal is called equal under drift and bursts, and what differs is found.

use super::*;
use crate::clock::{RealClock, SimulatedClock};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{cell::RefCell, time::Duration};

/// A machine whose speed wanders: every call is `noise` uncertain, the clock rate drifts slowly,
/// and now and then other work slows down a stretch of calls.
struct Machine {
    clock: SimulatedClock,
    state: RefCell<State>,
}

struct State {
    rng: StdRng,
    noise: f64,
    drift: f64,
    burst_chance: f64,
    n_calls: usize,
    burst_left: usize,
    wander: f64,
}

impl Machine {
    fn new(seed: u64, noise: f64, drift: f64, burst_chance: f64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        let (n_calls, burst_left, wander) = (0, 0, 0.0);
        let state = State { rng, noise, drift, burst_chance, n_calls, burst_left, wander };
        Self { clock: SimulatedClock::default(), state: RefCell::new(state) }
    }

    fn work(&self, seconds: f64) -> Result<(), String> {
        let slowdown = self.state.borrow_mut().slowdown();
        self.clock.advance(Duration::from_secs_f64(seconds * slowdown));
        Ok(())
    }

    fn compare(&self, seconds_a: f64, seconds_b: f64) -> Comparison {
        let mut a = timed(&self.clock, || self.work(seconds_a));
        let mut b = timed(&self.clock, || self.work(seconds_b));
        compare(&mut a, &mut b, &Settings::default()).unwrap()
    }
}

impl State {
    fn slowdown(&mut self) -> f64 {
        self.n_calls += 1;
        // A slow swing and a random walk that the swing does not predict.
        self.wander = 0.98 * self.wander + self.drift * 0.1 * self.normal();
        let swing = self.drift * (self.n_calls as f64 / 40.0).sin();
        if self.burst_left > 0 {
            self.burst_left -= 1;
        } else if self.rng.random_bool(self.burst_chance) {
            self.burst_left = self.rng.random_range(1..12);
        }
        let burst = if self.burst_left > 0 { self.rng.random_range(1.05..1.6) } else { 1.0 };
        (1.0 + swing + self.wander).max(0.2) * burst * (self.noise * self.normal()).exp()
    }

    fn normal(&mut self) -> f64 {
        let (u, v): (f64, f64) = (self.rng.random(), self.rng.random());
        (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

#[test]
fn the_same_thing_twice_is_no_difference() {
    // proves A-7
    for (noise, drift, burst_chance) in
        [(0.002, 0.0, 0.0), (0.02, 0.0, 0.0), (0.02, 0.05, 0.02), (0.05, 0.1, 0.05)]
    {
        let n_runs = 1000;
        let n_equal = (0..n_runs)
            .map(|seed| Machine::new(seed, noise, drift, burst_chance).compare(0.1, 0.1))
            .filter(|comparison| comparison.verdict == Verdict::NoDifference)
            .count();
        println!("noise {noise}, drift {drift}, bursts {burst_chance}: {n_equal} of {n_runs}");
        assert!(n_equal * 100 >= 95 * n_runs as usize, "{n_equal} of {n_runs}");
    }
}

#[test]
fn a_true_difference_is_found_on_the_right_side() {
    for (noise, drift, burst_chance) in [(0.02, 0.0, 0.0), (0.02, 0.05, 0.02)] {
        for (seconds_b, verdict) in [(0.105, Verdict::AFaster), (0.095, Verdict::BFaster)] {
            let found = (0..200)
                .map(|seed| Machine::new(seed, noise, drift, burst_chance).compare(0.1, seconds_b))
                .filter(|comparison| comparison.verdict == verdict)
                .count();
            println!("noise {noise}, drift {drift}, B {seconds_b}: found in {found} of 200");
            assert!(found >= 190, "{found} of 200");
        }
    }
}

#[test]
fn the_interval_holds_the_true_ratio() {
    let n_holding = (0..300)
        .map(|seed| Machine::new(seed, 0.02, 0.03, 0.01).compare(0.1, 0.103))
        .filter(|comparison| comparison.ratio_ci95.contains(1.03))
        .count();
    assert!(n_holding >= 270, "{n_holding} of 300");
}

#[test]
fn a_quiet_machine_needs_few_rounds_and_a_wild_one_says_so() {
    let quiet = Machine::new(1, 0.001, 0.0, 0.0).compare(0.1, 0.102);
    assert_eq!((quiet.n_rounds, quiet.verdict), (10, Verdict::AFaster));
    assert!(quiet.line().starts_with("A is faster: B/A 1.0"), "{}", quiet.line());
    let wild = Machine::new(1, 0.3, 0.0, 0.0).compare(0.1, 0.102);
    assert_eq!((wild.n_rounds, wild.verdict, wild.is_precise), (60, Verdict::NoDifference, false));
    assert!(wild.resolution > 0.02 && wild.line().ends_with("60 rounds (noisy)"));
    let figure = quiet.figure("cost_ratio", "toy").unwrap();
    assert_eq!((figure.n(), figure.unit()), (10, Unit::Ratio));
}

#[test]
fn differences_below_the_floor_are_not_news() {
    let certain = Machine::new(1, 0.0001, 0.0, 0.0).compare(0.1, 0.1005);
    assert!(certain.ratio_ci95.low > 1.0);
    assert_eq!((certain.verdict, certain.resolution), (Verdict::NoDifference, 0.01));
}

#[test]
fn rounds_alternate_so_that_neither_goes_first() {
    let order = RefCell::new(String::new());
    let call = |name: char| {
        order.borrow_mut().push(name);
        Ok(1.0)
    };
    let settings = Settings { n_warmup: 1, min_rounds: 6, max_rounds: 6, ..Settings::default() };
    compare(&mut || call('a'), &mut || call('b'), &settings).unwrap();
    assert_eq!(order.into_inner(), "ab abba baab abba baab abba baab".replace(' ', ""));
}

#[test]
fn failures_and_unmeasurable_calls_stop_the_comparison() {
    let settings = Settings::default();
    let of = |mut b: Box<Subject>| compare(&mut || Ok(1.0), &mut *b, &settings).unwrap_err();
    let failed = of(Box::new(|| Err("no such model".into()))).to_string();
    assert_eq!(failed, "the call of B failed: no such model");
    assert!(of(Box::new(|| Ok(0.0))).to_string().contains("too short for the clock"));
    assert!(of(Box::new(|| Ok(f64::NAN))).to_string().contains("NaN"));
}

/// On a real machine: `cargo test -p sterna-measure -- --ignored real_ --nocapture`.
#[test]
#[ignore = "measures real time, which a busy machine makes long"]
fn real_work_does_not_differ_from_itself() {
    // proves A-7
    let clock = RealClock::new();
    let work = || {
        let n_steps = std::hint::black_box(1_000_000u64);
        let sum = (0..n_steps).fold(0u64, |sum, i| sum.wrapping_mul(31).wrapping_add(i));
        if std::hint::black_box(sum) == 1 { Err("unlucky".into()) } else { Ok(()) }
    };
    let n_equal = (0..100)
        .map(|_| {
            let settings = Settings::default();
            compare(&mut timed(&clock, work), &mut timed(&clock, work), &settings).unwrap()
        })
        .filter(|comparison| comparison.verdict == Verdict::NoDifference)
        .count();
    println!("{n_equal} of 100");
    assert!(n_equal >= 95, "{n_equal} of 100");
}
