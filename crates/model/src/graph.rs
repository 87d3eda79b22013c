//! The graph: ops over values `[rows, features]`, the leading dimension (tokens of any sequences)
//! free. One graph serves the CPU program, cost models, memory accounting and editing passes.

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
#[derive(Clone, Debug, Default)]
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
