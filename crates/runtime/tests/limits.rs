//! What a runner refuses, and that refusing changes nothing; what attention may see.

mod common;

use common::*;
use sterna_model::Graph;
use sterna_runtime::{Chunk, Logits, Program, RuntimeError, Settings};

#[test]
fn refusals_are_sentences_and_change_nothing() {
    let model = tiny(SMALL, &["Q8_0"], 1);
    let settings = Settings { kv_positions: Some(128), ..settings() };
    let mut runner = runner(&model, &settings);
    let (a, b) = (runner.new_sequence(), runner.new_sequence());
    let text = tokens(100, 1);
    let chunk = |sequence, n| Chunk { sequence, tokens: &text[..n], logits: Logits::Last };
    runner.forward(&[chunk(a, 90)]).unwrap();
    let mut refuse = |chunks: &[Chunk<'_>], wanted: &str| {
        let message = runner.forward(chunks).unwrap_err().to_string();
        assert!(message.contains(wanted), "{message}");
        assert_eq!((runner.len(a).unwrap(), runner.len(b).unwrap()), (90, 0));
    };
    refuse(&[chunk(a, 50)], "90 tokens and 50 more would exceed 128");
    refuse(&[chunk(b, 40)], "2 more pages are needed and 1 of 4 are free");
    refuse(&[chunk(a, 5), chunk(b, 33)], "the KV cache is full");
    refuse(&[chunk(b, 1), chunk(b, 1)], "occurs twice");
    let strange = [3, 96];
    refuse(
        &[Chunk { sequence: b, tokens: &strange, logits: Logits::None }],
        "token 96 is outside the vocabulary of 96",
    );
    let wanted = runner.forward(&[chunk(b, 32)]).unwrap().to_vec();
    let message = runner.truncate(b, 33).unwrap_err().to_string();
    assert_eq!(message, "sequence 1 has 32 tokens and cannot be cut to 33");
    runner.free(a).unwrap();
    assert!(matches!(runner.forward(&[chunk(a, 1)]), Err(RuntimeError::UnknownSequence(0))));
    assert!(runner.free(a).is_err() && runner.len(a).is_err());
    let c = runner.new_sequence();
    assert_bits(runner.forward(&[chunk(c, 32)]).unwrap(), &wanted, "in the freed pages");
    assert!(runner.forward(&[]).unwrap().is_empty());
}

#[test]
fn programs_that_cannot_be_made_say_why() {
    let model = tiny(SMALL, &["F32"], 1);
    let refused = |settings: Settings| {
        Program::compile(&model.graph, &model, &settings, None).err().unwrap().to_string()
    };
    assert!(refused(Settings { isa: Some("mmx".into()), ..settings() }).contains("mmx"));
    let message = refused(Settings { max_batch_rows: 0, ..settings() });
    assert_eq!(message, "max_batch_rows is 0, but must be at least 1");
    let plain = Settings { fuse: false, ..settings() };
    let empty = Program::compile(&Graph::default(), &model, &plain, None);
    let message = empty.err().unwrap().to_string();
    assert_eq!(message, "node output cannot be run: the graph has none");
}

// proves T-11
#[test]
fn attention_sees_the_past_within_its_window_only() {
    let shape = Shape { window: Some(9), layers: 2, ..SMALL };
    let model = tiny(shape, &["Q8_0"], 3);
    let mut runner = runner(&model, &settings());
    let n = runner.program().n_outputs();
    let text = tokens(60, 3);
    let logits = all_logits(&mut runner, &text);
    for changed in [0, 20, 59] {
        let mut other = text.clone();
        other[changed] = (other[changed] + 1) % 96;
        let others = all_logits(&mut runner, &other);
        for (row, (x, y)) in logits.chunks(n).zip(others.chunks(n)).enumerate() {
            // Two layers look back twice, eight positions each.
            let reach = (changed..=changed + 16).contains(&row);
            assert_eq!(x != y, reach, "token {changed}, row {row}");
        }
    }
}
