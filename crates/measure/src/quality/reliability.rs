//! Whether a model knows what it does not know: accuracy, calibration error, Brier score (A5).
//!
//! In: predictions and the passages they are of. Out: [`Reliability`], with the bins of a
//! reliability diagram.

use super::{passages::Passages, predictions::Predictions};
use crate::stats::Bootstrap;
use crate::{Figure, MeasureError, Unit};
use serde::{Deserialize, Serialize};

/// Bins of equal width that confidences are sorted into (Guo et al. 2017, arXiv:1706.04599).
pub const N_BINS: usize = 15;

/// The predictions whose favourite had a probability within one bin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bin {
    /// How many.
    pub n: usize,
    /// The sum of the favourites' probabilities.
    pub confidence: f64,
    /// How many favourites came.
    pub n_hits: usize,
}

/// How a model's confidence compares with how often it is right.
#[derive(Debug, Clone, PartialEq)]
pub struct Reliability {
    bins: [Bin; N_BINS],
    /// Per passage: scored tokens, favourites that came, sum of Brier scores.
    passages: Vec<(f64, f64, f64)>,
    method: String,
}

impl Reliability {
    /// Counts; `said` has one entry per passage.
    ///
    /// # Errors
    /// When the predictions are not of these passages.
    pub fn of(passages: &Passages, said: &[Predictions]) -> Result<Self, MeasureError> {
        super::predictions::check(passages, said, None)?;
        let mut bins = [Bin::default(); N_BINS];
        let mut sums = Vec::with_capacity(said.len());
        for (passage, said) in passages.iter().zip(said) {
            let (mut n_hits, mut brier) = (0, 0.0);
            for (at, target) in passage.tokens[passage.first_scored..].iter().enumerate() {
                let (sure, is_hit) = (said.top_p[at], said.top[at] == *target);
                // The first bin holds 0, every other its upper end only, as usual.
                let index = (sure * N_BINS as f64).ceil() as usize;
                let bin = &mut bins[index.clamp(1, N_BINS) - 1];
                bin.n += 1;
                bin.confidence += sure;
                bin.n_hits += usize::from(is_hit);
                n_hits += usize::from(is_hit);
                brier += said.brier(at);
            }
            sums.push((passage.n_scored() as f64, n_hits as f64, brier));
        }
        Ok(Self { bins, passages: sums, method: passages.method() })
    }

    /// The bins, least sure first.
    pub fn bins(&self) -> &[Bin; N_BINS] {
        &self.bins
    }

    /// Scored tokens.
    pub fn n(&self) -> usize {
        self.bins.iter().map(|bin| bin.n).sum()
    }

    /// The expected calibration error: how far confidence and accuracy lie apart, bin by bin,
    /// weighed by how many are in each.
    pub fn ece(&self) -> f64 {
        let gap = |bin: &Bin| (bin.confidence - bin.n_hits as f64).abs();
        self.bins.iter().map(gap).sum::<f64>() / self.n() as f64
    }

    /// The share of tokens that were the favourite.
    pub fn accuracy(&self) -> f64 {
        self.sum(|p| p.1) / self.sum(|p| p.0)
    }

    /// The mean Brier score, 0 to 2.
    pub fn brier(&self) -> f64 {
        self.sum(|p| p.2) / self.sum(|p| p.0)
    }

    fn sum(&self, of: impl Fn(&(f64, f64, f64)) -> f64) -> f64 {
        self.passages.iter().map(of).sum()
    }

    /// `{who}_accuracy`, `{who}_ece` and `{who}_brier`; intervals are bootstrapped over passages.
    ///
    /// # Errors
    /// If a value is impossible, which a broken model can bring about.
    pub fn figures(&self, who: &str) -> Result<Vec<Figure>, MeasureError> {
        let (n, method) = (self.n(), &self.method);
        let column = |of: fn(&(f64, f64, f64)) -> f64| self.passages.iter().map(of).collect();
        let (counts, hits, briers): (Vec<f64>, Vec<f64>, Vec<f64>) =
            (column(|p| p.0), column(|p| p.1), column(|p| p.2));
        let interval = |sums: &[f64], value: f64| {
            let interval = Bootstrap::default().ratio_of_sums(sums, &counts);
            interval.map(|interval| interval.holding(value))
        };
        let figure = |name: &str, unit, what: &str, value: f64, interval| {
            let (name, method) = (format!("{who}_{name}"), format!("{what}; {method}"));
            Figure::estimated(&name, unit, &method, value, n, interval)
        };
        let (accuracy, brier) = (self.accuracy(), self.brier());
        let ece = format!(
            "expected calibration error in {N_BINS} bins of equal width, of the favourite token"
        );
        Ok(vec![
            figure(
                "accuracy",
                Unit::Fraction,
                "the favourite token came",
                accuracy,
                interval(&hits, accuracy),
            )?,
            figure("ece", Unit::Fraction, &ece, self.ece().clamp(0.0, 1.0), None)?,
            figure(
                "brier",
                Unit::Ratio,
                "Brier score over all tokens, 0 to 2",
                brier.max(0.0),
                interval(&briers, brier),
            )?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Workload, quality::Scoring};

    fn passages(documents: Vec<Vec<u32>>) -> Passages {
        let workload = Workload::new("toy", documents, 0).unwrap();
        Passages::new(&workload, Scoring::Documents { bos: None, n_unscored: 0 }).unwrap()
    }

    fn said(top: &[u32], top_p: f64, p_target: f64) -> Predictions {
        let n = top.len();
        // Two tokens: the squares of p and 1 - p.
        let p_squared = vec![top_p * top_p + (1.0 - top_p) * (1.0 - top_p); n];
        let nll = vec![-p_target.ln(); n];
        Predictions { nll, top: top.to_vec(), top_p: vec![top_p; n], p_squared }
    }

    #[test]
    fn known_numbers() {
        // Four predictions of 0.8, of which the last is wrong: accuracy 3/4, ECE 0.05.
        let passages = passages(vec![vec![0, 1, 1, 1], vec![0, 0]]);
        let both = [said(&[1, 1, 1], 0.8, 0.8), said(&[1], 0.8, 0.2)];
        let found = Reliability::of(&passages, &both).unwrap();
        assert_eq!((found.n(), found.accuracy()), (4, 0.75));
        assert!((found.ece() - 0.05).abs() < 1e-12);
        // Right: 2 x 0.2^2; wrong: 2 x 0.8^2.
        let brier = (3.0 * 2.0 * 0.04 + 2.0 * 0.64) / 4.0;
        assert!((found.brier() - brier).abs() < 1e-12, "{}", found.brier());
        assert_eq!(found.bins().iter().filter(|bin| bin.n > 0).count(), 1);
        let names: Vec<String> =
            found.figures("x").unwrap().iter().map(|f| f.name().to_owned()).collect();
        assert_eq!(names, ["x_accuracy", "x_ece", "x_brier"]);
    }

    #[test]
    fn ends_of_the_scale_have_bins() {
        let passages = passages(vec![vec![0, 1, 1]]);
        let mut ends = said(&[1, 1], 1.0, 1.0);
        ends.top_p[0] = 0.0;
        let found = Reliability::of(&passages, &[ends]).unwrap();
        assert_eq!((found.bins()[0].n, found.bins()[N_BINS - 1].n), (1, 1));
    }

    #[test]
    fn samples_of_other_text_are_refused() {
        let passages = passages(vec![vec![0, 1, 1]]);
        let error = Reliability::of(&passages, &[said(&[1], 0.5, 0.5)]).unwrap_err();
        assert!(error.to_string().contains("one per scored token"), "{error}");
    }
}
