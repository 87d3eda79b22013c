//! Some rows of a matrix, and what rounding them adds to what the matrix returns.
//!
//! In: a draft whose matrix is not yet rounded. Out: errors, weighed by what the columns read, the
//! inputs taken as independent; found in milliseconds, without running the model.

use crate::draft::Draft;
use crate::draft::scaling::Factors;
use crate::fit;
use rayon::prelude::*;
use sterna_formats::EncodingRef;
use sterna_model::{WeightId, WeightSource};

/// Rows from all over a matrix, `[rows, cols]`, as wide as the draft has them.
pub struct Sample {
    cols: usize,
    values: Vec<f32>,
}

impl Sample {
    /// At most `n_rows` of them.
    pub fn of(draft: &Draft<'_>, id: WeightId, n_rows: usize) -> Self {
        let view = draft.weight(id);
        let step = view.rows.div_ceil(n_rows).max(1);
        let mut values = vec![0.0; view.rows.div_ceil(step) * view.cols];
        for (row, values) in values.chunks_exact_mut(view.cols).enumerate() {
            view.encoding.decode(view.row_bytes(row * step..row * step + 1), values);
        }
        let cols = view.cols;
        // Rows from all over it brought most of its pages.
        draft.release(id);
        Self { cols, values }
    }

    /// Values per row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The same with its columns multiplied.
    pub fn scaled(&self, factors: &Factors) -> Self {
        let mut values = self.values.clone();
        values.chunks_exact_mut(self.cols).for_each(|row| factors.apply(0, row));
        Self { cols: self.cols, values }
    }

    /// The sum of squared errors in an encoding, or in what rows that do not fit it get instead,
    /// each column's as `squares` weigh it; rounded to keep those `importance` weighs small.
    pub fn error(&self, to: EncodingRef, importance: Option<&[f32]>, squares: &[f32]) -> f64 {
        let (encoding, _) = fit::or_fallback(to, self.cols);
        self.sum(|row| {
            let mut bytes = vec![0; encoding.row_bytes(self.cols)];
            encoding.encode(row, importance, &mut bytes);
            let mut rounded = vec![0.0; self.cols];
            encoding.decode(&bytes, &mut rounded);
            let errors = row.iter().zip(&rounded).zip(squares);
            errors.map(|((v, r), w)| f64::from(w * (v - r) * (v - r))).sum()
        })
    }

    /// The sum of squares, weighed so.
    pub fn power(&self, squares: &[f32]) -> f64 {
        self.sum(|row| row.iter().zip(squares).map(|(v, w)| f64::from(w * v * v)).sum())
    }

    /// Over rows, in their order: the same whatever the number of threads.
    fn sum(&self, of: impl Fn(&[f32]) -> f64 + Send + Sync) -> f64 {
        let each: Vec<f64> = self.values.par_chunks_exact(self.cols).map(of).collect();
        each.iter().sum()
    }
}
