//! The rewrites: changes of a graph that keep its meaning and its weights.
//!
//! In: a graph. Out: a [`Patch`] that can be printed before it is applied. A rewrite is one file,
//! plus one line in [`REWRITES`].

mod shared;

pub mod fuse_gate_up;
pub mod fuse_qkv;
#[cfg(test)]
mod tests;

use crate::Graph;
use crate::patch::Patch;

/// Every rewrite, by the names that Plans use.
pub const REWRITES: &[&dyn Rewrite] = &[&fuse_qkv::FuseQkv, &fuse_gate_up::FuseGateUp];

/// A change of a graph that keeps its meaning and its weights.
pub trait Rewrite: Sync {
    /// Its name in Plans, e.g. `fuse_qkv`.
    fn name(&self) -> &'static str;
    /// What it does and why, in one sentence.
    fn about(&self) -> &'static str;
    /// Every place where it applies; no replacements when there is none.
    fn patch(&self, graph: &Graph) -> Patch;
}

/// The rewrite of that name.
///
/// # Errors
/// A sentence listing the names there are.
pub fn rewrite(name: &str) -> Result<&'static dyn Rewrite, String> {
    REWRITES.iter().copied().find(|r| r.name() == name).ok_or_else(|| {
        let names: Vec<&str> = REWRITES.iter().map(|r| r.name()).collect();
        format!("there is no rewrite {name}; there are {}", names.join(", "))
    })
}

/// The graph after the named rewrites, in order.
///
/// # Errors
/// When a name is unknown, or a patch does not fit.
pub fn rewritten<'a>(
    graph: &Graph,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<Graph, String> {
    names.into_iter().try_fold(graph.clone(), |graph, name| {
        rewrite(name)?.patch(&graph).apply(&graph).map_err(|problem| format!("{name}: {problem}"))
    })
}
