//! What is missing, wrong or unsupported in hyper-parameters and weights, each as one sentence.

use crate::testing::{self, Weights, config, config_json};
use crate::{Model, archs};
use expect_test::{Expect, expect};
use serde_json::{Value as Json, json};
use std::path::Path;
use sterna_formats::{Array, Metadata, Value};

/// What `result` says, with the directory left out.
fn message(dir: &Path, result: Result<Model, sterna_formats::FormatError>) -> String {
    let text = result.expect_err("the model should be refused").to_string();
    assert!(!text.contains('\n'), "{text}");
    text.replace(&format!("{}/", dir.display()), "").replace(&dir.display().to_string(), "DIR")
}

/// A sound GGUF model after a change to its metadata or its tensors' names and shapes.
fn gguf(change: impl Fn(&mut Metadata, &mut crate::Graph)) -> String {
    let (dir, arch) = (tempfile::tempdir().unwrap(), archs::by_name("llama").unwrap());
    let mut graph = arch.graph(&config("llama")).unwrap();
    let mut metadata = arch.metadata(&config("llama"));
    change(&mut metadata, &mut graph);
    let path = dir.path().join("m.gguf");
    testing::write_gguf(&path, &metadata, &graph, &Weights::random(&graph, 1));
    message(dir.path(), Model::open(&path))
}

/// A sound Hugging Face directory after a change to its `config.json`.
fn hf(change: impl Fn(&mut Json)) -> String {
    let (dir, arch) = (tempfile::tempdir().unwrap(), archs::by_name("llama").unwrap());
    let config = config("llama");
    let weights = Weights::random(&arch.graph(&config).unwrap(), 1);
    testing::huggingface(dir.path(), arch, &config, &weights);
    let mut json = config_json(arch, &config);
    change(&mut json);
    std::fs::write(dir.path().join("config.json"), json.to_string()).unwrap();
    message(dir.path(), Model::open(dir.path()))
}

fn all(messages: &[String], want: Expect) {
    want.assert_eq(&(messages.join("\n") + "\n"));
}

