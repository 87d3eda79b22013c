//! Numbers that do not repeat: ids of answers, and seeds where the client gave none.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A source of numbers, shared by all requests.
#[derive(Debug)]
pub struct Fresh {
    state: AtomicU64,
}

/// SplitMix64's step (Steele, Lea and Flood 2014): odd, so that all 2^64 states are visited.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Fresh {
    /// Starts where no other process starts: by the time, and by what the system's generator gave
    /// to the standard library's hash maps.
    pub fn new(now: SystemTime) -> Self {
        let mut hasher = RandomState::new().build_hasher();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        hasher.write_u128(since.as_nanos());
        hasher.write_u32(std::process::id());
        Self { state: AtomicU64::new(hasher.finish()) }
    }

    /// A source of its own, for somebody who outlives this one.
    pub fn fork(&self) -> Self {
        Self { state: AtomicU64::new(self.draw()) }
    }

    /// The next number.
    pub fn draw(&self) -> u64 {
        let z = self.state.fetch_add(STEP, Ordering::Relaxed);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An id of an answer or a request: a prefix and 32 hexadecimal digits.
    pub fn id(&self, prefix: &str) -> String {
        format!("{prefix}{:016x}{:016x}", self.draw(), self.draw())
    }

    /// An id of a call of a tool: nine letters and digits, since templates of Mistral refuse any
    /// others.
    pub fn call_id(&self) -> String {
        format!("{:09x}", self.draw() >> 28)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_differ_within_a_process_and_between_processes() {
        let sources = [Fresh::new(UNIX_EPOCH), Fresh::new(UNIX_EPOCH)];
        let numbers: HashSet<u64> =
            sources.iter().flat_map(|source| (0..1000).map(|_| source.draw())).collect();
        assert_eq!(numbers.len(), 2000);
        assert_eq!(sources[0].id("cmpl-").len(), 5 + 32);
    }
}
