//! The rows of logits that a baseline says of a passage, in memory or in a scratch file.
//!
//! In: rows, one after the other. Out: each again, bit for bit.

use crate::MeasureError;
use crate::scratch::{Scratch, Slot};

/// What a baseline says at the scored positions of a passage.
#[derive(Debug)]
pub(super) struct Rows {
    logits: Kept,
    n_vocab: usize,
    /// Each row's [`super::logits::log_sum_exp`], which every candidate is compared through.
    totals: Vec<f64>,
}

/// `[n_scored, n_vocab]`.
#[derive(Debug)]
enum Kept {
    Memory(Vec<f32>),
    Scratch(Slot),
}

impl Rows {
    /// Room for so many rows.
    pub(super) fn new(
        n_rows: usize,
        n_vocab: usize,
        scratch: Option<&Scratch>,
    ) -> Result<Self, MeasureError> {
        let n_values = n_rows * n_vocab;
        let full = || {
            let why = "the scratch file has no room for the baseline's logits";
            MeasureError::Data(why.into())
        };
        let logits = match scratch {
            None => Kept::Memory(Vec::with_capacity(n_values)),
            Some(scratch) => {
                Kept::Scratch(scratch.reserve(n_values * size_of::<f32>()).ok_or_else(full)?)
            }
        };
        Ok(Self { logits, n_vocab, totals: Vec::with_capacity(n_rows) })
    }

    /// Entries of a row.
    pub(super) fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// Adds a row and its total.
    pub(super) fn push(
        &mut self,
        row: &[f32],
        total: f64,
        scratch: Option<&Scratch>,
    ) -> Result<(), MeasureError> {
        match &mut self.logits {
            Kept::Memory(logits) => logits.extend_from_slice(row),
            Kept::Scratch(slot) => {
                let scratch = scratch.expect("what is in scratch is asked for with it");
                let written =
                    scratch.write(*slot, self.totals.len() * size_of_val(row), bytes(row));
                written.map_err(|error| failed("written", &error))?;
            }
        }
        self.totals.push(total);
        Ok(())
    }

    /// Row `at` and its total; `buffer` is used where it has to be read.
    pub(super) fn row<'a>(
        &'a self,
        at: usize,
        scratch: Option<&Scratch>,
        buffer: &'a mut Vec<f32>,
    ) -> Result<(&'a [f32], f64), MeasureError> {
        let row = match &self.logits {
            Kept::Memory(logits) => &logits[at * self.n_vocab..(at + 1) * self.n_vocab],
            Kept::Scratch(slot) => {
                buffer.resize(self.n_vocab, 0.0);
                let scratch = scratch.expect("what is in scratch is asked for with it");
                let offset = at * size_of_val(buffer.as_slice());
                let read = scratch.read(*slot, offset, bytemuck::cast_slice_mut(buffer));
                read.map_err(|error| failed("read", &error))?;
                buffer
            }
        };
        Ok((row, self.totals[at]))
    }
}

fn bytes(row: &[f32]) -> &[u8] {
    bytemuck::cast_slice(row)
}

fn failed(what: &str, error: &std::io::Error) -> MeasureError {
    let what = format!("the scratch file of the baseline's logits could not be {what}; this");
    MeasureError::Failed { what, why: error.to_string() }
}
