//! How large numbers are: a histogram of magnitudes, and the ranges that it gives for rounding to
//! integers.
//!
//! In: numbers, in any order and in parts. Out: the largest, percentiles, and the range that
//! loses least by KL divergence (Migacz, "8-bit inference with TensorRT", 2017).

/// Bits of an f32 that tell bins apart: the exponent and five of the mantissa, so that a bin is 3%
/// wide.
const SHIFT: u32 = 18;
const N_BINS: usize = 1 << (31 - SHIFT);

/// Bins of equal width that a range is looked for in.
const N_LINEAR: usize = 2048;

/// A histogram of magnitudes.
#[derive(Clone, Debug, PartialEq)]
pub struct Magnitudes {
    counts: Vec<u64>,
    largest: f32,
    n_bad: u64,
}

impl Default for Magnitudes {
    fn default() -> Self {
        Self { counts: vec![0; N_BINS], largest: 0.0, n_bad: 0 }
    }
}

impl Magnitudes {
    /// Counts numbers; NaN and infinities apart.
    pub fn add(&mut self, values: &[f32]) {
        for &x in values {
            if x.is_finite() {
                self.counts[(x.abs().to_bits() >> SHIFT) as usize] += 1;
                self.largest = self.largest.max(x.abs());
            } else {
                self.n_bad += 1;
            }
        }
    }

    /// The largest magnitude.
    pub fn largest(&self) -> f32 {
        self.largest
    }

    /// Numbers that are NaN or infinite.
    pub fn n_bad(&self) -> u64 {
        self.n_bad
    }

    /// Numbers that are not.
    pub fn n(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What so many of all magnitudes are no larger than, `share` from 0 to 1: the upper end of
    /// its bin, at most 3% too large.
    pub fn percentile(&self, share: f64) -> f32 {
        let wanted = (share * self.n() as f64).ceil() as u64;
        let mut sum = 0;
        let bin = self.counts.iter().position(|&count| {
            sum += count;
            sum >= wanted && sum > 0
        });
        bin.map_or(0.0, |bin| upper(bin).min(self.largest))
    }

    /// The range whose `n_levels` integers of one sign tell most of the distribution: what is
    /// beyond is clipped. The KL divergence from the clipped distribution to the rounded one is
    /// least; 0 where there is nothing.
    pub fn entropy_range(&self, n_levels: usize) -> f32 {
        if self.largest == 0.0 {
            return 0.0;
        }
        let bins = self.linear();
        let losses = (n_levels..=N_LINEAR).map(|n| (divergence(&bins, n, n_levels), n));
        let best = losses.min_by(|a, b| a.0.total_cmp(&b.0));
        self.largest * best.map_or(N_LINEAR, |(_, n)| n) as f32 / N_LINEAR as f32
    }

    /// Counts by bins of equal width from 0 to the largest.
    fn linear(&self) -> Vec<f64> {
        let mut bins = vec![0.0; N_LINEAR];
        let per_bin = N_LINEAR as f64 / f64::from(self.largest);
        for (bin, &count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            // Evenly over the width that it has.
            let from = f64::from(lower(bin)) * per_bin;
            let to = (f64::from(upper(bin)) * per_bin).min(N_LINEAR as f64).max(from + 1e-9);
            let first = (from as usize).min(N_LINEAR - 1);
            let n = (to.ceil() as usize).clamp(first + 1, N_LINEAR) - first;
            for (at, bin) in bins.iter_mut().enumerate().skip(first).take(n) {
                let (start, end) = (from.max(at as f64), to.min(at as f64 + 1.0));
                *bin += count as f64 * (end - start).max(0.0) / (to - from);
            }
        }
        bins
    }
}

fn lower(bin: usize) -> f32 {
    f32::from_bits((bin as u32) << SHIFT)
}

fn upper(bin: usize) -> f32 {
    f32::from_bits(((bin as u32) << SHIFT) | ((1 << SHIFT) - 1))
}

/// The KL divergence from the first `n` bins, with all beyond in the last of them, to the same in
/// `n_levels` levels, each of which says the same of all its bins that are not empty.
fn divergence(bins: &[f64], n: usize, n_levels: usize) -> f64 {
    let all: f64 = bins.iter().sum();
    let beyond: f64 = bins[n..].iter().sum();
    let mut kl = 0.0;
    for level in 0..n_levels {
        let (start, end) = (level * n / n_levels, (level + 1) * n / n_levels);
        let inside = &bins[start..end];
        let n_filled = inside.iter().filter(|&&count| count > 0.0).count();
        // What is beyond is not there for the rounded one, which has to say so for all.
        let each = inside.iter().sum::<f64>() / n_filled.max(1) as f64 / (all - beyond).max(1e-300);
        for (at, &count) in inside.iter().enumerate() {
            let count = count + if start + at == n - 1 { beyond } else { 0.0 };
            if count > 0.0 {
                kl += count / all * (count / all / each.max(1e-12)).ln();
            }
        }
    }
    kl
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    /// Of a normal distribution, as the sum of twelve even ones is nearly one.
    fn normal(n: usize) -> Vec<f32> {
        let mut rng = StdRng::seed_from_u64(3);
        let mut draw = || (0..12).map(|_| rng.random_range(-0.5..0.5f32)).sum::<f32>();
        (0..n).map(|_| draw()).collect()
    }

    fn of(values: &[f32]) -> Magnitudes {
        let mut magnitudes = Magnitudes::default();
        values.chunks(7).for_each(|part| magnitudes.add(part));
        magnitudes
    }

    // proves S-2 (the ranges: largest, percentile, entropy)
    #[test]
    fn percentiles_are_those_of_sorted_magnitudes() {
        let values = normal(50_000);
        let magnitudes = of(&values);
        let mut sorted: Vec<f32> = values.iter().map(|x| x.abs()).collect();
        sorted.sort_by(f32::total_cmp);
        for share in [0.1, 0.5, 0.9, 0.999] {
            let exact = sorted[(share * 50_000.0) as usize - 1];
            let found = magnitudes.percentile(share);
            assert!((exact..=exact * 1.04).contains(&found), "{share}: {found} and {exact}");
        }
        assert_eq!(magnitudes.percentile(1.0), magnitudes.largest());
        assert_eq!(magnitudes.largest(), sorted[sorted.len() - 1]);
    }

    #[test]
    fn the_entropy_range_clips_what_is_rare_and_far() {
        let mut values = normal(100_000);
        let plain = of(&values).entropy_range(128);
        assert!((2.0..5.0).contains(&plain), "{plain}");
        // One number in ten thousand lies far out: integers for it would be wasted.
        values.extend([60.0; 10]);
        let far = of(&values);
        let clipped = far.entropy_range(128);
        assert!(clipped < 12.0 && far.largest() == 60.0, "{clipped}");
        assert_eq!(Magnitudes::default().entropy_range(128), 0.0);
        assert_eq!(of(&[0.0; 9]).entropy_range(128), 0.0);
    }

    #[test]
    fn what_is_no_number_is_counted_apart() {
        let magnitudes = of(&[1.0, f32::NAN, f32::INFINITY, -2.0]);
        assert_eq!((magnitudes.n(), magnitudes.n_bad(), magnitudes.largest()), (2, 2, 2.0));
    }
}
