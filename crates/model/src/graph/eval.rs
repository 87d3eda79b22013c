//! The slow, plain meaning of a graph: every op's `eval`, one node after the other.

use super::{Graph, Node};
use crate::WeightSource;
use crate::ops::EvalInputs;

/// The logits `[tokens, vocabulary]`, or an encoder's states `[tokens, features]`, of one sequence
/// from its start. Weights are decoded to f32 and
/// activations stay f32, so block-encoded models differ from the runtime by its activation codes.
///
/// # Errors
/// When there are no tokens, more than learned positions, or one that is not in the vocabulary.
pub fn eval_graph(
    graph: &Graph,
    source: &dyn WeightSource,
    tokens: &[u32],
) -> Result<Vec<f32>, String> {
    let output = graph.output.ok_or("the graph has no output")?;
    let vocab_len = graph.vocab_len();
    if tokens.is_empty() {
        return Err("there are no tokens to evaluate".into());
    }
    if let Some(token) = tokens.iter().find(|&&t| t as usize >= vocab_len) {
        return Err(format!("token {token} is not in the vocabulary of {vocab_len}"));
    }
    if let Some(n) = graph.n_positions()
        && tokens.len() > n
    {
        return Err(format!("{} tokens, but the model has learned {n} positions", tokens.len()));
    }
    let mut values: Vec<Vec<f32>> = vec![Vec::new(); graph.values.len()];
    values[Graph::TOKENS.0] = tokens.iter().map(|&t| t as f32).collect();
    for node in &graph.nodes {
        let outputs = eval_node(graph, source, node, &values, tokens.len());
        for (id, output) in node.outputs.iter().zip(outputs) {
            values[id.0] = output;
        }
    }
    Ok(std::mem::take(&mut values[output.0]))
}

fn eval_node(
    graph: &Graph,
    source: &dyn WeightSource,
    node: &Node,
    values: &[Vec<f32>],
    n_rows: usize,
) -> Vec<Vec<f32>> {
    let weights: Vec<Vec<f32>> = node.weights.iter().map(|&w| source.weight(w).to_f32()).collect();
    let weights: Vec<&[f32]> = weights.iter().map(Vec::as_slice).collect();
    let inputs: Vec<&[f32]> = node.inputs.iter().map(|v| values[v.0].as_slice()).collect();
    let features = |v: &super::ValueId| graph.values[v.0].features;
    let mut outputs: Vec<Vec<f32>> =
        node.outputs.iter().map(|v| vec![0.0; n_rows * features(v)]).collect();
    let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    let from = EvalInputs { n_rows, inputs: &inputs, weights: &weights };
    node.op.eval(&from, &mut slices);
    outputs
}
