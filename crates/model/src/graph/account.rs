//! What a graph costs: arithmetic and KV traffic per token, bytes of its weights by role.

use super::{Graph, Node};
use crate::ops::{Activations, Attention, Linear};
use crate::{Cost, Role, WeightId, WeightSource};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a graph's weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Encoded bytes by what the weights do.
    pub by_role: BTreeMap<Role, u64>,
}

impl Memory {
    /// All weights together.
    pub fn total(&self) -> u64 {
        self.by_role.values().sum()
    }
}

impl Graph {
    /// What one token costs when `context` positions are visible to it.
    pub fn cost(&self, context: usize) -> Cost {
        self.node_costs(context).into_iter().fold(Cost::default(), |sum, cost| sum + cost)
    }

    /// [`Graph::cost`] of each node.
    pub fn node_costs(&self, context: usize) -> Vec<Cost> {
        let cost = |node: &super::Node| {
            let inputs: Vec<usize> =
                node.inputs.iter().map(|v| self.values[v.0].features).collect();
            node.op.cost(&inputs, &self.shapes(&node.weights), context)
        };
        self.nodes.iter().map(cost).collect()
    }

    /// Bytes of the weights as `source` encodes them; a shared weight counts once.
    pub fn memory(&self, source: &dyn WeightSource) -> Memory {
        let mut memory = Memory::default();
        for id in self.weight_ids() {
            let decl = self.decl(id);
            let (rows, cols) = decl.matrix();
            let bytes = rows * source.encoding(id).row_bytes(cols);
            *memory.by_role.entry(decl.role).or_default() += bytes as u64;
        }
        memory
    }

    /// Bytes of KV cache per token, at `element_bytes` per number.
    pub fn kv_bytes_per_token(&self, element_bytes: f64) -> f64 {
        self.cost(1).kv_elements * element_bytes
    }

    /// Numbers in all weights: the parameter count.
    pub fn n_parameters(&self) -> u64 {
        self.weights.iter().map(super::WeightDecl::n_values).sum()
    }

    /// The matrices that meet int8 activations only, in file order: those of BitNet's `BitLinear`
    /// layers, which are ternary (or binary) once trained.
    pub fn bit_matrices(&self) -> Vec<WeightId> {
        let (mut bit, mut other) = (BTreeSet::new(), BTreeSet::new());
        for node in &self.nodes {
            let linear = node.op.as_any().downcast_ref::<Linear>();
            let n_bit = linear
                .filter(|linear| linear.activations == Activations::Int8PerToken)
                .map_or(0, Linear::n_outputs);
            bit.extend(&node.weights[..n_bit]);
            other.extend(&node.weights[n_bit..]);
        }
        bit.difference(&other).copied().collect()
    }

    /// Numbers in [`Graph::bit_matrices`]: the quantized parameters of a BitNet model.
    pub fn n_bit_parameters(&self) -> u64 {
        self.bit_matrices().into_iter().map(|id| self.decl(id).n_values()).sum()
    }

    /// Entries of the vocabulary that tokens come from: rows of the smallest token embedding.
    pub fn vocab_len(&self) -> usize {
        let tables = self.weights.iter().filter(|w| w.role == Role::TokenEmbedding);
        tables.map(|table| table.shape[0]).min().unwrap_or(0)
    }

    /// Whether it reads texts and writes none: its tokens see those after them, so that it has no
    /// next token. Its result is the tokens' states.
    pub fn is_encoder(&self) -> bool {
        let sees_all =
            |node: &Node| node.op.as_any().downcast_ref::<Attention>().is_some_and(|op| !op.causal);
        self.nodes.iter().any(sees_all)
    }

    /// Positions that the graph has learned rows for; `None` where positions have no table.
    pub fn n_positions(&self) -> Option<usize> {
        let tables = self.weights.iter().filter(|w| w.role == Role::PositionEmbedding);
        tables.map(|table| table.shape[0]).min()
    }
}

impl super::WeightDecl {
    /// Numbers in it.
    pub fn n_values(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64
    }

    /// Rows and columns; a vector is one row.
    pub fn matrix(&self) -> (usize, usize) {
        match *self.shape.as_slice() {
            [rows, cols] => (rows, cols),
            _ => (1, self.shape.iter().product()),
        }
    }
}
