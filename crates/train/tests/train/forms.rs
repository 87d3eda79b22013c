//! Every op's differentiable form gives what `runtime` gives.

use crate::common::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use sterna_model::{Graph, eval_graph};
use sterna_runtime::{Chunk, KvEncoding, Logits, Program, Runner, Settings};
use sterna_train::Net;
use sterna_train::backend::Cpu;
use sterna_train::forms::forms;
use sterna_train::net::Modes;

const LIMIT: f32 = 1e-4;

/// Texts per architecture.
const TEXTS: usize = 10;

/// Where activations are rounded to int8, one within f32 noise of the middle between two codes may
/// take either, and the two sides then differ by a code: in so many texts at most.
const ROUNDED_OTHERWISE: usize = 3;

#[test]
fn every_op_can_be_trained() {
    let known: BTreeSet<&str> = forms::<Cpu>().iter().map(|f| f.op).collect();
    let mut ops: BTreeSet<&str> = sterna_model::ops::OPS.iter().map(|op| op.name()).collect();
    assert!(ops.remove("type_embedding"), "only encoders have it, and they are not trained");
    assert_eq!(known, ops);
}

#[test]
fn encoders_are_refused() {
    let arch = sterna_model::archs::by_name("bert").unwrap();
    let graph = Arc::new(arch.graph(&config(arch)).unwrap());
    let modes = Modes::default();
    let refused = Net::<Cpu>::new(graph, 8, &|_| Vec::new(), modes, &Default::default());
    let why = refused.err().unwrap().to_string();
    assert!(why.contains("encodes texts"), "{why}");
}

/// Prints the parity table; run with `--nocapture` to see it.
#[test]
fn forward_equals_the_runtime_for_every_architecture() {
    println!(
        "{:<14} {:>11} {:>11} {:>11} {:>7}",
        "architecture", "max |logit|", "vs eval", "vs runtime", "texts"
    );
    for (name, graph) in graphs() {
        let rounds = !graph.bit_matrices().is_empty();
        let all: Vec<Worst> = (0..TEXTS).map(|seed| compare(&graph, seed as u64)).collect();
        let close: Vec<&Worst> = all.iter().filter(|w| w.eval.max(w.runtime) < LIMIT).collect();
        let most = |of: &dyn Fn(&Worst) -> f32| close.iter().fold(0.0f32, |m, w| m.max(of(w)));
        let (largest, eval) = (most(&|w| w.largest), most(&|w| w.eval));
        let runtime = most(&|w| w.runtime);
        let n = close.len();
        println!("{name:<14} {largest:>11.3} {eval:>11.2e} {runtime:>11.2e} {n:>4}/{TEXTS}");
        assert!(largest > 0.5, "{name}: logits must differ for the comparison to mean anything");
        let needed = if rounds { TEXTS - ROUNDED_OTHERWISE } else { TEXTS };
        assert!(n >= needed, "{name}: only {n} of {TEXTS} texts within {LIMIT:e}");
        assert!(all.iter().all(|w| w.eval.max(w.runtime) < 0.1), "{name}: more than a code apart");
    }
}

/// The largest logit, and the largest differences.
struct Worst {
    largest: f32,
    eval: f32,
    runtime: f32,
}

fn compare(graph: &Graph, seed: u64) -> Worst {
    let (n, seq_len) = (2, 12);
    let values = weights(graph, seed);
    let quantizer = full_precision(graph);
    let source = source(graph, &values, &quantizer);
    let frozen = |id: sterna_model::WeightId| values[id.0].clone();
    let shared = Arc::new(graph.clone());
    let net =
        Net::<Cpu>::new(shared, seq_len, &frozen, Modes::default(), &Default::default()).unwrap();
    let (tokens, batch) = batch(n, seq_len, graph.out_features());
    let logits = net.forward(&tensors(graph, &values), &batch);
    let logits: Vec<f32> = logits.to_data().into_vec().unwrap();
    let settings = Settings { context_len: 64, kv: KvEncoding::F32, ..Settings::default() };
    let program = Program::compile(graph, &source, &settings, None).unwrap();
    let mut runner = Runner::new(Arc::new(program)).unwrap();
    let (mut from_eval, mut from_runtime) = (Vec::new(), Vec::new());
    for tokens in tokens.chunks(seq_len) {
        from_eval.extend(eval_graph(graph, &source, tokens).unwrap());
        let sequence = runner.new_sequence();
        let chunk = Chunk { sequence, tokens, logits: Logits::All };
        from_runtime.extend_from_slice(runner.forward(&[chunk]).unwrap());
        runner.free(sequence).unwrap();
    }
    let worst = |other: &[f32]| {
        assert_eq!(other.len(), logits.len());
        other.iter().zip(&logits).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()))
    };
    let largest = logits.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    Worst { largest, eval: worst(&from_eval), runtime: worst(&from_runtime) }
}
