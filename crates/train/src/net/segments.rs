//! Where a graph can be cut, so that its parts are computed and differentiated one by one.

use std::ops::Range;
use sterna_model::{Graph, ValueId};

/// The last node that reads each value; the node that writes it where none does.
pub fn last_use(graph: &Graph) -> Vec<usize> {
    let mut last = vec![0; graph.values.len()];
    for (n, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().chain(&node.outputs).for_each(|v| last[v.0] = n);
    }
    if let Some(output) = graph.output {
        last[output.0] = graph.nodes.len();
    }
    last
}

/// The values that are written up to a node and read after it.
pub fn live_after(graph: &Graph, last_use: &[usize], n: usize) -> Vec<ValueId> {
    let written = graph.nodes[..=n].iter().flat_map(|node| node.outputs.iter().copied());
    written.filter(|v| last_use[v.0] > n).collect()
}

/// The whole graph, or cut wherever a single value goes on: between the halves of each layer of a
/// decoder.
pub fn segments(graph: &Graph, last_use: &[usize], cut: bool) -> Vec<Range<usize>> {
    let nodes = graph.nodes.len();
    let mut cuts = vec![0];
    for n in 0..nodes.saturating_sub(1) {
        let is_residual = graph.nodes[n].op.name() == "add";
        if cut && is_residual && live_after(graph, last_use, n).len() == 1 {
            cuts.push(n + 1);
        }
    }
    cuts.push(nodes);
    cuts.windows(2).map(|w| w[0]..w[1]).collect()
}
