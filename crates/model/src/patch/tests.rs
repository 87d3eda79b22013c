//! Patches that must be refused.

use super::*;
use crate::Role;
use crate::ops::{Add, Linear};

fn graph() -> Graph {
    let mut graph = Graph::default();
    let w = graph.weight("w", &[1, 1], Role::MlpUp, None);
    let a = graph.add("a", Linear::new(false), &[Graph::TOKENS], &[w]).unwrap();
    graph.output = Some(graph.add("b", Add, &[a, Graph::TOKENS], &[]).unwrap());
    graph
}

#[test]
fn a_node_is_taken_out_once() {
    let graph = graph();
    let insert = graph.nodes[0].clone();
    let replacement = Replacement { remove: vec![NodeId(0)], insert };
    let patch = Patch { replacements: vec![replacement.clone()] };
    assert_eq!(patch.apply(&graph).unwrap().print(), graph.print());
    let twice = Patch { replacements: vec![replacement.clone(), replacement] };
    assert!(twice.apply(&graph).unwrap_err().contains("same node"));
}

#[test]
fn a_value_that_is_no_longer_written_is_named() {
    let graph = graph();
    let insert = Node { name: "c".into(), outputs: vec![], ..graph.nodes[0].clone() };
    let patch = Patch { replacements: vec![Replacement { remove: vec![NodeId(0)], insert }] };
    assert!(patch.apply(&graph).unwrap_err().contains("node c: has 0 outputs, not 1"));
    assert!(patch.print(&graph).starts_with("- a[1] = linear(tokens; w[1x1])\n+ "));
}
