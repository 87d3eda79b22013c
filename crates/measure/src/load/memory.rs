//! What a server's memory did during a run: whether it stays where it is, hour after hour.
//!
//! In: its size, looked at again and again. Out: a [`Memory`]. A cache of keys and values is memory
//! that is taken as it is first used, so that a server grows at first and should stop: the first
//! tenth of a run warms up. What is usual from there to half-time is a median, so that a short peak
//! hides no growth; of what comes after it the most counts, so that a late peak is seen, though it
//! may be freed.

use crate::stats;
use serde::Serialize;

/// One part in so many of a run warms up.
const WARM_UP: usize = 10;

/// Sizes of a server's process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Memory {
    /// How often it was looked at.
    pub n: usize,
    /// After the request that warms up.
    pub start_bytes: u64,
    /// The median from a tenth of the run to its half.
    pub usual_bytes: u64,
    /// The most of the second half.
    pub late_bytes: u64,
    /// After the last answer.
    pub end_bytes: u64,
    /// The most of all.
    pub max_bytes: u64,
}

impl Memory {
    /// Of sizes in order of time, evenly spaced; `None` of fewer than two.
    pub fn of(sizes: &[u64]) -> Option<Self> {
        let [start_bytes, .., end_bytes] = *sizes else { return None };
        let n = sizes.len();
        let (first, second) = sizes.split_at(n.div_ceil(2));
        let usual: Vec<f64> = first[n / WARM_UP..].iter().map(|&size| size as f64).collect();
        let most = |sizes: &[u64]| sizes.iter().copied().max().unwrap_or(start_bytes);
        Some(Self {
            n,
            start_bytes,
            usual_bytes: stats::median(&usual) as u64,
            late_bytes: most(second),
            end_bytes,
            max_bytes: most(sizes),
        })
    }

    /// How much larger it ever is in the second half than it usually was before, in percent; at
    /// most 0 says that it does not grow.
    pub fn growth_percent(&self) -> f64 {
        100.0 * (self.late_bytes as f64 / self.usual_bytes.max(1) as f64 - 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_of_the_second_half() {
        let memory = Memory::of(&[100, 200, 210, 200, 240, 220]).unwrap();
        let (start_bytes, usual_bytes, end_bytes) = (100, 200, 220);
        let (late_bytes, max_bytes) = (240, 240);
        let expected = Memory { n: 6, start_bytes, usual_bytes, late_bytes, end_bytes, max_bytes };
        assert_eq!(memory, expected);
        assert!((memory.growth_percent() - 20.0).abs() < 1e-9);
        assert!(Memory::of(&[200, 100]).unwrap().growth_percent() < 0.0);
        assert_eq!((Memory::of(&[]), Memory::of(&[7])), (None, None));
        assert_eq!(Memory::of(&[0, 0]).unwrap().growth_percent(), -100.0);
    }

    #[test]
    fn short_peaks_neither_hide_growth_nor_are_they_hidden() {
        let growth = |at: &[(usize, u64)]| {
            let mut sizes = vec![100; 40];
            at.iter().for_each(|&(index, size)| sizes[index] = size);
            Memory::of(&sizes).unwrap().growth_percent().round()
        };
        assert_eq!(growth(&[(3, 20), (39, 100)]), 0.0, "it warms up");
        assert_eq!(growth(&[(8, 300), (39, 150)]), 50.0, "an early peak hides nothing");
        assert_eq!(growth(&[(30, 150)]), 50.0, "a late one is seen though it is freed");
    }
}
