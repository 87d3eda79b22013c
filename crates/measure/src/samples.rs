//! Raw measurements of one quantity, kept whole, with the percentiles read off the sorted values.
//!
//! In: values as taken. Out: order statistics. The raw values stay, because evidence is raw.

use crate::{MeasureError, stats};

/// A p95 needs this many samples: with fewer, the 95th percentile is only the maximum renamed.
pub const MIN_SAMPLES_P95: usize = 20;
/// A p99 needs this many samples, for the same reason.
pub const MIN_SAMPLES_P99: usize = 100;

/// At least one finite value, in the order taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    raw: Vec<f64>,
    sorted: Vec<f64>,
}

impl Samples {
    /// Keeps `raw`; `name` is only for the error.
    ///
    /// # Errors
    /// If there is no value, or one is NaN or infinite.
    pub fn new(name: &str, raw: Vec<f64>) -> Result<Self, MeasureError> {
        if raw.is_empty() {
            return Err(MeasureError::NoSamples { name: name.into() });
        }
        if let Some(index) = raw.iter().position(|value| !value.is_finite()) {
            let value = raw[index].to_string();
            return Err(MeasureError::NotFinite { name: name.into(), index, value });
        }
        let mut sorted = raw.clone();
        sorted.sort_by(f64::total_cmp);
        Ok(Self { raw, sorted })
    }

    /// The values in the order taken.
    pub fn raw(&self) -> &[f64] {
        &self.raw
    }

    /// How many values.
    pub fn n(&self) -> usize {
        self.raw.len()
    }

    /// The arithmetic mean.
    pub fn mean(&self) -> f64 {
        stats::mean(&self.raw)
    }

    /// The middle value, or the mean of the middle two.
    pub fn median(&self) -> f64 {
        self.percentile(50.0)
    }

    /// The value below which `percent` of the sorted samples lie, linear between neighbours
    /// (position `percent/100 * (n-1)`, as NumPy's default): `percentile(50)` is the median.
    pub fn percentile(&self, percent: f64) -> f64 {
        stats::percentile_of_sorted(&self.sorted, percent)
    }

    /// The 95th percentile, or `None` below [`MIN_SAMPLES_P95`] samples.
    pub fn p95(&self) -> Option<f64> {
        (self.n() >= MIN_SAMPLES_P95).then(|| self.percentile(95.0))
    }

    /// The 99th percentile, or `None` below [`MIN_SAMPLES_P99`] samples.
    pub fn p99(&self) -> Option<f64> {
        (self.n() >= MIN_SAMPLES_P99).then(|| self.percentile(99.0))
    }

    /// The smallest value.
    pub fn min(&self) -> f64 {
        self.sorted[0]
    }

    /// The largest value.
    pub fn max(&self) -> f64 {
        self.sorted[self.n() - 1]
    }

    /// The sample standard deviation (divided by n - 1), or `None` of one sample.
    pub fn stddev(&self) -> Option<f64> {
        stats::stddev(&self.raw)
    }

    /// The median absolute deviation from the median: the spread that one outlier cannot move.
    pub fn mad(&self) -> f64 {
        stats::mad(&self.raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        Samples::new("t", values.to_vec()).unwrap()
    }

    #[test]
    fn percentiles_come_from_the_sorted_samples() {
        // proves S-15
        let hundred_one: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        let s = samples(&hundred_one);
        assert_eq!([s.median(), s.percentile(95.0), s.percentile(99.0)], [50.0, 95.0, 99.0]);
        assert_eq!((s.p95(), s.p99()), (Some(95.0), Some(99.0)));
        assert_eq!((s.min(), s.max(), s.mean()), (0.0, 100.0, 50.0));
        // numpy.percentile([15, 20, 35, 40, 50], [40, 95]) == [29.0, 48.0]
        let s = samples(&[40.0, 15.0, 50.0, 20.0, 35.0]);
        assert!((s.percentile(40.0) - 29.0).abs() < 1e-12);
        assert!((s.percentile(95.0) - 48.0).abs() < 1e-12);
        assert_eq!((s.percentile(0.0), s.percentile(100.0)), (15.0, 50.0));
        assert_eq!(samples(&[4.0, 1.0, 3.0, 2.0]).median(), 2.5);
        assert_eq!(samples(&[7.0]).percentile(99.0), 7.0);
    }

    #[test]
    fn a_tail_percentile_needs_a_tail() {
        let s = samples(&[1.0; 19]);
        assert_eq!((s.p95(), s.p99()), (None, None));
        assert_eq!(samples(&[1.0; 99]).p99(), None);
        assert_eq!(samples(&[1.0; 100]).p99(), Some(1.0));
    }

    #[test]
    fn spread_of_known_values() {
        let s = samples(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert!((s.stddev().unwrap() - (32.0f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!(s.mad(), 0.5);
        assert_eq!(samples(&[3.0]).stddev(), None);
    }

    #[test]
    fn refuses_nothing_and_nan() {
        assert!(Samples::new("ttft", vec![]).unwrap_err().to_string().contains("ttft: no samples"));
        let error = Samples::new("ttft", vec![1.0, f64::NAN]).unwrap_err().to_string();
        assert!(error.contains("sample 1 is NaN"), "{error}");
        assert!(Samples::new("ttft", vec![f64::INFINITY]).is_err());
    }
}
