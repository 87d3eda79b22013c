//! Golden text, validation and accounting of a graph small enough to read.

use super::*;
use crate::Cost;
use crate::ops::{Attention, Linear, RmsNorm};
use expect_test::expect;

fn graph() -> Graph {
    let mut graph = Graph::default();
    let norm = graph.weight("norm", &[1], Role::Norm, None);
    let up = graph.weight("up", &[4, 1], Role::MlpUp, Some(0));
    let bias = graph.weight("up.bias", &[4], Role::Bias, Some(0));
    let op = RmsNorm { eps: 1e-5, group_len: 1 };
    let x = graph.add("x", op, &[Graph::TOKENS], &[norm]).unwrap();
    let y = graph.add("y", Linear::new(true), &[x], &[up, bias]).unwrap();
    let op = Attention {
        n_heads: 2,
        n_kv_heads: 2,
        head_dim: 2,
        scale: 0.5,
        window: Some(8),
        causal: true,
    };
    graph.output = Some(graph.add("z", op, &[y, y, y], &[]).unwrap());
    graph
}

#[test]
fn golden_text() {
    expect![[r#"
        x[1] = rms_norm(tokens; norm[1]) eps=1e-5 group=1
        y[4] = linear(x; up[4x1], up.bias[4]) (bias)
        z[4] = attention(y, y, y) heads=2 kv_heads=2 head=2 scale=0.5 window=8
        return z[4]
    "#]]
    .assert_eq(&graph().print());
}

#[test]
fn cost_grows_with_context_up_to_the_window() {
    let graph = graph();
    assert_eq!(graph.cost(1), Cost { macs: 2.0 + 4.0 + 8.0, kv_elements: 8.0, kv_read: 8.0 });
    assert_eq!(graph.cost(100), Cost { macs: 2.0 + 4.0 + 64.0, kv_elements: 8.0, kv_read: 64.0 });
    assert_eq!(graph.kv_bytes_per_token(2.0), 16.0);
    assert_eq!(graph.n_parameters(), 9);
}

#[test]
fn what_does_not_hold_is_named() {
    graph().validate().unwrap();
    let check = |change: &dyn Fn(&mut Graph), want: &str| {
        let mut graph = graph();
        change(&mut graph);
        let error = graph.validate().unwrap_err();
        assert!(error.contains(want), "{error}");
    };
    check(&|g| g.nodes.swap(0, 1), "node y: reads x before it is written");
    check(&|g| g.nodes[1].outputs = vec![ValueId(1)], "writes 4 features to x of 1");
    check(&|g| g.nodes.push(Node { name: "x2".into(), ..g.nodes[0].clone() }), "writes x again");
    check(&|g| g.nodes[1].weights[0] = WeightId(9), "weight number 9");
    check(&|g| g.nodes[0].outputs = vec![ValueId(9)], "value number 9");
    check(&|g| g.weights[1].shape = vec![4, 2], "node y: a 4x2 matrix does not fit 1 inputs");
    check(&|g| g.nodes[2].name = "x".into(), "two nodes are named x");
    check(&|g| g.output = None, "no output");
    check(&|g| g.values[0].features = 2, "first value");
}

#[test]
fn a_misshapen_node_cannot_be_added() {
    let mut graph = graph();
    let weight = WeightId(1);
    let error = graph.add("bad", Linear::new(false), &[ValueId(2)], &[weight]).unwrap_err();
    assert_eq!(error, "bad: a 4x1 matrix does not fit 4 inputs");
}
