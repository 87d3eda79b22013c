//! `fuse_qkv`: attention's three projections become one node.

use super::{Rewrite, shared};
use crate::patch::Patch;
use crate::{Graph, Role};

/// Query, key and value in one node.
pub struct FuseQkv;

impl Rewrite for FuseQkv {
    fn name(&self) -> &'static str {
        "fuse_qkv"
    }

    fn about(&self) -> &'static str {
        "one node computes query, key and value: the input is prepared once, threads meet once"
    }

    fn patch(&self, graph: &Graph) -> Patch {
        let roles = [Role::AttentionQuery, Role::AttentionKey, Role::AttentionValue];
        shared::merge(graph, &roles, "attn_qkv")
    }
}
