//! What linear layers read can be seen after a call: it is what the graph before them gives.

mod common;

use common::*;
use std::sync::Arc;
use sterna_model::ops::RopeLayout;
use sterna_runtime::{Chunk, Logits, Program, Runner, Settings};

/// A value of the graph, `[tokens, features]`, as the result of a program that ends there.
fn result_of(
    model: &Tiny,
    n_nodes: usize,
    value: sterna_model::ValueId,
    tokens: &[u32],
) -> Vec<f32> {
    let mut graph = model.graph.clone();
    graph.nodes.truncate(n_nodes);
    graph.output = Some(value);
    let program = Program::compile(&graph, model, &settings(), None).unwrap();
    all_logits(&mut Runner::new(Arc::new(program)).unwrap(), tokens)
}

#[test]
fn what_linear_layers_read_is_what_comes_before_them() {
    let qwen = Shape { bias: true, head_norm: true, tied: true, layout: RopeLayout::Half, ..SMALL };
    for model in [tiny(SMALL, &["Q8_0"], 1), tiny(qwen, &["F32", "Q4_0"], 2)] {
        let keeping = Settings { fuse: false, pool: false, ..settings() };
        let mut runner = runner(&model, &keeping);
        let tokens = tokens(37, 1);
        let sequence = runner.new_sequence();
        runner.forward(&[Chunk { sequence, tokens: &tokens, logits: Logits::All }]).unwrap();
        let mut seen = runner.linear_inputs();
        for (n, node) in model.graph.nodes.iter().enumerate() {
            if node.op.name() != "linear" {
                continue;
            }
            let (weights, len, rows) = seen.next().expect("every linear layer has one");
            assert_eq!(weights, &node.weights[..node.outputs.len()], "{}", node.name);
            assert_eq!(len, model.graph.values[node.inputs[0].0].features);
            let expected = result_of(&model, n, node.inputs[0], &tokens);
            assert_bits(rows, &expected, &node.name);
        }
        assert!(seen.next().is_none());
    }
}

#[test]
fn where_values_share_memory_there_is_nothing_to_see() {
    let model = tiny(SMALL, &["Q8_0"], 1);
    for settings in [settings(), Settings { fuse: false, ..settings() }] {
        let mut runner = runner(&model, &settings);
        let sequence = runner.new_sequence();
        runner.forward(&[Chunk { sequence, tokens: &[1, 2], logits: Logits::All }]).unwrap();
        assert_eq!(runner.linear_inputs().count(), 0);
    }
}
