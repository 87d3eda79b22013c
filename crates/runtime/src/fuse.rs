//! Which nodes are computed inside another node's steps. Pure decisions over a graph; the numbers
//! are the same either way, because the same kernels see the same rows.

use crate::steps::elementwise::GateKind;
use std::collections::{HashMap, HashSet};
use sterna_model::ops::{Attention, LayerNorm, Linear, RmsNorm, Rope};
use sterna_model::{Graph, Op, ValueId};

/// The decisions.
#[derive(Debug, Default)]
pub struct Fusions {
    /// Nodes that get no step of their own.
    pub absorbed: HashSet<usize>,
    /// Linear node -> the add node it accumulates into, and the value it is added to.
    pub accumulate: HashMap<usize, (usize, ValueId)>,
    /// Linear node of two outputs -> the gate node (`swiglu`, `relu2`) it feeds.
    pub gated: HashMap<usize, usize>,
}

/// What the passes below ask about a graph.
pub struct Uses<'g> {
    graph: &'g Graph,
    producer: Vec<Option<usize>>,
    consumers: Vec<Vec<usize>>,
}

impl<'g> Uses<'g> {
    /// Who writes and who reads each value.
    pub fn new(graph: &'g Graph) -> Self {
        let mut producer = vec![None; graph.values.len()];
        let mut consumers = vec![Vec::new(); graph.values.len()];
        for (n, node) in graph.nodes.iter().enumerate() {
            node.outputs.iter().for_each(|v| producer[v.0] = Some(n));
            node.inputs.iter().for_each(|v| consumers[v.0].push(n));
        }
        Self { graph, producer, consumers }
    }

    /// The nodes that read a value.
    pub fn consumers(&self, value: ValueId) -> &[usize] {
        &self.consumers[value.0]
    }

    /// The node that writes a value; `tokens` has none.
    pub fn producer(&self, value: ValueId) -> Option<usize> {
        self.producer[value.0]
    }

    /// The op that writes a value, if it is a `T`.
    fn made_by<T: 'static>(&self, value: ValueId) -> Option<(usize, &'g T)> {
        let node = self.producer(value)?;
        Some((node, self.graph.nodes[node].op.as_any().downcast_ref()?))
    }

    /// Whether `node` alone reads the value, once, and it is not the result.
    fn only_for(&self, value: ValueId, node: usize) -> bool {
        self.consumers(value) == [node] && self.graph.output != Some(value)
    }
}

/// The nodes on the way from a linear layer to an attention input, nearest first: a rope, then a
/// norm per head, each read by nobody else.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadChain {
    /// The rotation.
    pub rope: Option<usize>,
    /// The norm per head.
    pub norm: Option<usize>,
}

/// The chain before an attention input, and the value it starts from.
pub fn head_chain(uses: &Uses<'_>, attention: usize, value: ValueId) -> (HeadChain, ValueId) {
    let graph = uses.graph;
    let Some(op) = graph.nodes[attention].op.as_any().downcast_ref::<Attention>() else {
        return (HeadChain::default(), value);
    };
    let (mut chain, mut at, mut reader) = (HeadChain::default(), value, attention);
    if let Some((node, rope)) = uses.made_by::<Rope>(at)
        && uses.only_for(at, reader)
        && rope.head_dim == op.head_dim
    {
        chain.rope = Some(node);
        (at, reader) = (graph.nodes[node].inputs[0], node);
    }
    if let Some((node, norm)) = uses.made_by::<RmsNorm>(at)
        && uses.only_for(at, reader)
        && norm.group_len == op.head_dim
    {
        chain.norm = Some(node);
        at = graph.nodes[node].inputs[0];
    }
    (chain, at)
}

/// Decides for a whole graph.
pub fn decide(graph: &Graph, uses: &Uses<'_>) -> Fusions {
    let mut fusions = Fusions::default();
    for (n, node) in graph.nodes.iter().enumerate() {
        let op = node.op.as_any();
        if op.is::<Attention>() {
            for &value in &node.inputs[..2] {
                let (chain, _) = head_chain(uses, n, value);
                fusions.absorbed.extend(chain.rope.into_iter().chain(chain.norm));
            }
        } else if is_norm(&*node.op) && feeds_linears_only(graph, uses, n) {
            fusions.absorbed.insert(n);
        } else if let Some(linear) = op.downcast_ref::<Linear>() {
            if let Some(gate) = gated(graph, uses, n, linear) {
                fusions.gated.insert(n, gate);
                fusions.absorbed.insert(gate);
            } else if let Some((add, value)) = accumulates(graph, uses, n, linear) {
                fusions.accumulate.insert(n, (add, value));
                fusions.absorbed.insert(add);
            }
        }
    }
    fusions
}

/// Whether an op is a norm, which linear layers can compute while they prepare.
pub fn is_norm(op: &dyn Op) -> bool {
    op.as_any().is::<RmsNorm>() || op.as_any().is::<LayerNorm>()
}

/// A norm over whole rows whose readers are linear layers: it is computed while they prepare.
fn feeds_linears_only(graph: &Graph, uses: &Uses<'_>, node: usize) -> bool {
    let value = graph.nodes[node].outputs[0];
    let readers = uses.consumers(value);
    let linear = |&n: &usize| graph.nodes[n].op.as_any().is::<Linear>();
    !readers.is_empty() && readers.iter().all(linear) && graph.output != Some(value)
}

/// Gate and up of one linear layer, read by one gate op only.
fn gated(graph: &Graph, uses: &Uses<'_>, node: usize, linear: &Linear) -> Option<usize> {
    let &[gate, up] = graph.nodes[node].outputs.as_slice() else { return None };
    let &[reader] = uses.consumers(gate) else { return None };
    let fits = GateKind::of(&*graph.nodes[reader].op).is_some()
        && graph.nodes[reader].inputs == [gate, up]
        && uses.only_for(gate, reader)
        && uses.only_for(up, reader)
        && !linear.biases.contains(&true);
    fits.then_some(reader)
}

/// A linear layer whose one output is only added to a value that nobody needs afterwards. A bias
/// forbids it: `(h + Wx) + b` rounds differently from `h + (Wx + b)`.
fn accumulates(
    graph: &Graph,
    uses: &Uses<'_>,
    node: usize,
    linear: &Linear,
) -> Option<(usize, ValueId)> {
    let &[y] = graph.nodes[node].outputs.as_slice() else { return None };
    let &[add] = uses.consumers(y) else { return None };
    let adder = &graph.nodes[add];
    let &[a, b] = adder.inputs.as_slice() else { return None };
    let h = if a == y { b } else { a };
    let sum = adder.outputs[0];
    let done_with = |&reader: &usize| reader == add || last_read(graph, uses, reader) <= node;
    let fits = adder.op.name() == "add"
        && h != y
        && h != Graph::TOKENS
        && uses.only_for(y, add)
        && uses.producer(h).is_some_and(|p| p < node)
        && uses.consumers(h).iter().all(done_with)
        && graph.output != Some(h)
        && graph.output != Some(sum)
        && !linear.biases[0];
    fits.then_some((add, h))
}

/// The last node that may read what `reader` reads: norms and ropes may be computed inside the
/// nodes they feed, and so read as late as those.
fn last_read(graph: &Graph, uses: &Uses<'_>, reader: usize) -> usize {
    let op = graph.nodes[reader].op.as_any();
    if !is_norm(&*graph.nodes[reader].op) && !op.is::<Rope>() {
        return reader;
    }
    let readers = uses.consumers(graph.nodes[reader].outputs[0]).iter();
    readers.map(|&r| last_read(graph, uses, r)).max().unwrap_or(reader)
}
