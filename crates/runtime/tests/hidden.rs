//! States before the head: those that a model without its head gives, whatever they are computed
//! beside.

mod common;

use common::*;
use std::sync::Arc;
use sterna_model::ops::RopeLayout;
use sterna_runtime::{Chunk, Logits, Program, Runner, RuntimeError, Settings};

fn models() -> Vec<Tiny> {
    let qwen = Shape { bias: true, head_norm: true, tied: true, layout: RopeLayout::Half, ..SMALL };
    vec![
        tiny(SMALL, &["Q8_0"], 1),
        tiny(qwen, &["F32", "Q4_0"], 2),
        bitnet("bitnet-b1.58", "TQ2_0", 3),
    ]
}

/// The states of all tokens, as results of the model without its head.
fn expected(model: &Tiny, tokens: &[u32]) -> Vec<f32> {
    let mut graph = model.graph.clone();
    let head = graph.nodes.pop().unwrap();
    graph.output = Some(head.inputs[0]);
    let program = Program::compile(&graph, model, &settings(), None).unwrap();
    all_logits(&mut Runner::new(Arc::new(program)).unwrap(), tokens)
}

#[test]
fn states_are_those_of_the_model_without_its_head() {
    let (long, short) = (tokens(37, 1), tokens(9, 2));
    for model in models() {
        let (all, other) = (expected(&model, &long), expected(&model, &short));
        for fuse in [true, false] {
            // Batches of fewer rows than the call has: it is cut in the middle of a sequence.
            let settings = Settings { hidden: true, max_batch_rows: 16, fuse, ..settings() };
            let mut runner = runner(&model, &settings);
            let len = runner.program().hidden_len().unwrap();
            let plain = all_logits(&mut runner, &long);
            let mut chunk =
                |tokens, logits| Chunk { sequence: runner.new_sequence(), tokens, logits };
            let chunks = [
                chunk(&long[..], Logits::AllHidden),
                chunk(&long[..], Logits::All),
                chunk(&short[..], Logits::LastHidden),
                chunk(&short[..], Logits::None),
            ];
            let logits = runner.forward(&chunks).unwrap().to_vec();
            assert_bits(&logits, &plain, "logits beside states");
            let states = runner.hidden();
            assert_bits(&states[..all.len()], &all, "states of all tokens");
            assert_bits(&states[all.len()..], &other[other.len() - len..], "the last one's");
            let sequence = runner.new_sequence();
            let chunk = Chunk { sequence, tokens: &short, logits: Logits::Last };
            runner.forward(&[chunk]).unwrap();
            assert!(runner.hidden().is_empty(), "nobody asked");
        }
    }
}

#[test]
fn logits_are_the_same_whether_states_may_be_asked_for() {
    let tokens = tokens(23, 3);
    for model in models() {
        let with = Settings { hidden: true, ..settings() };
        let plain = all_logits(&mut runner(&model, &settings()), &tokens);
        assert_bits(&all_logits(&mut runner(&model, &with), &tokens), &plain, "logits");
    }
}

#[test]
fn a_program_without_states_says_so() {
    let model = &models()[0];
    let mut runner = runner(model, &settings());
    let sequence = runner.new_sequence();
    let tokens = tokens(3, 4);
    let chunk = Chunk { sequence, tokens: &tokens, logits: Logits::AllHidden };
    assert!(matches!(runner.forward(&[chunk]), Err(RuntimeError::NoHidden)));
    assert_eq!(runner.len(sequence).unwrap(), 0, "nothing has changed");
}
