//! Numbers drawn from a seed: SplitMix64 (Steele, Lea and Flood, 2014). It is ten lines here, so
//! that the prompts of a seed stay the same whatever becomes of a library.

/// A stream of numbers, which its keys tell apart from other streams of the seed.
#[derive(Debug, Clone)]
pub struct Draw {
    state: u64,
}

/// The odd number nearest to 2^64 over the golden ratio.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

impl Draw {
    /// The stream of these keys.
    pub fn new(seed: u64, keys: &[u64]) -> Self {
        let fold = |state: u64, key: &u64| mix(mix(state.wrapping_add(GAMMA)) ^ *key);
        Self { state: keys.iter().fold(seed, fold) }
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// A number below `n`; no count here is large enough for its bias of n / 2^64 to show.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(n)) >> 64) as u64
    }

    /// A number in 0..=1 that is never 0, so that it has a logarithm.
    pub fn unit(&mut self) -> f64 {
        ((self.number() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}

fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_reference() {
        let mut draw = Draw { state: 1_234_567 };
        let first = [draw.number(), draw.number(), draw.number()];
        assert_eq!(first, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }

    #[test]
    fn streams_differ_by_seed_and_keys_and_stay_in_range() {
        let first = |seed, keys: &[u64]| Draw::new(seed, keys).number();
        assert_eq!(first(1, &[2, 3]), first(1, &[2, 3]));
        let all = [first(1, &[2, 3]), first(1, &[3, 2]), first(2, &[2, 3]), first(1, &[2])];
        assert!((1..4).all(|i| !all[..i].contains(&all[i])), "{all:?}");
        let mut draw = Draw::new(7, &[]);
        assert!((0..1000).all(|_| draw.below(5) < 5));
        assert!((0..1000).map(|_| draw.unit()).all(|u| u > 0.0 && u <= 1.0));
    }
}
