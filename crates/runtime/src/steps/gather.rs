//! Copies the rows whose result is wanted out of all rows.

use super::{Run, Step, row_tiles};
use crate::team::{Io, Items};

/// The step: rows of `len` features.
pub struct Gather {
    /// Features.
    pub len: usize,
}

impl Step for Gather {
    fn kind(&self) -> &'static str {
        "gather"
    }

    fn items(&self, n_rows: usize, _n_workers: usize) -> Items {
        row_tiles(n_rows)
    }

    fn work(&self, io: &Io<'_>, run: &Run<'_>, _n_rows: usize) {
        let from = io.floats(0);
        let rows = io.rows(0).chunks_exact_mut(self.len);
        for (&row, to) in run.batch.wanted[io.items()].iter().zip(rows) {
            to.copy_from_slice(&from[row as usize * self.len..][..self.len]);
        }
    }
}
