//! What must hold of every graph, whoever built or patched it.

use super::{Graph, Node};
use std::collections::HashSet;

impl Graph {
    /// Checks that shapes fit, that every value is written once and before it is read, and that
    /// names are unique.
    ///
    /// # Errors
    /// A sentence naming the node or value and what is wrong.
    pub fn validate(&self) -> Result<(), String> {
        let mut written = vec![false; self.values.len()];
        match self.values.first() {
            Some(tokens) if tokens.features == 1 => written[0] = true,
            _ => return Err("the first value must be the tokens, of one feature".into()),
        }
        unique("value", self.values.iter().map(|v| v.name.as_str()))?;
        unique("weight", self.weights.iter().map(|w| w.name.as_str()))?;
        unique("node", self.nodes.iter().map(|n| n.name.as_str()))?;
        for node in &self.nodes {
            self.validate_node(node, &mut written)
                .map_err(|problem| format!("node {}: {problem}", node.name))?;
        }
        match self.output {
            Some(output) if written.get(output.0) == Some(&true) => Ok(()),
            Some(_) => Err("the graph's output is never written".into()),
            None => Err("the graph has no output".into()),
        }
    }

    fn validate_node(&self, node: &Node, written: &mut [bool]) -> Result<(), String> {
        if let Some(input) = node.inputs.iter().find(|v| written.get(v.0) != Some(&true)) {
            let name = self.values.get(input.0).map_or("a value that is not there", |v| &v.name);
            return Err(format!("reads {name} before it is written"));
        }
        if let Some(weight) = node.weights.iter().find(|w| w.0 >= self.weights.len()) {
            return Err(format!("reads weight number {}, which is not there", weight.0));
        }
        let features = self.features_of(&*node.op, &node.inputs, &node.weights)?;
        if features.len() != node.outputs.len() {
            return Err(format!("has {} outputs, not {}", node.outputs.len(), features.len()));
        }
        for (output, features) in node.outputs.iter().zip(features) {
            let Some(value) = self.values.get(output.0) else {
                return Err(format!("writes value number {}, which is not there", output.0));
            };
            if value.features != features {
                let declared = value.features;
                return Err(format!("writes {features} features to {} of {declared}", value.name));
            }
            if std::mem::replace(&mut written[output.0], true) {
                return Err(format!("writes {} again", value.name));
            }
        }
        Ok(())
    }
}

fn unique<'a>(kind: &str, mut names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut seen = HashSet::new();
    match names.find(|name| !seen.insert(*name)) {
        Some(name) => Err(format!("two {kind}s are named {name}")),
        None => Ok(()),
    }
}
