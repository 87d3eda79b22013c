//! Merging linears that share their input into one node: the input is prepared once and the threads
//! meet once, while the weights stay separate tensors.

use crate::ops::Linear;
use crate::patch::{Patch, Replacement};
use crate::{Graph, Node, NodeId, Role, ValueId};
use std::sync::Arc;

/// Replaces each set of single linears with these roles, one of each and all of the same input.
pub fn merge(graph: &Graph, roles: &[Role], suffix: &str) -> Patch {
    let mut patch = Patch::default();
    for (id, node) in graph.nodes.iter().enumerate() {
        if single(graph, node).is_none_or(|(_, role)| role != roles[0]) {
            continue;
        }
        let partner = |role: &Role| {
            let fits = |n: &Node| single(graph, n) == Some((node.inputs[0], *role));
            graph.nodes.iter().position(fits).map(NodeId)
        };
        let Some(nodes) = roles.iter().map(partner).collect::<Option<Vec<NodeId>>>() else {
            continue;
        };
        let prefix = node.name.rsplit_once('.').map_or("", |(prefix, _)| prefix);
        let insert = merged(graph, &nodes, format!("{prefix}.{suffix}"));
        let mut remove = nodes;
        remove.sort_unstable();
        debug_assert!(remove.contains(&NodeId(id)));
        patch.replacements.push(Replacement { remove, insert });
    }
    patch
}

/// The input and role of a linear of one matrix.
fn single(graph: &Graph, node: &Node) -> Option<(ValueId, Role)> {
    let linear = node.op.as_any().downcast_ref::<Linear>()?;
    (linear.n_outputs() == 1).then(|| (node.inputs[0], graph.weights[node.weights[0].0].role))
}

fn merged(graph: &Graph, nodes: &[NodeId], name: String) -> Node {
    let nodes: Vec<&Node> = nodes.iter().map(|id| &graph.nodes[id.0]).collect();
    let matrices = nodes.iter().map(|n| n.weights[0]);
    let biases = nodes.iter().filter_map(|n| n.weights.get(1).copied());
    Node {
        name,
        op: Arc::new(Linear { biases: nodes.iter().map(|n| n.weights.len() == 2).collect() }),
        inputs: nodes[0].inputs.clone(),
        weights: matrices.chain(biases).collect(),
        outputs: nodes.iter().flat_map(|n| n.outputs.clone()).collect(),
    }
}
