//! What a batch takes, from batches that were timed.
//!
//! In: [`TimedShape`]s. Out: [`BatchCost`], a sum of non-negative prices: of a batch, of each
//! further row up to the next knot (few rows are bound by reading the weights, many by
//! arithmetic), of rows with logits, of positions that prompts and generated tokens read, of
//! the different pages that hold them, of pages copied. So a batch with more of anything never
//! costs less. The prices are those with the least sum of squared relative errors (non-negative
//! least squares, by coordinate descent).

use super::shape::{BatchShape, TimedShape};
use crate::{MeasureError, stats};
use std::time::Duration;

/// Between these numbers of rows, each further row costs the same.
const ROW_KNOTS: [usize; 5] = [1, 4, 16, 64, 256];

/// The same for rows with logits.
const LOGIT_KNOTS: [usize; 2] = [0, 16];

/// Prices.
const N_PRICES: usize = 1 + ROW_KNOTS.len() + LOGIT_KNOTS.len() + 4;

/// What a batch has of everything that has a price.
type Features = [f64; N_PRICES];

/// What any batch takes.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchCost {
    prices: Features,
}

/// How far a fit is from what was measured, relative to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitError {
    /// Shapes.
    pub n: usize,
    /// The median of the sizes of their errors.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl BatchCost {
    /// From the shapes that are not held out.
    ///
    /// # Errors
    /// When there are none.
    pub fn fit(timed: &[TimedShape]) -> Result<Self, MeasureError> {
        let seen: Vec<(Features, f64)> = timed
            .iter()
            .filter(|timed| !timed.is_held_out)
            .map(|timed| (features(&timed.shape), timed.median()))
            .collect();
        if seen.is_empty() {
            return Err(MeasureError::NoSamples { name: "seconds of a batch".into() });
        }
        // Relative errors: each equation is divided by what it should give.
        let rows: Vec<Features> =
            seen.iter().map(|(features, seconds)| features.map(|x| x / seconds)).collect();
        Ok(Self { prices: non_negative(&rows) })
    }

    /// What a batch takes; nothing takes no time.
    pub fn time(&self, shape: &BatchShape) -> Duration {
        if shape.rows() == 0 && shape.copies == 0 {
            return Duration::ZERO;
        }
        let features = features(shape);
        let seconds = self.prices.iter().zip(features).map(|(price, x)| price * x).sum();
        Duration::from_secs_f64(seconds)
    }

    /// Its error on the shapes that were held out, or on those that it was fitted to; `None` where
    /// there are none.
    pub fn error(&self, timed: &[TimedShape], held_out: bool) -> Option<FitError> {
        let judged = timed.iter().filter(|timed| timed.is_held_out == held_out);
        let errors: Vec<f64> = judged.map(|timed| self.error_of(timed).abs()).collect();
        let max = errors.iter().copied().fold(0.0, f64::max);
        let n = errors.len();
        (n > 0).then(|| FitError { n, median: stats::median(&errors), max })
    }

    /// By how much of what was measured it says more.
    pub fn error_of(&self, timed: &TimedShape) -> f64 {
        self.time(&timed.shape).as_secs_f64() / timed.median() - 1.0
    }
}

fn features(shape: &BatchShape) -> Features {
    let mut features = [0.0; N_PRICES];
    let mut put = {
        let mut places = features.iter_mut();
        move |x: usize| *places.next().expect("as many as there are prices") = x as f64
    };
    put(1);
    pieces(&ROW_KNOTS, shape.rows()).for_each(&mut put);
    pieces(&LOGIT_KNOTS, shape.logit_rows).for_each(&mut put);
    put(shape.decode_positions);
    put(shape.prompt_positions);
    put(shape.pages);
    put(shape.copies);
    features
}

/// How much of `n` lies between each knot and the next, and beyond the last.
fn pieces(knots: &[usize], n: usize) -> impl Iterator<Item = usize> {
    let ends = knots[1..].iter().copied().chain([usize::MAX]);
    knots.iter().zip(ends).map(move |(&start, end)| n.clamp(start, end) - start)
}

/// Sweeps over all prices at most; it ends when none moves any more.
const MAX_SWEEPS: usize = 200_000;

/// The prices that make each row's sum as near to 1 as can be.
fn non_negative(rows: &[Features]) -> Features {
    // A column is scaled to length 1, so that one tolerance fits all.
    let length = |j: usize| rows.iter().map(|row| row[j] * row[j]).sum::<f64>().sqrt();
    let lengths: Features = std::array::from_fn(length);
    let dot = |i: usize, j: usize| {
        let scale = (lengths[i] * lengths[j]).max(f64::MIN_POSITIVE);
        rows.iter().map(|row| row[i] * row[j]).sum::<f64>() / scale
    };
    let gram: [Features; N_PRICES] = std::array::from_fn(|i| std::array::from_fn(|j| dot(i, j)));
    let target: Features = std::array::from_fn(|j| {
        rows.iter().map(|row| row[j]).sum::<f64>() / lengths[j].max(f64::MIN_POSITIVE)
    });
    let mut scaled = [0.0; N_PRICES];
    for _ in 0..MAX_SWEEPS {
        let mut moved = 0.0f64;
        // What no row has keeps the price 0.
        for j in (0..N_PRICES).filter(|&j| lengths[j] > 0.0) {
            let others: f64 = (0..N_PRICES).map(|i| gram[j][i] * scaled[i]).sum();
            let better = (scaled[j] + target[j] - others).max(0.0);
            moved = moved.max((better - scaled[j]).abs());
            scaled[j] = better;
        }
        if moved < 1e-10 {
            break;
        }
    }
    let price = |j: usize| if lengths[j] > 0.0 { scaled[j] / lengths[j] } else { 0.0 };
    std::array::from_fn(price)
}

#[cfg(test)]
mod tests;
