//! What a server's memory did during a run: whether it stays where it is, hour after hour.
//!
//! In: its size, looked at again and again. Out: a [`Memory`]. A cache of keys and values is memory
//! that is taken as it is first used, so that a server grows at first and should stop; what it
//! still takes in the second half of a long run is what says that it does not.

use serde::Serialize;

/// Sizes of a server's process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Memory {
    /// How often it was looked at.
    pub n: usize,
    /// After the request that warms up.
    pub start_bytes: u64,
    /// The most of the first half of the run.
    pub half_bytes: u64,
    /// After the last answer.
    pub end_bytes: u64,
    /// The most of all.
    pub max_bytes: u64,
}

impl Memory {
    /// Of sizes in order of time, evenly spaced; `None` of fewer than two.
    pub fn of(sizes: &[u64]) -> Option<Self> {
        let [start_bytes, .., end_bytes] = *sizes else { return None };
        let most = |sizes: &[u64]| sizes.iter().copied().max().unwrap_or(start_bytes);
        Some(Self {
            n: sizes.len(),
            start_bytes,
            half_bytes: most(&sizes[..sizes.len().div_ceil(2)]),
            end_bytes,
            max_bytes: most(sizes),
        })
    }

    /// How much larger it is at the end than it ever was in the first half, in percent; at most 0
    /// says that it does not grow.
    pub fn growth_percent(&self) -> f64 {
        100.0 * (self.end_bytes as f64 / self.half_bytes.max(1) as f64 - 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_of_the_second_half() {
        let memory = Memory::of(&[100, 150, 200, 200, 240, 220]).unwrap();
        let expected =
            Memory { n: 6, start_bytes: 100, half_bytes: 200, end_bytes: 220, max_bytes: 240 };
        assert_eq!(memory, expected);
        assert!((memory.growth_percent() - 10.0).abs() < 1e-9);
        assert!(Memory::of(&[200, 100]).unwrap().growth_percent() < 0.0);
        assert_eq!((Memory::of(&[]), Memory::of(&[7])), (None, None));
        assert_eq!(Memory::of(&[0, 0]).unwrap().growth_percent(), -100.0);
    }
}
