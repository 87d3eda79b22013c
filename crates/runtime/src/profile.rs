//! Where the time of a program goes: wall time, bytes and operations of every step.
//!
//! Worker 0 asks the clock after each barrier, so a step's time is that of the slowest worker and
//! the times sum to the walls of the batches, less what surrounds them.

use crate::steps::{Batch, Planned, Work};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A clock, as an argument: time since some start.
pub type ClockFn = Box<dyn Fn() -> Duration + Send + Sync>;

/// One step, summed over batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepProfile {
    /// The node it belongs to.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// Wall time.
    pub time: Duration,
    /// Bytes of weights and cache read.
    pub bytes: f64,
    /// Operations, a multiply-accumulate counted as two.
    pub flops: f64,
}

/// All steps, summed over batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// In the order of the program.
    pub steps: Vec<StepProfile>,
    /// Batches.
    pub n_batches: usize,
    /// Wall time of the batches.
    pub wall: Duration,
}

impl Profile {
    /// The sum of the steps' times.
    pub fn step_time(&self) -> Duration {
        self.steps.iter().map(|step| step.time).sum()
    }

    /// Steps summed by kind, the longest first.
    pub fn by_kind(&self) -> Vec<StepProfile> {
        let mut kinds: Vec<StepProfile> = Vec::new();
        for step in &self.steps {
            let at = kinds.iter().position(|kind| kind.kind == step.kind).unwrap_or_else(|| {
                let name = step.kind.to_owned();
                kinds.push(StepProfile { name, kind: step.kind, ..Default::default() });
                kinds.len() - 1
            });
            kinds[at].time += step.time;
            kinds[at].bytes += step.bytes;
            kinds[at].flops += step.flops;
        }
        kinds.sort_by_key(|kind| std::cmp::Reverse(kind.time));
        kinds
    }
}

/// Collects a profile while batches run.
pub struct Recorder {
    clock: ClockFn,
    /// Nanoseconds of each step.
    times: Vec<AtomicU64>,
    /// When the last step ended.
    last: AtomicU64,
    works: Vec<Work>,
    n_batches: usize,
    wall: Duration,
}

impl Recorder {
    /// For a program of so many steps.
    pub fn new(clock: ClockFn, n_steps: usize) -> Self {
        Self {
            clock,
            times: (0..n_steps).map(|_| AtomicU64::new(0)).collect(),
            last: AtomicU64::new(0),
            works: vec![Work::default(); n_steps],
            n_batches: 0,
            wall: Duration::ZERO,
        }
    }

    fn now(&self) -> u64 {
        (self.clock)().as_nanos() as u64
    }

    /// A batch begins.
    pub fn start(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// A step ended; called by worker 0 alone.
    pub fn finished(&self, step: usize) {
        let now = self.now();
        let before = self.last.swap(now, Ordering::Relaxed);
        self.times[step].fetch_add(now.saturating_sub(before), Ordering::Relaxed);
    }

    /// A batch ended that took `wall` in all.
    pub fn end(&mut self, steps: &[Planned], batch: &Batch, wall: Duration) {
        for (planned, sum) in steps.iter().zip(&mut self.works) {
            let work = planned.step.amount(batch.n_rows(planned.rows), batch);
            sum.bytes += work.bytes;
            sum.flops += work.flops;
        }
        self.n_batches += 1;
        self.wall += wall;
    }

    /// The clock's time.
    pub fn time(&self) -> Duration {
        (self.clock)()
    }

    /// What was collected.
    pub fn profile(&self, steps: &[Planned]) -> Profile {
        let step = |(i, planned): (usize, &Planned)| StepProfile {
            name: planned.name.clone(),
            kind: planned.step.kind(),
            time: Duration::from_nanos(self.times[i].load(Ordering::Relaxed)),
            bytes: self.works[i].bytes,
            flops: self.works[i].flops,
        };
        let steps = steps.iter().enumerate().map(step).collect();
        Profile { steps, n_batches: self.n_batches, wall: self.wall }
    }
}
