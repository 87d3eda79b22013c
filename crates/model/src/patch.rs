//! Patches: a graph rewrite as data, which can be printed before it is applied.
//!
//! In: a graph. Out: the graph with the replacements made and validated. The rewrites that make
//! patches are in `rewrites/`.

#[cfg(test)]
mod tests;

use crate::{Graph, Node, NodeId};
use std::collections::HashSet;

/// Nodes to be replaced by one that writes the same values.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// The nodes taken out, in execution order.
    pub remove: Vec<NodeId>,
    /// The node put in, at the place of the first.
    pub insert: Node,
}

/// Replacements that do not overlap.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// In execution order.
    pub replacements: Vec<Replacement>,
}

impl Patch {
    /// The graph with every replacement made.
    ///
    /// # Errors
    /// When the result does not validate: the sentence names the node.
    pub fn apply(&self, graph: &Graph) -> Result<Graph, String> {
        let removed: Vec<NodeId> =
            self.replacements.iter().flat_map(|r| r.remove.iter().copied()).collect();
        let unique: HashSet<NodeId> = removed.iter().copied().collect();
        if unique.len() != removed.len() {
            return Err("two replacements of the patch take out the same node".into());
        }
        let mut patched = Graph { nodes: Vec::new(), ..graph.clone() };
        for (id, node) in graph.nodes.iter().enumerate() {
            let first = |r: &&Replacement| r.remove.first() == Some(&NodeId(id));
            if let Some(replacement) = self.replacements.iter().find(first) {
                patched.nodes.push(replacement.insert.clone());
            } else if !unique.contains(&NodeId(id)) {
                patched.nodes.push(node.clone());
            }
        }
        patched.validate()?;
        Ok(patched)
    }

    /// What would change, as text: `-` lines out, a `+` line in.
    pub fn print(&self, graph: &Graph) -> String {
        let mut text = String::new();
        for replacement in &self.replacements {
            for id in &replacement.remove {
                text += &format!("- {}\n", graph.line(&graph.nodes[id.0]));
            }
            text += &format!("+ {}\n", graph.line(&replacement.insert));
        }
        text
    }
}
