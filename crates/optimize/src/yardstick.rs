//! The yardstick: a text and what the baseline says of it, to hold candidates against.
//!
//! In: a baseline and passages. Out: for any candidate, its divergence and drop. The baseline's
//! logits are kept in memory or on the disk; where neither has room, the baseline runs again beside
//! each candidate.

use crate::engine::Loaded;
use crate::error::{OptimizeError, Result};
use crate::search::Loss;
use std::path::Path;
use sterna_measure::quality::paired::PairedDrop;
use sterna_measure::quality::{Divergence, Passages, Reference, divergence_between, paired_drop};
use sterna_measure::scratch::Scratch;
use sterna_measure::{LanguageModel, MeasureError};

/// Logits kept in memory at most; more of them go to the disk, which reads them back faster than
/// any model computes a row.
const MAX_BYTES: usize = 128 << 20;
/// And on the disk at most.
const MAX_BYTES_ON_DISK: usize = 16 << 30;

/// A baseline on a text.
pub struct Yardstick {
    kept: Kept,
    passages: Passages,
}

enum Kept {
    Logits(Box<Reference>),
    Model(Box<dyn Loaded>),
}

/// A candidate against the baseline.
pub struct Reading {
    /// What both said, and how far apart that is.
    pub divergence: Divergence,
    /// What the candidate loses.
    pub drop: PairedDrop,
}

impl Yardstick {
    /// Runs the baseline over the passages and keeps what it says, in a file in `folder` if that is
    /// much; or keeps the baseline, if there is no room.
    ///
    /// # Errors
    /// When it cannot be run, or the disk is full after all.
    pub fn new(mut baseline: Box<dyn Loaded>, passages: &Passages, folder: &Path) -> Result<Self> {
        let n_bytes = Reference::bytes_needed(passages, baseline.vocab_len());
        let has_room = n_bytes <= MAX_BYTES_ON_DISK;
        let room = || Scratch::with_room(folder, n_bytes as u64).filter(|_| has_room);
        let scratch = (n_bytes > MAX_BYTES).then(room);
        let kept = match scratch {
            Some(None) => Kept::Model(baseline),
            scratch => {
                let record = Reference::record(&mut *baseline, passages, scratch.flatten())?;
                Kept::Logits(Box::new(record))
            }
        };
        Ok(Self { kept, passages: passages.clone() })
    }

    /// The text.
    pub fn passages(&self) -> &Passages {
        &self.passages
    }

    /// Measures a candidate.
    ///
    /// # Errors
    /// When it cannot be run, or its vocabulary is another.
    pub fn read(&mut self, candidate: &mut dyn LanguageModel) -> Result<Reading> {
        Reading::of(match &mut self.kept {
            Kept::Logits(reference) => reference.divergence(candidate)?,
            Kept::Model(baseline) => {
                divergence_between(&mut **baseline, candidate, &self.passages)?
            }
        })
    }
}

impl Reading {
    /// What follows from a divergence.
    ///
    /// # Errors
    /// Never, for a divergence's two sides were scored on the same passages.
    pub fn of(divergence: Divergence) -> Result<Self> {
        let drop = paired_drop(divergence.baseline_scores(), divergence.scores())?;
        Ok(Self { divergence, drop })
    }

    /// The reading in the search's terms.
    ///
    /// # Errors
    /// When there are too few documents for an interval.
    pub fn loss(&self) -> Result<Loss> {
        let interval = self.drop.perplexity_percent_ci95.ok_or_else(|| {
            let why = "the calibration text has fewer than five documents, so no drop has an \
                       interval; give more";
            OptimizeError::Measure(MeasureError::Data(why.into()))
        })?;
        Ok(Loss {
            kl: self.divergence.mean_kl(),
            drop_percent: self.drop.perplexity_percent,
            drop_percent_high: interval.high.max(self.drop.perplexity_percent),
        })
    }
}
