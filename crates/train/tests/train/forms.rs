//! Every op's differentiable form gives what `runtime` gives.

use crate::common::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use sterna_model::eval_graph;
use sterna_runtime::{Chunk, KvEncoding, Logits, Program, Runner, Settings};
use sterna_train::Net;
use sterna_train::backend::Cpu;
use sterna_train::forms::forms;

const LIMIT: f32 = 1e-4;

#[test]
fn every_op_can_be_trained() {
    let known: BTreeSet<&str> = forms::<Cpu>().iter().map(|f| f.op).collect();
    let ops: BTreeSet<&str> = sterna_model::ops::OPS.iter().map(|op| op.name()).collect();
    assert_eq!(known, ops);
}

/// Prints the parity table; run with `--nocapture` to see it.
#[test]
fn forward_equals_the_runtime_for_every_architecture() {
    let (n, seq_len) = (2, 12);
    println!("{:<14} {:>14} {:>14} {:>14}", "architecture", "max |logit|", "vs eval", "vs runtime");
    for (name, graph) in graphs() {
        let values = weights(&graph, 7);
        let quantizer = full_precision(&graph);
        let source = source(&graph, &values, &quantizer);
        let graph = Arc::new(graph.clone());
        let frozen = |id: sterna_model::WeightId| values[id.0].clone();
        let net = Net::<Cpu>::new(graph.clone(), seq_len, &frozen, false, &Default::default());
        let (tokens, batch) = batch(n, seq_len, graph.out_features());
        let logits = net.unwrap().forward(&tensors(&graph, &values), &batch);
        let logits: Vec<f32> = logits.to_data().into_vec().unwrap();
        let settings = Settings { context_len: 64, kv: KvEncoding::F32, ..Settings::default() };
        let program = Program::compile(&graph, &source, &settings, None).unwrap();
        let mut runner = Runner::new(Arc::new(program)).unwrap();
        let (mut from_eval, mut from_runtime) = (Vec::new(), Vec::new());
        for tokens in tokens.chunks(seq_len) {
            from_eval.extend(eval_graph(&graph, &source, tokens).unwrap());
            let sequence = runner.new_sequence();
            let chunk = Chunk { sequence, tokens, logits: Logits::All };
            from_runtime.extend_from_slice(runner.forward(&[chunk]).unwrap());
            runner.free(sequence).unwrap();
        }
        let largest = logits.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let worst = |other: &[f32]| {
            assert_eq!(other.len(), logits.len());
            other.iter().zip(&logits).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()))
        };
        let (eval, runtime) = (worst(&from_eval), worst(&from_runtime));
        println!("{name:<14} {largest:>14.3} {eval:>14.2e} {runtime:>14.2e}");
        assert!(largest > 0.5, "{name}: logits must differ for the comparison to mean anything");
        assert!(eval < LIMIT && runtime < LIMIT, "{name}: eval {eval:e}, runtime {runtime:e}");
    }
}
