//! The graph: ops over values `[rows, features]`, the leading dimension (tokens of any sequences)
//! free. One graph serves the CPU program, cost models, memory accounting and editing passes.
//!
//! Architectures build it with [`Graph::add`], rewrites change it by patches, [`Graph::validate`]
//! says what does not hold, and its [`Display`](std::fmt::Display) text is what golden tests pin.

mod account;
mod eval;
mod print;
#[cfg(test)]
mod tests;
mod validate;

pub use account::Memory;
pub use eval::eval_graph;

use crate::{Op, Role};
use std::sync::Arc;

/// Index of a value in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);
/// Index of a node in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);
/// Index of a weight in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub usize);

/// A weight the graph needs.
#[derive(Clone, Debug)]
pub struct WeightDecl {
    /// Its GGUF name, e.g. `blk.3.ffn_up.weight`.
    pub name: String,
    /// `[rows, cols]`, or `[len]` for vectors.
    pub shape: Vec<usize>,
    /// What it does.
    pub role: Role,
    /// The layer it belongs to, if to one.
    pub layer: Option<usize>,
}

/// One application of an op.
#[derive(Clone, Debug)]
pub struct Node {
    /// Unique, for people: `blk.3.attn_qkv`.
    pub name: String,
    /// What is computed.
    pub op: Arc<dyn Op>,
    /// Values read. The token ids are the graph's `tokens` value, of one feature.
    pub inputs: Vec<ValueId>,
    /// Weights read, in the order the op documents.
    pub weights: Vec<WeightId>,
    /// Values written; each value is written once.
    pub outputs: Vec<ValueId>,
}

/// A value: `[rows, features]` in f32.
#[derive(Clone, Debug)]
pub struct ValueDecl {
    /// Unique, for people.
    pub name: String,
    /// Features per row.
    pub features: usize,
}

/// Nodes in execution order.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Every value; `values[0]` is `tokens`.
    pub values: Vec<ValueDecl>,
    /// Every weight.
    pub weights: Vec<WeightDecl>,
    /// Every node, in an order in which each value is written before it is read.
    pub nodes: Vec<Node>,
    /// The logits (or other result), `[rows, vocabulary]`.
    pub output: Option<ValueId>,
}

impl Default for Graph {
    fn default() -> Self {
        let tokens = ValueDecl { name: "tokens".into(), features: 1 };
        Self { values: vec![tokens], weights: Vec::new(), nodes: Vec::new(), output: None }
    }
}

impl Graph {
    /// The token ids, `[rows, 1]`.
    pub const TOKENS: ValueId = ValueId(0);

    /// Declares a weight.
    pub fn weight(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        role: Role,
        layer: Option<usize>,
    ) -> WeightId {
        let decl = WeightDecl { name: name.into(), shape: shape.to_vec(), role, layer };
        self.weights.push(decl);
        WeightId(self.weights.len() - 1)
    }

    /// Appends a node of one output, which takes the node's name.
    ///
    /// # Errors
    /// When the shapes do not fit the op.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        op: impl Op,
        inputs: &[ValueId],
        weights: &[WeightId],
    ) -> Result<ValueId, String> {
        let name = name.into();
        let op: Arc<dyn Op> = Arc::new(op);
        let features = self
            .features_of(&*op, inputs, weights)
            .map_err(|problem| format!("{name}: {problem}"))?;
        let &[features] = features.as_slice() else {
            return Err(format!("{name}: {} has {} outputs", op.name(), features.len()));
        };
        let output = ValueId(self.values.len());
        self.values.push(ValueDecl { name: name.clone(), features });
        let (inputs, weights) = (inputs.to_vec(), weights.to_vec());
        self.nodes.push(Node { name, op, inputs, weights, outputs: vec![output] });
        Ok(output)
    }

    /// What the op says its outputs are.
    pub(crate) fn features_of(
        &self,
        op: &dyn Op,
        inputs: &[ValueId],
        weights: &[WeightId],
    ) -> Result<Vec<usize>, String> {
        let inputs: Vec<usize> = inputs.iter().map(|v| self.values[v.0].features).collect();
        op.out_features(&inputs, &self.shapes(weights))
    }

    /// The shapes of some weights.
    pub(crate) fn shapes(&self, weights: &[WeightId]) -> Vec<&[usize]> {
        weights.iter().map(|w| self.weights[w.0].shape.as_slice()).collect()
    }

    /// The weight of that name.
    pub fn find_weight(&self, name: &str) -> Option<WeightId> {
        self.weights.iter().position(|w| w.name == name).map(WeightId)
    }

    /// Every weight's id, in file order.
    pub fn weight_ids(&self) -> impl Iterator<Item = WeightId> + use<> {
        (0..self.weights.len()).map(WeightId)
    }

    /// The declaration of a weight.
    pub fn decl(&self, weight: WeightId) -> &WeightDecl {
        &self.weights[weight.0]
    }

    /// The nodes that read a weight: more than one for tied embeddings and RoPE factors.
    pub fn readers(&self, weight: WeightId) -> impl Iterator<Item = NodeId> {
        let reads = move |(_, node): &(usize, &Node)| node.weights.contains(&weight);
        self.nodes.iter().enumerate().filter(reads).map(|(id, _)| NodeId(id))
    }

    /// Features of the output: the vocabulary's size.
    ///
    /// # Panics
    /// When the graph has no output yet.
    pub fn out_features(&self) -> usize {
        self.values[self.output.expect("a finished graph has an output").0].features
    }

    /// The same text as [`Display`](std::fmt::Display).
    pub fn print(&self) -> String {
        self.to_string()
    }
}
