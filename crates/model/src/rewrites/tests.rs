//! Every rewrite on every architecture keeps the meaning bit for bit.

use super::*;
use crate::testing::{VARIANTS, Weights, config};
use crate::{archs, eval_graph};
use expect_test::expect;

#[test]
fn rewrites_keep_logits_and_weights() {
    for (variant, arch) in VARIANTS {
        let config = config(variant);
        let graph = archs::by_name(arch).unwrap().graph(&config).unwrap();
        let weights = Weights::random(&graph, 5);
        let tokens = [4, 8, 15, 16, 23];
        let want = eval_graph(&graph, &weights, &tokens).unwrap();
        let mut saved = 0;
        for rewrite in REWRITES {
            let patch = rewrite.patch(&graph);
            let gated = graph.weights.iter().any(|w| w.role == crate::Role::MlpGate);
            let applies = gated || rewrite.name() != "fuse_gate_up";
            let n_places = if applies { config.n_layers } else { 0 };
            assert_eq!(patch.replacements.len(), n_places, "{variant} {}", rewrite.name());
            saved += n_places * if rewrite.name() == "fuse_qkv" { 2 } else { 1 };
            let patched = patch.apply(&graph).unwrap();
            assert_eq!(eval_graph(&patched, &weights, &tokens).unwrap(), want);
            assert_eq!(patched.cost(9), graph.cost(9), "{variant} {}", rewrite.name());
            assert!(rewrite.patch(&patched).replacements.is_empty(), "it applies once");
        }
        let all = rewritten(&graph, REWRITES.iter().map(|r| r.name())).unwrap();
        assert_eq!(eval_graph(&all, &weights, &tokens).unwrap(), want);
        assert_eq!(all.nodes.len(), graph.nodes.len() - saved);
    }
}

#[test]
fn linears_that_see_their_input_differently_stay_apart() {
    use crate::ops::{Activations, Linear};
    let mut graph = archs::by_name("llama").unwrap().graph(&config("llama")).unwrap();
    let set = |graph: &mut crate::Graph, part: &str| {
        let node = graph.nodes.iter_mut().find(|n| n.name == part).unwrap();
        node.op = std::sync::Arc::new(Linear::int8(false));
    };
    let n_layers = config("llama").n_layers;
    set(&mut graph, "blk.0.ffn_gate");
    assert_eq!(fuse_gate_up::FuseGateUp.patch(&graph).replacements.len(), n_layers - 1);
    set(&mut graph, "blk.0.ffn_up");
    let fused = fuse_gate_up::FuseGateUp.patch(&graph).apply(&graph).unwrap();
    let node = fused.nodes.iter().find(|n| n.name == "blk.0.ffn_gate_up").unwrap();
    let linear = node.op.as_any().downcast_ref::<Linear>().unwrap();
    assert_eq!(linear.activations, Activations::Int8PerToken);
}

#[test]
fn a_patch_prints_before_it_is_applied() {
    let config = crate::Config { n_layers: 1, ..config("qwen2") };
    let graph = archs::by_name("qwen2").unwrap().graph(&config).unwrap();
    expect![[r#"
        - blk.0.attn_q[32] = linear(blk.0.attn_norm; blk.0.attn_q.weight[32x32], blk.0.attn_q.bias[32]) (bias)
        - blk.0.attn_k[16] = linear(blk.0.attn_norm; blk.0.attn_k.weight[16x32], blk.0.attn_k.bias[16]) (bias)
        - blk.0.attn_v[16] = linear(blk.0.attn_norm; blk.0.attn_v.weight[16x32], blk.0.attn_v.bias[16]) (bias)
        + blk.0.attn_q[32], blk.0.attn_k[16], blk.0.attn_v[16] = linear(blk.0.attn_norm; blk.0.attn_q.weight[32x32], blk.0.attn_k.weight[16x32], blk.0.attn_v.weight[16x32], blk.0.attn_q.bias[32], blk.0.attn_k.bias[16], blk.0.attn_v.bias[16]) (bias bias bias)
    "#]].assert_eq(&fuse_qkv::FuseQkv.patch(&graph).print(&graph));
}

#[test]
fn an_unknown_name_lists_the_known_ones() {
    let graph = archs::by_name("llama").unwrap().graph(&config("llama")).unwrap();
    let error = rewritten(&graph, ["fuse_qkw"]).unwrap_err();
    assert_eq!(error, "there is no rewrite fuse_qkw; there are fuse_qkv, fuse_gate_up");
}
