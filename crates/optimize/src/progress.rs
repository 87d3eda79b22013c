//! How far the work is, told to whoever asked; and whether they want it to stop.
//!
//! In: a [`Progress`] and a flag. Out: one call, [`Watch::step`], that long work makes often: it
//! reports, and it is the place where Ctrl-C takes effect.

use crate::error::{OptimizeError, Result};
use std::sync::atomic::{AtomicBool, Ordering};

/// The parts of an optimization, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Opening the model and preparing the text.
    Prepare,
    /// Timing tokens of the model in each encoding.
    Costs,
    /// Running the unoptimized model.
    Baseline,
    /// Finding the encodings that are worth a search.
    Screen,
    /// Quantizing one tensor group at a time.
    Sensitivity,
    /// Measuring whole plans.
    Search,
    /// Having the plan learn from the source.
    Distill,
    /// Running the plan with and without each optimization of the runtime.
    Ablate,
    /// Writing the artifact.
    Build,
    /// Measuring the written artifact.
    Verify,
    /// Asking both models questions.
    Tasks,
    /// Writing the report.
    Report,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Stage; 12] = [
        Stage::Prepare,
        Stage::Costs,
        Stage::Baseline,
        Stage::Screen,
        Stage::Sensitivity,
        Stage::Search,
        Stage::Distill,
        Stage::Ablate,
        Stage::Build,
        Stage::Verify,
        Stage::Tasks,
        Stage::Report,
    ];

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Prepare => "prepare",
            Stage::Baseline => "baseline",
            Stage::Costs => "costs",
            Stage::Screen => "screen",
            Stage::Sensitivity => "sensitivity",
            Stage::Search => "search",
            Stage::Distill => "distill",
            Stage::Ablate => "ablate",
            Stage::Build => "build",
            Stage::Verify => "verify",
            Stage::Tasks => "tasks",
            Stage::Report => "report",
        }
    }
}

/// Who is told. Calls come in order, from one thread.
pub trait Progress: Sync {
    /// `done` of `total` steps of `stage` are behind us; `note` says what comes next or came out.
    fn step(&self, stage: Stage, done: usize, total: usize, note: &str);
}

/// Nobody.
#[derive(Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _stage: Stage, _done: usize, _total: usize, _note: &str) {}
}

/// A listener and a stop flag.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Who is told.
    pub progress: &'a dyn Progress,
    /// Set by Ctrl-C.
    pub stop: &'a AtomicBool,
}

impl Watch<'_> {
    /// Reports a step.
    ///
    /// # Errors
    /// [`OptimizeError::Cancelled`] when the flag is set.
    pub fn step(&self, stage: Stage, done: usize, total: usize, note: &str) -> Result<()> {
        self.check()?;
        self.progress.step(stage, done, total, note);
        Ok(())
    }

    /// What came of some work: [`OptimizeError::Cancelled`] if it failed when the flag was set, for
    /// a model that is stopped fails in words of its own.
    ///
    /// # Errors
    /// Then, or the work's own.
    pub fn outcome<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| self.check().err().unwrap_or(error))
    }

    /// Only looks at the flag.
    ///
    /// # Errors
    /// As [`Watch::step`].
    pub fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(OptimizeError::Cancelled) } else { Ok(()) }
    }
}
