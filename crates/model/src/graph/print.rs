//! A graph as text, one node a line, for people and golden tests.

use super::{Graph, Node, ValueId, WeightId};
use std::fmt;

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in &self.nodes {
            writeln!(f, "{}", self.line(node))?;
        }
        match self.output {
            Some(output) => writeln!(f, "return {}", self.value(output)),
            None => Ok(()),
        }
    }
}

impl Graph {
    /// `outputs = op(inputs; weights) attributes`, each with its shape where it first occurs.
    pub(crate) fn line(&self, node: &Node) -> String {
        let outputs: Vec<String> = node.outputs.iter().map(|&v| self.value(v)).collect();
        let inputs: Vec<&str> = node.inputs.iter().map(|v| &*self.values[v.0].name).collect();
        let weights: Vec<String> = node.weights.iter().map(|&w| self.shaped(w)).collect();
        let weights =
            if weights.is_empty() { String::new() } else { format!("; {}", weights.join(", ")) };
        let (op, attributes) = (node.op.name(), node.op.attributes());
        let space = if attributes.is_empty() { "" } else { " " };
        format!("{} = {op}({}{weights}){space}{attributes}", outputs.join(", "), inputs.join(", "))
    }

    fn value(&self, id: ValueId) -> String {
        let value = &self.values[id.0];
        format!("{}[{}]", value.name, value.features)
    }

    fn shaped(&self, id: WeightId) -> String {
        let weight = &self.weights[id.0];
        let shape: Vec<String> = weight.shape.iter().map(usize::to_string).collect();
        format!("{}[{}]", weight.name, shape.join("x"))
    }
}
