//! Where the time of a program goes: wall time, bytes and operations of every step.
//!
//! Worker 0 asks the clock after each barrier, so a step's time is that of the slowest worker, no
//! moment is counted twice, and the times sum to the walls of the batches, less what surrounds
//! them. On request the spans of every worker are kept as well: see [`spans`].

pub mod spans;

use crate::steps::{Batch, Planned, Work};
use spans::{Span, Spans};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A clock, as an argument: time since some start.
pub type ClockFn = Box<dyn Fn() -> Duration + Send + Sync>;

/// What a profile keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Sums over batches.
    Sums,
    /// Every span of every worker as well, which costs two looks at the clock per claim.
    Spans,
}

/// One step, summed over batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepProfile {
    /// The node it belongs to.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// The layer it belongs to, if to one.
    pub layer: Option<usize>,
    /// Wall time in it alone.
    pub time: Duration,
    /// What it moved and computed.
    pub work: Work,
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
    /// Every span, if they were asked for, in the order in which each worker left them.
    pub spans: Vec<Span>,
    /// What each step did in each batch, if spans were asked for.
    pub works: Vec<Vec<Work>>,
}

impl Profile {
    /// The sum of the steps' times.
    pub fn step_time(&self) -> Duration {
        self.steps.iter().map(|step| step.time).sum()
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
    spans: Option<Spans>,
}

impl Recorder {
    /// For a program of so many steps on a team of so many workers.
    pub fn new(clock: ClockFn, detail: Detail, n_steps: usize, n_workers: usize) -> Self {
        Self {
            clock,
            times: (0..n_steps).map(|_| AtomicU64::new(0)).collect(),
            last: AtomicU64::new(0),
            works: vec![Work::default(); n_steps],
            n_batches: 0,
            wall: Duration::ZERO,
            spans: (detail == Detail::Spans).then(|| Spans::new(n_workers)),
        }
    }

    fn now(&self) -> u64 {
        (self.clock)().as_nanos() as u64
    }

    /// A batch begins.
    pub fn start(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// A worker does some of a step's items.
    pub fn claim(&self, step: usize, worker: usize, work: impl FnOnce()) {
        match &self.spans {
            None => work(),
            Some(spans) => {
                let start = self.now();
                work();
                spans.add(Some(worker), self.span(step, Some(worker), start, self.now()));
            }
        }
    }

    /// A step ended; called by worker 0 alone.
    pub fn finished(&self, step: usize) {
        let now = self.now();
        let before = self.last.swap(now, Ordering::Relaxed);
        self.times[step].fetch_add(now.saturating_sub(before), Ordering::Relaxed);
        if let Some(spans) = &self.spans {
            spans.add(None, self.span(step, None, before, now));
        }
    }

    fn span(&self, step: usize, worker: Option<usize>, start: u64, end: u64) -> Span {
        let (start, end) = (Duration::from_nanos(start), Duration::from_nanos(end));
        Span { step, batch: self.n_batches, worker, start, end }
    }

    /// A batch ended that took `wall` in all.
    pub fn end(&mut self, steps: &[Planned], batch: &Batch, wall: Duration) {
        let amount = |planned: &Planned| planned.step.amount(batch.n_rows(planned.rows), batch);
        let works: Vec<Work> = steps.iter().map(amount).collect();
        for (sum, work) in self.works.iter_mut().zip(&works) {
            *sum = *sum + *work;
        }
        if let Some(spans) = &mut self.spans {
            spans.works.push(works);
        }
        self.n_batches += 1;
        self.wall += wall;
    }

    /// The clock's time.
    pub fn time(&self) -> Duration {
        (self.clock)()
    }

    /// What was collected.
    pub fn profile(self, steps: &[Planned]) -> Profile {
        let step = |(i, planned): (usize, &Planned)| StepProfile {
            name: planned.name.clone(),
            kind: planned.step.kind(),
            layer: planned.layer,
            time: Duration::from_nanos(self.times[i].load(Ordering::Relaxed)),
            work: self.works[i],
        };
        let steps = steps.iter().enumerate().map(step).collect();
        let (spans, works) = self.spans.map(Spans::into_parts).unwrap_or_default();
        Profile { steps, n_batches: self.n_batches, wall: self.wall, spans, works }
    }
}
