//! What only whole requests show, each of which may be several of the engine's: the choices of a
//! prompt.

use std::sync::{Mutex, PoisonError};
use sterna_engine::stats::LEN_BOUNDS;
use sterna_engine::{Finished, Histogram};

/// Bounds of numbers of choices, those of vLLM.
pub const N_BOUNDS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0];

/// Distributions over prompts whose choices have all ended.
#[derive(Clone, Debug)]
pub struct Lengths {
    /// Choices of a prompt.
    pub n: Histogram,
    /// Tokens of the longest of them.
    pub longest: Histogram,
}

/// The same, counted by many.
#[derive(Debug, Default)]
pub struct Groups(Mutex<Lengths>);

impl Default for Lengths {
    fn default() -> Self {
        Self { n: Histogram::new(N_BOUNDS), longest: Histogram::new(LEN_BOUNDS) }
    }
}

impl Groups {
    /// Counts the choices of an answer, `n` in turn for each prompt.
    pub fn count(&self, finished: &[Finished], n: usize) {
        let mut lengths = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for choices in finished.chunks(n.max(1)) {
            let longest = choices.iter().map(|choice| choice.new_tokens).max().unwrap_or(0);
            lengths.n.add(choices.len() as f64);
            lengths.longest.add(longest as f64);
        }
    }

    /// All that was counted.
    pub fn all(&self) -> Lengths {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
