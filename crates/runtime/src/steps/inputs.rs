//! What linear layers read: kept for whoever fits their weights to it.
//!
//! A program whose values are neither fused away nor share memory has all of them at the end of a
//! batch; this notes where those lie that linear layers read.

use super::Rows;
use crate::lower::Lowering;
use sterna_model::WeightId;

/// Where the input of a linear layer lies in the arena.
#[derive(Clone, Debug)]
pub struct Input {
    /// The layer's matrices.
    pub weights: Vec<WeightId>,
    /// The first row, in f32.
    pub start: usize,
    /// Features of a row.
    pub len: usize,
    /// The rows that it runs on.
    pub rows: Rows,
}

/// Notes the input of a linear node, where it stays.
pub fn note(l: &mut Lowering<'_>, n: usize) {
    if l.settings.keeps_inputs() {
        let place = l.input(l.graph.nodes[n].inputs[0], l.rows(n));
        l.inputs.push((n, place));
    }
}
