//! What a candidate loses against its baseline on the same text, paired document by document.
//!
//! In: the scores of both. Out: the drop in percent with its interval. Pairing removes what both
//! find hard, so a drop of half a percent shows on twenty documents.

use super::scores::Scores;
use crate::{
    Figure, MeasureError, Unit,
    stats::{Bootstrap, Interval, sign_test},
};

/// The paired comparison; positive percentages mean that the candidate is worse.
#[derive(Debug, Clone, PartialEq)]
pub struct PairedDrop {
    /// How much larger the mean NLL is, in percent of the baseline's.
    pub nll_percent: f64,
    /// Its interval over documents; `None` below five of them.
    pub nll_percent_ci95: Option<Interval>,
    /// How much larger the perplexity is, in percent of the baseline's.
    pub perplexity_percent: f64,
    /// Its interval over documents.
    pub perplexity_percent_ci95: Option<Interval>,
    /// The sign test over documents: how likely so lopsided a count is if both were equally good.
    pub sign_test_p: f64,
    n_scored: usize,
    method: String,
}

/// Compares document by document.
///
/// # Errors
/// If the two were not scored on the same passages.
pub fn paired_drop(baseline: &Scores, candidate: &Scores) -> Result<PairedDrop, MeasureError> {
    if baseline.workload_hash() != candidate.workload_hash()
        || baseline.method() != candidate.method()
    {
        let why = format!("one scored {}, the other {}", baseline.method(), candidate.method());
        return Err(MeasureError::Incomparable { why });
    }
    let (before, counts) = baseline.columns();
    let (after, _) = candidate.columns();
    let excess: Vec<f64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
    let bootstrap = Bootstrap::default();
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    let rise = |delta: f64| delta.exp_m1() * 100.0;
    let n_worse = excess.iter().filter(|e| **e > 0.0).count();
    let n_better = excess.iter().filter(|e| **e < 0.0).count();
    let nll_percent_ci95 = bootstrap.ratio_of_sums(&after, &before);
    let perplexity_percent_ci95 = bootstrap.ratio_of_sums(&excess, &counts);
    Ok(PairedDrop {
        nll_percent: percent(candidate.mean_nll() / baseline.mean_nll()),
        nll_percent_ci95: nll_percent_ci95.map(|i| i.map(percent)),
        perplexity_percent: rise(candidate.mean_nll() - baseline.mean_nll()),
        perplexity_percent_ci95: perplexity_percent_ci95.map(|i| i.map(rise)),
        sign_test_p: sign_test(n_worse, n_better),
        n_scored: baseline.n_scored(),
        method: format!("paired by document with the baseline; {}", baseline.method()),
    })
}

impl PairedDrop {
    /// `nll_drop_percent` and `perplexity_drop_percent`.
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn figures(&self) -> Result<Vec<Figure>, MeasureError> {
        let of = |name, value: f64, interval: Option<Interval>| {
            // The value and its interval come by different sums; they may part in the last bits.
            let interval =
                interval.map(|i| Interval { low: i.low.min(value), high: i.high.max(value) });
            Figure::estimated(name, Unit::Percent, &self.method, value, self.n_scored, interval)
        };
        Ok(vec![
            of("nll_drop_percent", self.nll_percent, self.nll_percent_ci95)?,
            of("perplexity_drop_percent", self.perplexity_percent, self.perplexity_percent_ci95)?,
        ])
    }
}

#[cfg(test)]
mod tests;
