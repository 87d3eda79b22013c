//! Memory is planned: what becomes resident stays within what was announced. Alone in its binary,
//! so that no other test uses memory meanwhile.

mod common;

use common::*;
use sterna_runtime::{Chunk, Logits, Settings};

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

// proves K-5, P-5, T-6
#[test]
fn resident_memory_stays_within_the_plan() {
    let shape = Shape {
        dim: 1024,
        ffn: 3072,
        layers: 3,
        heads: 16,
        kv_heads: 8,
        vocabulary: 4096,
        ..SMALL
    };
    let model = tiny(shape, &["Q8_0", "F16"], 1);
    let settings =
        Settings { context_len: 1024, max_batch_rows: 256, logits_rows: 129, ..settings() };
    let before = resident();
    let mut runner = runner(&model, &settings);
    let planned = runner.memory();
    assert!(resident() - before < planned.weights + planned.tables + (4 << 20), "KV is lazy");
    let sequence = runner.new_sequence();
    let tokens: Vec<u32> = (0..1024).collect();
    let (first, rest) = tokens.split_at(129);
    runner.forward(&[Chunk { sequence, tokens: first, logits: Logits::All }]).unwrap();
    runner.forward(&[Chunk { sequence, tokens: rest, logits: Logits::Last }]).unwrap();
    let used = resident() - before;
    // Thread stacks, huge-page rounding of the packed weights, the allocator's own: a few MiB.
    let slack = 6 << 20;
    assert!(used <= planned.total() + slack, "{used} of {planned:?}");
    assert!(
        used + slack >= planned.total(),
        "{used}: the plan announces what is used, {planned:?}"
    );
    let shares = [planned.weights, planned.arena, planned.kv, planned.scratch, planned.logits];
    assert!(shares.iter().all(|&bytes| bytes > 0));
}
