//! The statistics behind every figure: location, spread, resampled intervals, and two tests.
//!
//! In: plain slices and a seed. Out: plain numbers, the same for the same seed on every machine.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

/// Fewer samples than this give no interval: resampling four values knows only those four.
pub const MIN_SAMPLES_INTERVAL: usize = 5;

/// A 95% confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "[f64; 2]", from = "[f64; 2]")]
pub struct Interval {
    /// The 2.5th percentile of the resampled statistic.
    pub low: f64,
    /// The 97.5th percentile.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies inside, ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// Half the distance between the ends.
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }

    /// The interval widened to hold `value`. A statistic and its resamples come by different sums,
    /// and where all resamples are alike they part in the last bits.
    pub fn holding(&self, value: f64) -> Self {
        Self { low: self.low.min(value), high: self.high.max(value) }
    }

    /// The interval of a monotone function of the value.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        let (a, b) = (f(self.low), f(self.high));
        Self { low: a.min(b), high: a.max(b) }
    }
}

impl From<Interval> for [f64; 2] {
    fn from(i: Interval) -> Self {
        [i.low, i.high]
    }
}

impl From<[f64; 2]> for Interval {
    fn from([low, high]: [f64; 2]) -> Self {
        Self { low, high }
    }
}

/// The arithmetic mean of a slice that is not empty.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The sample standard deviation (n - 1), or `None` of fewer than two values.
pub fn stddev(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let center = mean(values);
    let squares: f64 = values.iter().map(|v| (v - center) * (v - center)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// The middle value, or the mean of the middle two, of a slice that is not empty.
pub fn median(values: &[f64]) -> f64 {
    median_in_place(&mut values.to_vec())
}

/// The median absolute deviation from the median.
pub fn mad(values: &[f64]) -> f64 {
    let center = median(values);
    median_in_place(&mut values.iter().map(|v| (v - center).abs()).collect::<Vec<_>>())
}

/// Fewer samples than this have no distribution-free interval of the median: 2 / 2^6 < 5%.
pub const MIN_SAMPLES_MEDIAN_INTERVAL: usize = 6;

/// The exact interval of the median, whatever the distribution: the order statistics between which
/// the median lies with at least 95% probability, being the values that the sign test does not
/// reject. `None` below [`MIN_SAMPLES_MEDIAN_INTERVAL`].
pub fn median_interval(values: &[f64]) -> Option<Interval> {
    let n = values.len();
    if n < MIN_SAMPLES_MEDIAN_INTERVAL {
        return None;
    }
    // At most k of n values lie below the true median with half the probability of the sign test.
    let n_outside = (1..=n / 2).take_while(|k| sign_test(*k, n - k) <= 0.05).count();
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(Interval { low: sorted[n_outside], high: sorted[n - 1 - n_outside] })
}

/// A percentile of sorted values, linear between neighbours at position `percent/100 * (n-1)`.
pub fn percentile_of_sorted(sorted: &[f64], percent: f64) -> f64 {
    assert!((0.0..=100.0).contains(&percent), "percentile {percent} is outside 0..=100");
    let position = percent / 100.0 * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

fn median_in_place(values: &mut [f64]) -> f64 {
    assert!(!values.is_empty(), "the median of nothing");
    let (middle, is_odd) = (values.len() / 2, values.len() % 2 == 1);
    let (lower, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if is_odd {
        return upper;
    }
    (lower.iter().copied().fold(f64::NEG_INFINITY, f64::max) + upper) / 2.0
}

/// How to resample: the same seed gives the same interval.
#[derive(Debug, Clone, Copy)]
pub struct Bootstrap {
    /// How many resamples; the ends of a 95% interval rest on 2.5% of them.
    pub n_resamples: usize,
    /// The seed, printed in reports.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { n_resamples: 2000, seed: 0x5eed }
    }
}

impl Bootstrap {
    /// The percentile interval of `statistic` over resamples of `n` units; the statistic is given
    /// the indices drawn, so that paired values stay paired. `None` below [`MIN_SAMPLES_INTERVAL`],
    /// or where the statistic is not finite on some resample.
    pub fn interval(
        &self,
        n: usize,
        statistic: &mut dyn FnMut(&[usize]) -> f64,
    ) -> Option<Interval> {
        if n < MIN_SAMPLES_INTERVAL {
            return None;
        }
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut drawn = vec![0usize; n];
        let mut values = Vec::with_capacity(self.n_resamples);
        for _ in 0..self.n_resamples {
            drawn.iter_mut().for_each(|index| *index = rng.random_range(0..n));
            values.push(statistic(&drawn));
        }
        if values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let low = percentile_of_sorted(&values, 2.5);
        Some(Interval { low, high: percentile_of_sorted(&values, 97.5) })
    }

    /// The interval of the median.
    pub fn median(&self, values: &[f64]) -> Option<Interval> {
        let mut picked = vec![0.0; values.len()];
        self.interval(values.len(), &mut |drawn| {
            picked.iter_mut().zip(drawn).for_each(|(p, &i)| *p = values[i]);
            median_in_place(&mut picked)
        })
    }

    /// The interval of the mean.
    pub fn mean(&self, values: &[f64]) -> Option<Interval> {
        self.interval(values.len(), &mut |drawn| {
            drawn.iter().map(|&i| values[i]).sum::<f64>() / values.len() as f64
        })
    }

    /// The interval of `sum(top) / sum(bottom)` over units that belong together, such as each
    /// document's negative log-likelihood and its token count.
    pub fn ratio_of_sums(&self, top: &[f64], bottom: &[f64]) -> Option<Interval> {
        assert_eq!(top.len(), bottom.len(), "paired values");
        self.interval(top.len(), &mut |drawn| {
            let sums = drawn.iter().fold((0.0, 0.0), |(t, b), &i| (t + top[i], b + bottom[i]));
            sums.0 / sums.1
        })
    }

    /// The interval of `median(top) / median(bottom)`, drawn in pairs.
    pub fn ratio_of_medians(&self, top: &[f64], bottom: &[f64]) -> Option<Interval> {
        assert_eq!(top.len(), bottom.len(), "paired values");
        let mut picked = vec![0.0; top.len()];
        self.interval(top.len(), &mut |drawn| {
            picked.iter_mut().zip(drawn).for_each(|(p, &i)| *p = top[i]);
            let above = median_in_place(&mut picked);
            picked.iter_mut().zip(drawn).for_each(|(p, &i)| *p = bottom[i]);
            above / median_in_place(&mut picked)
        })
    }
}

/// The exact two-sided sign test: how often a fair coin is at least as lopsided as
/// `n_positive` against `n_negative` (ties left out by the caller).
pub fn sign_test(n_positive: usize, n_negative: usize) -> f64 {
    let n = n_positive + n_negative;
    // C(n, k) / 2^n in logarithms: 2^n overflows at a thousand rounds.
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for k in 0..=n_positive.min(n_negative) {
        tail += log_term.exp();
        log_term += ((n - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

/// The paired permutation test: how often random signs on `differences` give a mean at least as
/// far from zero as theirs; the observed signs count as one draw, so it is never zero.
pub fn permutation_test(differences: &[f64], n_draws: usize, seed: u64) -> f64 {
    let observed = differences.iter().sum::<f64>().abs();
    // Sums in another order differ in the last bits; a tie must still count as a tie.
    let tie = 1e-12 * differences.iter().map(|d| d.abs()).sum::<f64>();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut n_extreme = 1;
    for _ in 0..n_draws {
        let sum: f64 = differences.iter().map(|d| if rng.random() { *d } else { -d }).sum();
        n_extreme += usize::from(sum.abs() >= observed - tie);
    }
    n_extreme as f64 / (n_draws + 1) as f64
}

#[cfg(test)]
mod tests;
