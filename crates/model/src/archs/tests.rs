//! A tiny golden model of each architecture: its graph as text, and the logits of seeded weights.

use super::*;
use crate::testing::{VARIANTS, Weights, config};
use crate::{Config, eval_graph};
use expect_test::{Expect, expect};

/// The first logits after a few tokens, rounded to what every platform agrees on.
fn logits(arch: &dyn Arch, config: &Config) -> String {
    let graph = arch.graph(config).unwrap();
    let tokens = [1, 2, 3, 4, 5, 6, 7, 8, 9];
    let logits = eval_graph(&graph, &Weights::random(&graph, 42), &tokens).unwrap();
    let last = &logits[logits.len() - graph.out_features()..][..6];
    last.iter().map(|x| format!("{x:.4}")).collect::<Vec<_>>().join(" ")
}

fn check(variant: &str, arch: &str, graph: Option<Expect>, want: Expect) {
    let (arch, config) = (by_name(arch).unwrap(), config(variant));
    if let Some(golden) = graph {
        let one_layer = Config { n_layers: 1, ..config.clone() };
        golden.assert_eq(&arch.graph(&one_layer).unwrap().print());
    }
    want.assert_eq(&logits(arch, &config));
}

#[test]
fn llama() {
    let graph = expect![[r#"
        embed[32] = embedding(tokens; token_embd.weight[40x32])
        blk.0.attn_norm[32] = rms_norm(embed; blk.0.attn_norm.weight[32]) eps=1e-5 group=32
        blk.0.attn_q[32] = linear(blk.0.attn_norm; blk.0.attn_q.weight[32x32])
        blk.0.attn_k[16] = linear(blk.0.attn_norm; blk.0.attn_k.weight[16x32])
        blk.0.attn_v[16] = linear(blk.0.attn_norm; blk.0.attn_v.weight[16x32])
        blk.0.rope_q[32] = rope(blk.0.attn_q) interleaved head=8 rotary=8 base=10000
        blk.0.rope_k[16] = rope(blk.0.attn_k) interleaved head=8 rotary=8 base=10000
        blk.0.attention[32] = attention(blk.0.rope_q, blk.0.rope_k, blk.0.attn_v) heads=4 kv_heads=2 head=8 scale=0.35355338
        blk.0.attn_output[32] = linear(blk.0.attention; blk.0.attn_output.weight[32x32])
        blk.0.attn_residual[32] = add(embed, blk.0.attn_output)
        blk.0.ffn_norm[32] = rms_norm(blk.0.attn_residual; blk.0.ffn_norm.weight[32]) eps=1e-5 group=32
        blk.0.ffn_gate[48] = linear(blk.0.ffn_norm; blk.0.ffn_gate.weight[48x32])
        blk.0.ffn_up[48] = linear(blk.0.ffn_norm; blk.0.ffn_up.weight[48x32])
        blk.0.swiglu[48] = swiglu(blk.0.ffn_gate, blk.0.ffn_up)
        blk.0.ffn_down[32] = linear(blk.0.swiglu; blk.0.ffn_down.weight[32x48])
        blk.0.ffn_residual[32] = add(blk.0.attn_residual, blk.0.ffn_down)
        output_norm[32] = rms_norm(blk.0.ffn_residual; output_norm.weight[32]) eps=1e-5 group=32
        logits[40] = linear(output_norm; output.weight[40x32])
        return logits[40]
    "#]];
    check("llama", "llama", Some(graph), expect!["-2.0365 0.3954 0.4861 -0.3164 0.5770 1.1382"]);
}

#[test]
fn llama3_has_factors_and_here_biases() {
    check("llama3", "llama", None, expect!["0.3007 0.5048 -1.4423 0.2877 -1.4317 0.2861"]);
}

#[test]
fn mistral_has_a_window() {
    check("mistral", "llama", None, expect!["-2.8372 0.0525 -0.2944 -0.4686 0.4930 0.5032"]);
}

#[test]
fn qwen2() {
    let graph = expect![[r#"
        embed[32] = embedding(tokens; token_embd.weight[40x32])
        blk.0.attn_norm[32] = rms_norm(embed; blk.0.attn_norm.weight[32]) eps=1e-5 group=32
        blk.0.attn_q[32] = linear(blk.0.attn_norm; blk.0.attn_q.weight[32x32], blk.0.attn_q.bias[32]) (bias)
        blk.0.attn_k[16] = linear(blk.0.attn_norm; blk.0.attn_k.weight[16x32], blk.0.attn_k.bias[16]) (bias)
        blk.0.attn_v[16] = linear(blk.0.attn_norm; blk.0.attn_v.weight[16x32], blk.0.attn_v.bias[16]) (bias)
        blk.0.rope_q[32] = rope(blk.0.attn_q) half head=8 rotary=8 base=10000 scale=2
        blk.0.rope_k[16] = rope(blk.0.attn_k) half head=8 rotary=8 base=10000 scale=2
        blk.0.attention[32] = attention(blk.0.rope_q, blk.0.rope_k, blk.0.attn_v) heads=4 kv_heads=2 head=8 scale=0.35355338
        blk.0.attn_output[32] = linear(blk.0.attention; blk.0.attn_output.weight[32x32])
        blk.0.attn_residual[32] = add(embed, blk.0.attn_output)
        blk.0.ffn_norm[32] = rms_norm(blk.0.attn_residual; blk.0.ffn_norm.weight[32]) eps=1e-5 group=32
        blk.0.ffn_gate[48] = linear(blk.0.ffn_norm; blk.0.ffn_gate.weight[48x32])
        blk.0.ffn_up[48] = linear(blk.0.ffn_norm; blk.0.ffn_up.weight[48x32])
        blk.0.swiglu[48] = swiglu(blk.0.ffn_gate, blk.0.ffn_up)
        blk.0.ffn_down[32] = linear(blk.0.swiglu; blk.0.ffn_down.weight[32x48])
        blk.0.ffn_residual[32] = add(blk.0.attn_residual, blk.0.ffn_down)
        output_norm[32] = rms_norm(blk.0.ffn_residual; output_norm.weight[32]) eps=1e-5 group=32
        logits[40] = linear(output_norm; token_embd.weight[40x32])
        return logits[40]
    "#]];
    check("qwen2", "qwen2", Some(graph), expect!["-1.4221 1.5866 1.4540 1.3515 -0.2336 0.4218"]);
}

#[test]
fn qwen3() {
    let graph = expect![[r#"
        embed[32] = embedding(tokens; token_embd.weight[40x32])
        blk.0.attn_norm[32] = rms_norm(embed; blk.0.attn_norm.weight[32]) eps=1e-5 group=32
        blk.0.attn_q[64] = linear(blk.0.attn_norm; blk.0.attn_q.weight[64x32])
        blk.0.attn_k[32] = linear(blk.0.attn_norm; blk.0.attn_k.weight[32x32])
        blk.0.attn_v[32] = linear(blk.0.attn_norm; blk.0.attn_v.weight[32x32])
        blk.0.attn_q_norm[64] = rms_norm(blk.0.attn_q; blk.0.attn_q_norm.weight[16]) eps=1e-5 group=16
        blk.0.attn_k_norm[32] = rms_norm(blk.0.attn_k; blk.0.attn_k_norm.weight[16]) eps=1e-5 group=16
        blk.0.rope_q[64] = rope(blk.0.attn_q_norm) half head=16 rotary=16 base=10000
        blk.0.rope_k[32] = rope(blk.0.attn_k_norm) half head=16 rotary=16 base=10000
        blk.0.attention[64] = attention(blk.0.rope_q, blk.0.rope_k, blk.0.attn_v) heads=4 kv_heads=2 head=16 scale=0.25
        blk.0.attn_output[32] = linear(blk.0.attention; blk.0.attn_output.weight[32x64])
        blk.0.attn_residual[32] = add(embed, blk.0.attn_output)
        blk.0.ffn_norm[32] = rms_norm(blk.0.attn_residual; blk.0.ffn_norm.weight[32]) eps=1e-5 group=32
        blk.0.ffn_gate[48] = linear(blk.0.ffn_norm; blk.0.ffn_gate.weight[48x32])
        blk.0.ffn_up[48] = linear(blk.0.ffn_norm; blk.0.ffn_up.weight[48x32])
        blk.0.swiglu[48] = swiglu(blk.0.ffn_gate, blk.0.ffn_up)
        blk.0.ffn_down[32] = linear(blk.0.swiglu; blk.0.ffn_down.weight[32x48])
        blk.0.ffn_residual[32] = add(blk.0.attn_residual, blk.0.ffn_down)
        output_norm[32] = rms_norm(blk.0.ffn_residual; output_norm.weight[32]) eps=1e-5 group=32
        logits[40] = linear(output_norm; output.weight[40x32])
        return logits[40]
    "#]];
    check("qwen3", "qwen3", Some(graph), expect!["-0.1049 0.3367 -1.2051 1.0785 0.7177 0.3398"]);
}

#[test]
fn bitnet_b158() {
    let graph = expect![[r#"
        embed[32] = embedding(tokens; token_embd.weight[40x32])
        blk.0.attn_norm[32] = rms_norm(embed; blk.0.attn_norm.weight[32]) eps=1e-5 group=32
        blk.0.attn_q[32] = linear(blk.0.attn_norm; blk.0.attn_q.weight[32x32]) activations=int8
        blk.0.attn_k[16] = linear(blk.0.attn_norm; blk.0.attn_k.weight[16x32]) activations=int8
        blk.0.attn_v[16] = linear(blk.0.attn_norm; blk.0.attn_v.weight[16x32]) activations=int8
        blk.0.rope_q[32] = rope(blk.0.attn_q) half head=8 rotary=8 base=10000
        blk.0.rope_k[16] = rope(blk.0.attn_k) half head=8 rotary=8 base=10000
        blk.0.attention[32] = attention(blk.0.rope_q, blk.0.rope_k, blk.0.attn_v) heads=4 kv_heads=2 head=8 scale=0.35355338
        blk.0.attn_sub_norm[32] = rms_norm(blk.0.attention; blk.0.attn_sub_norm.weight[32]) eps=1e-5 group=32
        blk.0.attn_output[32] = linear(blk.0.attn_sub_norm; blk.0.attn_output.weight[32x32]) activations=int8
        blk.0.attn_residual[32] = add(embed, blk.0.attn_output)
        blk.0.ffn_norm[32] = rms_norm(blk.0.attn_residual; blk.0.ffn_norm.weight[32]) eps=1e-5 group=32
        blk.0.ffn_gate[48] = linear(blk.0.ffn_norm; blk.0.ffn_gate.weight[48x32]) activations=int8
        blk.0.ffn_up[48] = linear(blk.0.ffn_norm; blk.0.ffn_up.weight[48x32]) activations=int8
        blk.0.relu2[48] = relu2(blk.0.ffn_gate, blk.0.ffn_up)
        blk.0.ffn_sub_norm[48] = rms_norm(blk.0.relu2; blk.0.ffn_sub_norm.weight[48]) eps=1e-5 group=48
        blk.0.ffn_down[32] = linear(blk.0.ffn_sub_norm; blk.0.ffn_down.weight[32x48]) activations=int8
        blk.0.ffn_residual[32] = add(blk.0.attn_residual, blk.0.ffn_down)
        output_norm[32] = rms_norm(blk.0.ffn_residual; output_norm.weight[32]) eps=1e-5 group=32
        logits[40] = linear(output_norm; token_embd.weight[40x32])
        return logits[40]
    "#]];
    check(
        "bitnet-b1.58",
        "bitnet-b1.58",
        Some(graph),
        expect!["0.0659 -0.1813 0.2476 0.3695 0.2629 1.3701"],
    );
}

#[test]
fn bitnet_as_llama_cpp_names_it_has_silu() {
    check("bitnet", "bitnet", None, expect!["-1.2668 0.5619 -0.2649 0.8392 -0.1932 1.0408"]);
    let text = by_name("bitnet").unwrap().graph(&config("bitnet")).unwrap().print();
    assert!(text.contains("swiglu(") && text.contains("ffn_sub_norm"), "{text}");
}

#[test]
fn bitnet_gpt() {
    let graph = expect![[r#"
        embed[32] = embedding(tokens; token_embd.weight[40x32])
        position_embed[32] = position_embedding(embed; position_embd.weight[64x32])
        blk.0.attn_norm[32] = layer_norm(position_embed; blk.0.attn_norm.weight[32], blk.0.attn_norm.bias[32]) eps=1e-5
        blk.0.attn_q[32] = linear(blk.0.attn_norm; blk.0.attn_q.weight[32x32]) activations=int8
        blk.0.attn_k[16] = linear(blk.0.attn_norm; blk.0.attn_k.weight[16x32]) activations=int8
        blk.0.attn_v[16] = linear(blk.0.attn_norm; blk.0.attn_v.weight[16x32]) activations=int8
        blk.0.attention[32] = attention(blk.0.attn_q, blk.0.attn_k, blk.0.attn_v) heads=4 kv_heads=2 head=8 scale=0.35355338
        blk.0.attn_output[32] = linear(blk.0.attention; blk.0.attn_output.weight[32x32]) activations=int8
        blk.0.attn_residual[32] = add(position_embed, blk.0.attn_output)
        blk.0.ffn_norm[32] = layer_norm(blk.0.attn_residual; blk.0.ffn_norm.weight[32], blk.0.ffn_norm.bias[32]) eps=1e-5
        blk.0.ffn_up[48] = linear(blk.0.ffn_norm; blk.0.ffn_up.weight[48x32], blk.0.ffn_up.bias[48]) (bias) activations=int8
        blk.0.gelu[48] = gelu(blk.0.ffn_up)
        blk.0.ffn_down[32] = linear(blk.0.gelu; blk.0.ffn_down.weight[32x48], blk.0.ffn_down.bias[32]) (bias) activations=int8
        blk.0.ffn_residual[32] = add(blk.0.attn_residual, blk.0.ffn_down)
        output_norm[32] = layer_norm(blk.0.ffn_residual; output_norm.weight[32], output_norm.bias[32]) eps=1e-5
        logits[40] = linear(output_norm; output.weight[40x32]) activations=int8
        return logits[40]
    "#]];
    check(
        "bitnet-gpt",
        "bitnet-gpt",
        Some(graph),
        expect!["-0.0819 1.2359 -0.7226 1.3985 0.5625 -0.5740"],
    );
    let arch = by_name("bitnet-gpt").unwrap();
    let config = Config { context_len: 3, ..config("bitnet-gpt") };
    let graph = arch.graph(&config).unwrap();
    let error = eval_graph(&graph, &Weights::random(&graph, 1), &[1; 4]).unwrap_err();
    assert_eq!(error, "4 tokens, but the model has learned 3 positions");
    let tied = arch.graph(&Config { tied: true, ..config }).unwrap();
    assert!(tied.find_weight("output.weight").is_none());
    assert_eq!(tied.bit_matrices().len(), 6 * 2, "a tied head is not ternary");
}

#[test]
fn bert() {
    let graph = expect![[r#"
        embed[32] = embedding(tokens; token_embd.weight[40x32])
        type_embed[32] = type_embedding(embed; token_types.weight[2x32])
        position_embed[32] = position_embedding(type_embed; position_embd.weight[64x32])
        token_embd_norm[32] = layer_norm(position_embed; token_embd_norm.weight[32], token_embd_norm.bias[32]) eps=1e-5
        blk.0.attn_q[32] = linear(token_embd_norm; blk.0.attn_q.weight[32x32], blk.0.attn_q.bias[32]) (bias)
        blk.0.attn_k[32] = linear(token_embd_norm; blk.0.attn_k.weight[32x32], blk.0.attn_k.bias[32]) (bias)
        blk.0.attn_v[32] = linear(token_embd_norm; blk.0.attn_v.weight[32x32], blk.0.attn_v.bias[32]) (bias)
        blk.0.attention[32] = attention(blk.0.attn_q, blk.0.attn_k, blk.0.attn_v) heads=4 kv_heads=4 head=8 scale=0.35355338 whole
        blk.0.attn_output[32] = linear(blk.0.attention; blk.0.attn_output.weight[32x32], blk.0.attn_output.bias[32]) (bias)
        blk.0.attn_residual[32] = add(token_embd_norm, blk.0.attn_output)
        blk.0.attn_output_norm[32] = layer_norm(blk.0.attn_residual; blk.0.attn_output_norm.weight[32], blk.0.attn_output_norm.bias[32]) eps=1e-5
        blk.0.ffn_up[48] = linear(blk.0.attn_output_norm; blk.0.ffn_up.weight[48x32], blk.0.ffn_up.bias[48]) (bias)
        blk.0.gelu[48] = gelu(blk.0.ffn_up)
        blk.0.ffn_down[32] = linear(blk.0.gelu; blk.0.ffn_down.weight[32x48], blk.0.ffn_down.bias[32]) (bias)
        blk.0.ffn_residual[32] = add(blk.0.attn_output_norm, blk.0.ffn_down)
        blk.0.layer_output_norm[32] = layer_norm(blk.0.ffn_residual; blk.0.layer_output_norm.weight[32], blk.0.layer_output_norm.bias[32]) eps=1e-5
        return blk.0.layer_output_norm[32]
    "#]];
    check("bert", "bert", Some(graph), expect!["-0.3676 0.9902 -1.6053 -1.1151 0.9337 -0.9020"]);
    let arch = by_name("bert").unwrap();
    let config = config("bert");
    let graph = arch.graph(&config).unwrap();
    assert!(graph.is_encoder());
    assert_eq!((graph.vocab_len(), graph.out_features()), (config.vocab_len, config.dim));
    let weights = Weights::random(&graph, 1);
    let states = |tokens: &[u32]| eval_graph(&graph, &weights, tokens).unwrap();
    let (short, long) = (states(&[1, 2, 3]), states(&[1, 2, 3, 4]));
    assert_ne!(short[..config.dim], long[..config.dim], "a token sees those after it");
}

#[test]
fn every_architecture_has_a_golden_model_and_no_class_is_read_as_two() {
    for arch in ARCHS {
        assert!(VARIANTS.iter().any(|(_, name)| *name == arch.name()), "{}", arch.name());
        for class in arch.classes() {
            assert_eq!(by_class(class).unwrap().name(), arch.name());
        }
    }
}

#[test]
fn accounting_comes_from_the_graph() {
    let config = config("llama");
    let graph = by_name("llama").unwrap().graph(&config).unwrap();
    let matrices = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32) + 2 * 40 * 32;
    assert_eq!(graph.n_parameters(), matrices as u64 + 5 * 32);
    let memory = graph.memory(&Weights::random(&graph, 1));
    assert_eq!(memory.total(), 4 * graph.n_parameters());
    assert_eq!(memory.by_role[&Role::Norm], 4 * 5 * 32);
    assert_eq!(graph.kv_bytes_per_token(2.0), 2.0 * 2.0 * 2.0 * 16.0);
    let slope = graph.cost(11).macs - graph.cost(10).macs;
    assert_eq!(slope, 2.0 * 2.0 * 32.0, "scores and values, of each layer, per position");
}
