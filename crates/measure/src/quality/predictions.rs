//! What a model said at the scored positions of a passage: the raw samples behind every number of
//! quality, kept so that anyone can derive those numbers again (A3).
//!
//! In: rows of logits. Out: [`Predictions`] and [`Compared`], one entry per scored position, which
//! are plain data.

use super::{logits, passages::Passages, scores::PassageScore};
use crate::MeasureError;
use serde::{Deserialize, Serialize};

/// A model on one passage; each list has one entry per scored position.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predictions {
    /// Minus the log-probability of the token that came, in nats.
    pub nll: Vec<f64>,
    /// The favourite token.
    pub top: Vec<u32>,
    /// The favourite's probability: how sure the model was.
    pub top_p: Vec<f64>,
    /// The sum of the squares of all tokens' probabilities.
    pub p_squared: Vec<f64>,
}

impl Predictions {
    /// Takes in one row, of which `target` came, and its [`logits::sums`].
    pub(super) fn push(&mut self, row: &[f32], (total, p_squared): (f64, f64), target: u32) {
        let top = logits::argmax(row);
        self.nll.push(total - f64::from(row[target as usize]));
        self.top.push(top as u32);
        self.top_p.push((f64::from(row[top]) - total).exp());
        self.p_squared.push(p_squared);
    }

    /// The score of the passage.
    pub fn score(&self) -> PassageScore {
        let mut score = PassageScore::default();
        self.nll.iter().for_each(|nll| score.add(*nll));
        score
    }

    /// The multi-class Brier score of position `at`: the squared distance of the probabilities from
    /// what came (Brier 1950), 0 to 2.
    pub fn brier(&self, at: usize) -> f64 {
        self.p_squared[at] - 2.0 * (-self.nll[at]).exp() + 1.0
    }

    fn has_length(&self, n: usize) -> bool {
        [self.nll.len(), self.top.len(), self.top_p.len(), self.p_squared.len()] == [n; 4]
    }
}

/// A candidate on one passage, beside its baseline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    /// What it said.
    pub said: Predictions,
    /// `KL(baseline || candidate)` of each scored position, in nats.
    pub kl: Vec<f64>,
    /// The greatest distance of any logit.
    pub max_abs_delta_logit: f64,
}

/// Refuses raw samples that are not of these passages; files may say anything.
pub(super) fn check(
    passages: &Passages,
    baseline: &[Predictions],
    compared: Option<&[Compared]>,
) -> Result<(), MeasureError> {
    let lengths: Vec<usize> = passages.iter().map(super::Passage::n_scored).collect();
    let fits = |(said, n): (&Predictions, &usize)| said.has_length(*n);
    let mut is_whole = baseline.len() == lengths.len() && baseline.iter().zip(&lengths).all(fits);
    if let Some(compared) = compared {
        let fits = |(c, n): (&Compared, &usize)| c.said.has_length(*n) && c.kl.len() == *n;
        is_whole &= compared.len() == lengths.len() && compared.iter().zip(&lengths).all(fits);
    }
    if is_whole {
        return Ok(());
    }
    let why = format!("the samples are not one per scored token of {}", passages.method());
    Err(MeasureError::Data(why))
}
