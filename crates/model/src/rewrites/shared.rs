//! Merging linears that share their input into one node: the input is prepared once and the threads
//! meet once, while the weights stay separate tensors.

use crate::ops::{Activations, Linear};
use crate::patch::{Patch, Replacement};
use crate::{Graph, Node, NodeId, Role, ValueId};
use std::sync::Arc;

/// Replaces each set of single linears with these roles, one of each, all of the same input and
/// seeing it in the same form.
pub fn merge(graph: &Graph, roles: &[Role], suffix: &str) -> Patch {
    let mut patch = Patch::default();
    for (id, node) in graph.nodes.iter().enumerate() {
        let Some((input, role, activations)) = single(graph, node) else { continue };
        if role != roles[0] {
            continue;
        }
        let partner = |role: &Role| {
            let fits = |n: &Node| single(graph, n) == Some((input, *role, activations));
            graph.nodes.iter().position(fits).map(NodeId)
        };
        let Some(nodes) = roles.iter().map(partner).collect::<Option<Vec<NodeId>>>() else {
            continue;
        };
        let prefix = node.name.rsplit_once('.').map_or("", |(prefix, _)| prefix);
        let insert = merged(graph, &nodes, activations, format!("{prefix}.{suffix}"));
        let mut remove = nodes;
        remove.sort_unstable();
        debug_assert!(remove.contains(&NodeId(id)));
        patch.replacements.push(Replacement { remove, insert });
    }
    patch
}

/// The input, role and activations of a linear of one matrix.
fn single(graph: &Graph, node: &Node) -> Option<(ValueId, Role, Activations)> {
    let linear = node.op.as_any().downcast_ref::<Linear>()?;
    let role = || graph.weights[node.weights[0].0].role;
    (linear.n_outputs() == 1).then(|| (node.inputs[0], role(), linear.activations))
}

fn merged(graph: &Graph, nodes: &[NodeId], activations: Activations, name: String) -> Node {
    let nodes: Vec<&Node> = nodes.iter().map(|id| &graph.nodes[id.0]).collect();
    let matrices = nodes.iter().map(|n| n.weights[0]);
    let biases = nodes.iter().filter_map(|n| n.weights.get(1).copied());
    let has_bias = nodes.iter().map(|n| n.weights.len() == 2).collect();
    Node {
        name,
        op: Arc::new(Linear { biases: has_bias, activations }),
        inputs: nodes[0].inputs.clone(),
        weights: matrices.chain(biases).collect(),
        outputs: nodes.iter().flat_map(|n| n.outputs.clone()).collect(),
    }
}
