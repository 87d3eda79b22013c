//! Guesses of the simulator: how it speculates, and a draft model that is mostly right.

use super::device::continued;
use super::{FIRST, VOCABULARY};
use crate::Core;
use crate::speculation::{Drafted, Speculate, When};
use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use std::sync::Arc;
use std::time::Duration;
use sterna_runtime::SamplerSettings;

/// Some way to speculate.
pub fn how(rng: &mut StdRng) -> Speculate {
    let mut when = || [When::Never, When::Measured, When::Always][rng.random_range(0..3)];
    let (lookup, model) = (when(), when());
    Speculate { lookup, model, most: rng.random_range(1..9) }
}

/// Greedy or sampled.
pub fn sampling(rng: &mut StdRng) -> SamplerSettings {
    match rng.random_range(0..3) {
        0 => SamplerSettings {
            temperature: 1.0,
            seed: rng.random_range(0..5),
            frequency_penalty: [0.0, 0.1][rng.random_range(0..2)],
            ..SamplerSettings::default()
        },
        _ => SamplerSettings::greedy(),
    }
}

/// What a client expects, if it says so: mostly what a greedy answer would be.
pub fn predicted(rng: &mut StdRng, prompt: &[u32], max_tokens: usize) -> Arc<[u32]> {
    match rng.random_bool(0.3) {
        true => spoiled(rng, continued(prompt, max_tokens), 0.05, VOCABULARY).into(),
        false => Arc::default(),
    }
}

/// A draft model that is mostly right.
pub fn draft(core: &mut Core, rng: &mut StdRng) {
    let mut drafted = Drafted { took: Duration::from_millis(1), ..Drafted::default() };
    for wanted in core.wanted_drafts() {
        // Tokens that the model does not have may be among them.
        let guess = spoiled(rng, continued(wanted.tokens, wanted.most), 0.2, VOCABULARY + 9);
        drafted.guesses.push((wanted.key, guess));
        drafted.n_rounds = 1;
    }
    core.propose(drafted);
}

/// The same tokens, but for some of them, which may be any below `n`.
fn spoiled(rng: &mut impl Rng, mut tokens: Vec<u32>, share: f64, n: usize) -> Vec<u32> {
    for token in &mut tokens {
        if rng.random_bool(share) {
            *token = rng.random_range(FIRST..n as u32);
        }
    }
    tokens
}