#[test]
fn gguf_metadata() {
    let set = |key: &'static str, value: Value| {
        gguf(move |metadata, _| metadata.set(format!("llama.{key}"), value.clone()))
    };
    let remove = |key: &'static str| gguf(move |metadata, _| metadata.remove(key));
    let messages = [
        remove("general.architecture"),
        gguf(|m, _| m.set("general.architecture", Value::Str("mamba".into()))),
        remove("llama.block_count"),
        remove("llama.attention.layer_norm_rms_epsilon"),
        set("block_count", Value::U32(u32::MAX)),
        set("block_count", Value::U32(5000)),
        set("block_count", Value::Str("two".into())),
        set("embedding_length", Value::U32(0)),
        set("attention.head_count_kv", Value::U32(3)),
        set("attention.head_count", Value::U32(0)),
        set("attention.head_count_kv", Value::Array(Array::U32(vec![2, 4]))),
        set("attention.value_length", Value::U32(16)),
        set("rope.dimension_count", Value::U32(9)),
        set("rope.freq_base", Value::F32(f32::NAN)),
        set("rope.scaling.type", Value::Str("yarn".into())),
        set("expert_count", Value::U32(8)),
        set("attention.causal", Value::Bool(false)),
    ];
    all(
        &messages,
        expect![[r#"
            m.gguf: metadata key general.architecture is missing; convert the model again with a current converter
            m.gguf: the architecture "mamba" is not supported; supported are llama (LlamaForCausalLM, MistralForCausalLM); qwen2 (Qwen2ForCausalLM); qwen3 (Qwen3ForCausalLM); bitnet-b1.58 (BitNetForCausalLM, BitnetForCausalLM); bitnet; bitnet-gpt; bert (BertModel)
            m.gguf: metadata key llama.block_count is missing; convert the model again with a current converter
            m.gguf: metadata key llama.attention.layer_norm_rms_epsilon is missing; convert the model again with a current converter
            m.gguf: metadata key llama.block_count is 4294967295, more than 16777216; convert the model again with a current converter
            m.gguf: says it has 5000 layers but has 21 tensors; the file is no working model, get another
            m.gguf: metadata key llama.block_count is not a count; convert the model again with a current converter
            m.gguf: the embedding length is 0, not in 1..=16777216; convert the model again with a current converter
            m.gguf: 4 attention heads do not divide by 3 key and value heads; convert the model again with a current converter
            m.gguf: the length of all heads is 0, not in 1..=16777216; convert the model again with a current converter
            m.gguf: metadata key llama.attention.head_count_kv differs between layers; use a model whose layers are alike
            m.gguf: llama.attention.key_length 8 differs from llama.attention.value_length 16, which is not supported; use a model whose heads are of one size
            m.gguf: 9 rotated features of heads of 8; convert the model again with a current converter
            m.gguf: the RoPE base or scale is not a positive number; convert the model again with a current converter
            m.gguf: llama.rope.scaling.type is "yarn"; supported are none, linear, and llama3 as rope_freqs.weight
            m.gguf: metadata key llama.expert_count is set, which is not supported; use a dense model of a supported architecture
            m.gguf: llama.attention.causal is false; only causal models of this architecture are supported
        "#]],
    );
}

#[test]
fn gguf_tensors() {
    let messages = [
        gguf(|_, graph| graph.weights[4].name = "blk.0.attn_key.weight".into()),
        gguf(|_, graph| graph.weights[4].shape = vec![32, 16]),
        gguf(|_, graph| graph.weights[0].shape = vec![40, 16]),
        gguf(|metadata, _| metadata.set("llama.block_count", Value::U32(3))),
        gguf(|metadata, _| metadata.set("llama.feed_forward_length", Value::U32(49))),
    ];
    all(
        &messages,
        expect![[r#"
        m.gguf: tensor blk.0.attn_v.weight of shape [16, 32] is missing; the model is incomplete, download or convert it again
        m.gguf: tensor blk.0.attn_v.weight has shape [32, 16], expected [16, 32]; weights and hyper-parameters are of different models, get both from one source
        m.gguf: tensor token_embd.weight has shape [40, 16], expected [40, 32]; weights and hyper-parameters are of different models, get both from one source
        m.gguf: tensor blk.2.attn_norm.weight of shape [32] is missing; the model is incomplete, download or convert it again
        m.gguf: tensor blk.0.ffn_gate.weight has shape [48, 32], expected [49, 32]; weights and hyper-parameters are of different models, get both from one source
    "#]],
    );
}

#[test]
fn config_json_keys() {
    let set = |key: &'static str, value: Json| hf(move |json| json[key] = value.clone());
    let messages = [
        set("architectures", json!([])),
        set("architectures", json!(["MambaForCausalLM"])),
        set("hidden_size", json!(null)),
        set("hidden_size", json!("large")),
        set("num_hidden_layers", json!(1u64 << 60)),
        set("num_hidden_layers", json!(3)),
        set("num_key_value_heads", json!(3)),
        set("head_dim", json!(16)),
        set("vocab_size", json!(41)),
        set("rms_norm_eps", json!(null)),
        set("tie_word_embeddings", json!("yes")),
        set("hidden_act", json!("gelu")),
        set("rope_theta", json!("10000")),
        set("rope_scaling", json!({"rope_type": "yarn", "factor": 4.0})),
        set("rope_scaling", json!({"rope_type": "linear"})),
        set("rope_parameters", json!({"full_attention": {"rope_type": "default"}})),
        set("num_local_experts", json!(8)),
        set("quantization_config", json!({"bits": 4})),
        set("partial_rotary_factor", json!(0.5)),
        set("attention_bias", json!(true)),
    ];
    all(
        &messages,
        expect![[r#"
            config.json: "architectures" names no class; download config.json again, or correct it
            config.json: the architecture "MambaForCausalLM" is not supported; supported are llama (LlamaForCausalLM, MistralForCausalLM); qwen2 (Qwen2ForCausalLM); qwen3 (Qwen3ForCausalLM); bitnet-b1.58 (BitNetForCausalLM, BitnetForCausalLM); bitnet; bitnet-gpt; bert (BertModel)
            config.json: "hidden_size" is missing or not a number; download config.json again, or correct it
            config.json: "hidden_size" is "large", not a count up to 16777216; download config.json again, or correct it
            config.json: "num_hidden_layers" is 1152921504606846976, not a count up to 16777216; download config.json again, or correct it
            DIR: tensor model.layers.2.input_layernorm.weight of shape [32] is missing; the model is incomplete, download or convert it again
            config.json: 4 attention heads do not divide by 3 key and value heads; download config.json again, or correct it
            model.safetensors: tensor model.layers.0.self_attn.q_proj.weight has shape [32, 32], expected [64, 32]; weights and hyper-parameters are of different models, get both from one source
            model.safetensors: tensor model.embed_tokens.weight has shape [40, 32], expected [41, 32]; weights and hyper-parameters are of different models, get both from one source
            config.json: "rms_norm_eps" is missing or not a number; download config.json again, or correct it
            config.json: "tie_word_embeddings" is "yes", not true or false; download config.json again, or correct it
            config.json: "hidden_act" is "gelu"; supported is silu
            config.json: "rope_theta" is missing or not a number; download config.json again, or correct it
            config.json: the RoPE scaling "rope_type" is yarn; supported are default, linear, and Llama's llama3
            config.json: "factor" is missing or not a number; download config.json again, or correct it
            config.json: the RoPE scaling "rope_type" is missing; supported are default, linear, and Llama's llama3
            config.json: "num_local_experts" is set: mixtures of experts are not supported; use a dense model
            config.json: "quantization_config" is set: quantized Hugging Face weights are not supported; use the unquantized model, or a GGUF of it
            config.json: "partial_rotary_factor" is 0.5; supported is 1
            DIR: tensor model.layers.0.self_attn.q_proj.bias of shape [32] is missing; the model is incomplete, download or convert it again
        "#]],
    );
}
