//! `fuse_gate_up`: the MLP's two input projections become one node.

use super::{Rewrite, shared};
use crate::patch::Patch;
use crate::{Graph, Role};

/// MLP gate and up in one node.
pub struct FuseGateUp;

impl Rewrite for FuseGateUp {
    fn name(&self) -> &'static str {
        "fuse_gate_up"
    }

    fn about(&self) -> &'static str {
        "one node computes the MLP's gate and up: the input is prepared once, threads meet once"
    }

    fn patch(&self, graph: &Graph) -> Patch {
        shared::merge(graph, &[Role::MlpGate, Role::MlpUp], "ffn_gate_up")
    }
}
