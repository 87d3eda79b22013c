//! The decisions on machines whose steps take a known time.

use super::*;
use crate::batch::Part;
use sterna_runtime::Logits;

fn measured() -> Speculation {
    Speculation::new(Speculate { lookup: When::Measured, model: When::Measured, most: 8 })
}

fn batch(rows: usize) -> Batch {
    let (n_drafted, logits) = (rows - 1, Logits::All);
    let part = Part { key: 0, n_tokens: rows, n_drafted, logits, is_decode: true };
    Batch { copies: Vec::new(), parts: vec![part] }
}

/// Tokens per millisecond of a sequence whose guesses of 8 tokens are right with a chance, on a
/// machine whose steps take so many milliseconds for their rows.
fn rate(speculation: &mut Speculation, chance: f64, step_ms: impl Fn(usize) -> f64) -> f64 {
    let gain = |n: usize| chance.powi(n as i32);
    let (mut tokens, mut ms) = (0.0, 0.0);
    for _ in 0..4_000 {
        let more = speculation.best(1, (1..=8).map(gain));
        let took = step_ms(1 + more);
        tokens += 1.0 + (1..=more).map(gain).sum::<f64>();
        ms += took;
        speculation.learn(&batch(1 + more), Duration::from_secs_f64(took / 1e3));
    }
    tokens / ms
}

// proves that speculation is switched off by measurement, and on again
#[test]
fn guesses_are_computed_where_they_pay_and_nowhere_else() {
    let memory_bound = |rows: usize| 10.0 + rows as f64;
    let compute_bound = |rows: usize| 10.0 * rows as f64;
    let mut speculation = measured();
    let plain = [1.0 / memory_bound(1), 1.0 / compute_bound(1)];
    let gained = rate(&mut speculation, 0.8, memory_bound) / plain[0];
    assert!(gained > 2.0, "{gained} of plain decoding");
    // The machine has changed: nothing is gained, and little is spent to see whether that holds.
    let lost = rate(&mut speculation, 0.8, compute_bound) / plain[1];
    assert!((0.95..=1.0).contains(&lost), "{lost} of plain decoding");
    let again = rate(&mut speculation, 0.8, memory_bound) / plain[0];
    assert!(again > 2.0, "{again} of plain decoding");
    // Guesses that are never right are never computed, however cheap.
    assert_eq!(rate(&mut speculation, 0.0, |_| 10.0), 0.1);
}

#[test]
fn nothing_is_guessed_before_a_plain_step_is_known() {
    let mut speculation = measured();
    assert_eq!(speculation.best(3, [1.0; 8].into_iter()), 0);
    speculation.learn(&batch(1), Duration::from_millis(10));
    assert_eq!(speculation.best(3, [1.0; 8].into_iter()), 0, "of as many sequences");
    speculation.learn(&batch(3), Duration::from_millis(10));
    assert_eq!(speculation.best(3, [1.0; 8].into_iter()), 8);
    let mut off = Speculation::default();
    off.learn(&batch(3), Duration::from_millis(10));
    assert_eq!(off.best(3, [1.0; 8].into_iter()), 0, "what is off learns nothing");
}
