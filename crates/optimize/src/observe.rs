//! What weights meet: statistics of what linear layers read on calibration text (S-2, B8).
//!
//! In: a model, an engine, passages. Out: for each matrix, per input the mean square and the
//! largest magnitude, and the distribution of all.

use crate::engine::Engine;
use crate::error::Result;
use crate::importance::Importance;
use crate::ranges::Magnitudes;
use std::collections::BTreeMap;
use sterna_measure::quality::Passages;
use sterna_model::{Graph, WeightId, WeightSource};

/// Of all matrices.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// By the first matrix that reads it: what layers read, in the order of the graph.
    pub inputs: Vec<Input>,
    /// Tokens that were run.
    pub n_tokens: usize,
}

/// What one or several matrices read.
#[derive(Clone, Debug)]
pub struct Input {
    /// Their names.
    pub matrices: Vec<String>,
    /// Rows that were seen.
    pub n_rows: u64,
    /// Per input channel, the sum of squares.
    pub sum2: Vec<f64>,
    /// Per input channel, the largest magnitude.
    pub largest: Vec<f32>,
    /// All channels together.
    pub magnitudes: Magnitudes,
}

impl Input {
    fn add(&mut self, rows: &[f32]) {
        let len = self.sum2.len();
        self.n_rows += (rows.len() / len) as u64;
        self.magnitudes.add(rows);
        for row in rows.chunks_exact(len) {
            for ((sum, largest), &x) in self.sum2.iter_mut().zip(&mut self.largest).zip(row) {
                *sum += f64::from(x) * f64::from(x);
                *largest = largest.max(x.abs());
            }
        }
    }

    /// The mean square of each channel; none where nothing was seen.
    pub fn mean_squares(&self) -> impl Iterator<Item = f64> {
        self.sum2.iter().map(|sum| sum / self.n_rows.max(1) as f64)
    }

    /// Channels that were always zero.
    pub fn n_dead(&self) -> usize {
        self.largest.iter().filter(|&&largest| largest == 0.0).count()
    }

    /// How far the largest channel's root mean square is beyond the median's; `None` where that is
    /// zero. Above some tens, few channels decide how all are rounded.
    pub fn outlier(&self) -> Option<f64> {
        let mut squares: Vec<f64> = self.mean_squares().collect();
        squares.sort_by(f64::total_cmp);
        let (middle, last) = (squares[squares.len() / 2], squares[squares.len() - 1]);
        (middle > 0.0).then(|| (last / middle).sqrt())
    }
}

/// Runs the passages and gathers what their tokens are, layer by layer. `told` is called after each
/// passage with how many are done.
///
/// # Errors
/// When the model cannot be run, or whoever is told wants no more.
pub fn observe(
    graph: &Graph,
    weights: &dyn WeightSource,
    engine: &dyn Engine,
    passages: &Passages,
    told: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Observed> {
    let mut observed = Observed::default();
    let mut places: BTreeMap<WeightId, usize> = BTreeMap::new();
    let documents: Vec<&[u32]> = passages.iter().map(|passage| &passage.tokens[..]).collect();
    observed.n_tokens = documents.iter().map(|document| document.len()).sum();
    let mut see = |matrices: &[WeightId], len: usize, rows: &[f32]| {
        let at = *places.entry(matrices[0]).or_insert_with(|| {
            observed.inputs.push(Input {
                matrices: matrices.iter().map(|&id| graph.decl(id).name.clone()).collect(),
                n_rows: 0,
                sum2: vec![0.0; len],
                largest: vec![0.0; len],
                magnitudes: Magnitudes::default(),
            });
            observed.inputs.len() - 1
        });
        observed.inputs[at].add(rows);
    };
    engine.observe(graph, weights, &documents, &mut see, told)?;
    Ok(observed)
}

impl Observed {
    /// As weights of squared errors.
    pub fn importance(&self) -> Importance {
        let mut importance = Importance::default();
        for input in &self.inputs {
            let weights: Vec<f32> = input.mean_squares().map(|mean| mean as f32).collect();
            for name in &input.matrices {
                importance.set(name, weights.clone());
            }
        }
        importance
    }

    /// What should not be, in sentences.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for input in &self.inputs {
            let name = &input.matrices[0];
            if input.magnitudes.n_bad() > 0 {
                let n = input.magnitudes.n_bad();
                warnings.push(format!("{name} reads {n} numbers that are NaN or infinite"));
            }
            if input.n_rows == 0 {
                warnings.push(format!("{name} was never reached; it is rounded without weights"));
            } else if input.n_dead() == input.sum2.len() {
                warnings.push(format!("{name} reads zeros only"));
            }
        }
        warnings
    }
}

#[cfg(test)]
mod tests;
