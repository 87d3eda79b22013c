//! How fast this machine computes prompts and reads its disk, as measured so far.

use std::time::Duration;

/// Rows that a batch must have to tell how fast prompts are computed.
const LEAST_ROWS: usize = 32;

/// What the newest measurement counts; the rest is what was known.
const NEWEST: f64 = 0.25;

/// Rates per second; `None` until something was measured.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    rows: Option<f64>,
    bytes: Option<f64>,
}

impl Rates {
    /// Learns from a batch.
    pub fn learn_rows(&mut self, n_rows: usize, took: Duration) {
        if n_rows >= LEAST_ROWS {
            learn(&mut self.rows, n_rows as f64, took);
        }
    }

    /// Learns from a read.
    pub fn learn_bytes(&mut self, n_bytes: usize, took: Duration) {
        learn(&mut self.bytes, n_bytes as f64, took);
    }

    /// How long so many tokens take to compute.
    pub fn compute_time(&self, n_tokens: usize) -> Option<Duration> {
        Some(Duration::from_secs_f64(n_tokens as f64 / self.rows?))
    }

    /// How long so many bytes take to read.
    pub fn load_time(&self, n_bytes: usize) -> Option<Duration> {
        Some(Duration::from_secs_f64(n_bytes as f64 / self.bytes?))
    }

    /// Whether reading is quicker than computing, as far as is known.
    pub fn is_worth(&self, n_tokens: usize, n_bytes: usize) -> bool {
        match (self.load_time(n_bytes), self.compute_time(n_tokens)) {
            (Some(load), Some(compute)) => load < compute,
            _ => true,
        }
    }
}

/// What took no time that the clock sees teaches nothing, nor does what was nothing.
fn learn(known: &mut Option<f64>, n: f64, took: Duration) {
    let rate = n / took.as_secs_f64();
    if rate.is_normal() {
        *known = Some(known.map_or(rate, |known| known + NEWEST * (rate - known)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_slower_than_computing_is_not_loaded() {
        let second = Duration::from_secs(1);
        let mut rates = Rates::default();
        assert!(rates.is_worth(1, usize::MAX), "nothing is known yet");
        rates.learn_rows(100, second);
        rates.learn_rows(8, second);
        rates.learn_rows(100, Duration::ZERO);
        assert_eq!(rates.compute_time(200), Some(2 * second));
        rates.learn_bytes(1000, second);
        assert!(rates.is_worth(100, 999) && !rates.is_worth(100, 1000));
        for _ in 0..50 {
            rates.learn_bytes(10_000, second);
        }
        assert!(rates.is_worth(100, 9_000) && !rates.is_worth(100, 10_001));
    }
}
