//! The core with answers that are held to a grammar.

use super::*;
use crate::Constraint;
use crate::constraint::{Follower, Grammar};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use sterna_runtime::sample::TokenSet;

/// A grammar of all texts, which counts the answers that are held to it.
#[derive(Default)]
struct Anything(AtomicUsize);

impl Grammar for Anything {
    fn start(&self) -> Box<dyn Follower> {
        self.0.fetch_add(1, Relaxed);
        Box::new(Anywhere)
    }
}

struct Anywhere;

impl Follower for Anywhere {
    fn allowed(&mut self) -> Result<TokenSet, String> {
        Ok(TokenSet::new(vec![u32::MAX; VOCABULARY.div_ceil(32)], VOCABULARY))
    }

    fn accept(&mut self, _: u32) -> Result<(), String> {
        Ok(())
    }

    fn is_over(&self) -> bool {
        false
    }
}

#[test]
fn a_sequence_that_waits_has_no_place_in_its_grammar_yet() {
    let limits = Limits { max_running: 2, ..roomy() };
    let (mut core, mut device) = (Core::new(limits, tokenizer()), Device::new(4096));
    let (mut rng, grammar) = (StdRng::seed_from_u64(26), Arc::new(Anything::default()));
    for id in 0..9 {
        let constraint = Some(Constraint::new("anything", grammar.clone()));
        let stop = Stop::default();
        let request = plain(tokens(&mut rng, 20), 4, "a", Class::Default);
        core.submit(Duration::ZERO, RequestId(id), Request { constraint, stop, ..request });
    }
    assert_eq!(grammar.0.load(Relaxed), 0);
    let batch = core.plan(Duration::ZERO);
    let logits = device.run(&core, &batch);
    assert_eq!(grammar.0.load(Relaxed), 2);
    core.complete(Duration::ZERO, Duration::ZERO, &batch, &logits);
    first_tokens(&mut core, &mut device);
    assert_eq!((grammar.0.load(Relaxed), core.stats().finished.iter().sum()), (9, 9u64));
}
