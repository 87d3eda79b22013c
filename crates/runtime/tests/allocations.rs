//! Steady state allocates nothing, counted over all threads of the process. Alone in its binary, so
//! that no other test allocates meanwhile.

mod common;
#[path = "common/counting.rs"]
mod counting;

use common::*;
use counting::Counting;
use sterna_runtime::flags::{FLAGS, LEVELS};
use sterna_runtime::{Chunk, Logits, Settings};

#[global_allocator]
static COUNTED: Counting = Counting::new();

// proves T-6, P-2
#[test]
fn a_decode_step_allocates_nothing() {
    let shape = Shape { bias: true, head_norm: true, ..SMALL };
    let model = tiny(shape, &["Q4_0", "F16", "Q8_0", "Q6_K"], 1);
    for (threads, what, settings) in ways() {
        let settings = Settings { threads: Some(threads), ..settings };
        let mut runner = runner(&model, &settings);
        let sequences = [runner.new_sequence(), runner.new_sequence()];
        let prompt = tokens(20, 1);
        let chunk = |sequence, tokens| Chunk { sequence, tokens, logits: Logits::Last };
        runner.forward(&sequences.map(|s| chunk(s, &prompt[..]))).unwrap();
        let next = tokens(100, 2);
        let mut sum = 0.0;
        let before = COUNTED.allocations();
        // Past several page ends, and once more a whole prompt.
        for token in next.chunks(1) {
            sum += runner.forward(&sequences.map(|s| chunk(s, token))).unwrap()[0];
        }
        for sequence in sequences {
            runner.truncate(sequence, 5).unwrap();
        }
        sum += runner.forward(&sequences.map(|s| chunk(s, &prompt[..]))).unwrap()[0];
        let after = COUNTED.allocations();
        assert!(sum.is_finite());
        assert_eq!(after - before, 0, "{threads} threads, {what}");
    }
}

/// Every level, and every flag switched from the default.
fn ways() -> Vec<(usize, String, Settings)> {
    let tuned = [("claims", 3)];
    let mut ways = Vec::new();
    for (name, level) in LEVELS {
        let settings = level.flags().settings(*level, settings(), tuned);
        ways.extend([1, 2].map(|threads| (threads, (*name).to_owned(), settings.clone())));
        for flag in FLAGS {
            let mut flags = level.flags();
            let is_on = (flag.get)(&flags);
            (flag.set)(&mut flags, !is_on);
            let what = format!("{name} with {} switched", flag.name);
            ways.push((2, what, flags.settings(*level, self::settings(), tuned)));
        }
    }
    ways
}
