//! Who did what when: the spans of a traced run, a list for each worker and one for the steps.
//!
//! A worker's claims of one step in one batch become one span, from the start of the first to the
//! end of the last, since nothing but claiming lies between them. What lies between two spans of a
//! worker is waiting.

use crate::steps::Work;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The step, as a place in the program.
    pub step: usize,
    /// The batch, counted from 0.
    pub batch: usize,
    /// Who did it; `None` is the step as a whole, from one barrier to the next.
    pub worker: Option<usize>,
    /// When it began, on the profile's clock.
    pub start: Duration,
    /// When it ended.
    pub end: Duration,
}

/// The spans as they come.
pub struct Spans {
    /// The steps as a whole, then each worker. Nobody waits for these locks: each has one user.
    tracks: Vec<Mutex<Vec<Span>>>,
    /// What each step did in each batch.
    pub works: Vec<Vec<Work>>,
}

impl Spans {
    /// For a team of so many workers.
    pub fn new(n_workers: usize) -> Self {
        let tracks = (0..=n_workers).map(|_| Mutex::default()).collect();
        Self { tracks, works: Vec::new() }
    }

    /// Adds a span to a track.
    pub fn add(&self, worker: Option<usize>, span: Span) {
        let track = &self.tracks[worker.map_or(0, |worker| worker + 1)];
        let mut track: MutexGuard<'_, Vec<Span>> =
            track.lock().unwrap_or_else(PoisonError::into_inner);
        match track.last_mut() {
            Some(last) if (last.step, last.batch) == (span.step, span.batch) => last.end = span.end,
            _ => track.push(span),
        }
    }

    /// All spans, track by track, and the works of each batch.
    pub fn into_parts(self) -> (Vec<Span>, Vec<Vec<Work>>) {
        let tracks = self.tracks.into_iter();
        let spans = tracks.flat_map(|track| track.into_inner().unwrap_or_default()).collect();
        (spans, self.works)
    }
}
