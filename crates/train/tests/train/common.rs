//! Tiny models of every architecture, and batches for them.

use burn::tensor::{Int, Tensor, TensorData};
use std::path::{Path, PathBuf};
use sterna_formats::encodings::float32::F32;
use sterna_model::archs::{ARCHS, Arch};
use sterna_model::ops::RopeLayout;
use sterna_model::{Config, Graph, Role};
use sterna_train::backend::Cpu;
use sterna_train::config::Quantize;
use sterna_train::export::Trained;
use sterna_train::forms::Batch;
use sterna_train::init;
use sterna_train::quant::Quantizer;

/// The plain CPU backend.
pub type Plain = <Cpu as burn::tensor::backend::AutodiffBackend>::InnerBackend;

/// A small config of an architecture, with what is special of it.
pub fn config(arch: &dyn Arch) -> Config {
    let base = Config {
        n_layers: 2,
        dim: 32,
        ffn_dim: 48,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 8,
        vocab_len: 40,
        context_len: 64,
        norm_eps: 1e-5,
        rope_layout: RopeLayout::Half,
        rotary_dim: 8,
        rope_base: 10_000.0,
        rope_scale: 1.0,
        rope_factors: false,
        llama3: None,
        window: None,
        tied: false,
        biases: Default::default(),
        qk_norm: false,
    };
    let qkv = [Role::AttentionQuery, Role::AttentionKey, Role::AttentionValue];
    match arch.name() {
        "llama" => Config { rope_layout: RopeLayout::Interleaved, window: Some(5), ..base },
        "qwen2" => Config { tied: true, biases: qkv.into(), ..base },
        "qwen3" => Config { qk_norm: true, ..base },
        "bitnet-b1.58" => Config { tied: true, ..base },
        "bitnet-gpt" => {
            Config { rotary_dim: 0, biases: sterna_model::archs::bitnet_gpt::biases(), ..base }
        }
        _ => base,
    }
}

/// Every architecture that predicts tokens, with its graph.
pub fn graphs() -> Vec<(&'static str, Graph)> {
    let graph = |arch: &&'static dyn Arch| (arch.name(), arch.graph(&config(*arch)).unwrap());
    ARCHS.iter().map(graph).filter(|(_, graph)| !graph.is_encoder()).collect()
}

/// Seeded weights in which everything matters: norms and biases are not one and zero.
pub fn weights(graph: &Graph, seed: u64) -> Vec<Vec<f32>> {
    let mut weights = init::random(graph, seed);
    for (decl, values) in graph.weights.iter().zip(&mut weights) {
        let wave = |i: usize| ((i * 37 + decl.name.len()) % 19) as f32 / 19.0 - 0.5;
        match decl.role {
            Role::Norm | Role::Bias => {
                values.iter_mut().enumerate().for_each(|(i, v)| *v += 0.6 * wave(i));
            }
            // Logits that differ, so that relative errors mean something.
            Role::TokenEmbedding => values.iter_mut().for_each(|v| *v *= 20.0),
            _ => {}
        }
    }
    weights
}

/// Nothing is quantized.
pub fn full_precision(graph: &Graph) -> Quantizer {
    Quantizer::new(&Quantize::default(), graph).unwrap()
}

/// Weights as a source of F32 bytes.
pub fn source<'a>(
    graph: &'a Graph,
    weights: &'a [Vec<f32>],
    quantizer: &'a Quantizer,
) -> Trained<'a> {
    Trained { graph, weights, quantizer, float: &F32 }
}

/// Weights as tensors.
pub fn tensors(graph: &Graph, weights: &[Vec<f32>]) -> Vec<Tensor<Plain, 2>> {
    let one = |(decl, values): (&sterna_model::WeightDecl, &Vec<f32>)| {
        let (rows, cols) = decl.matrix();
        Tensor::from_data(TensorData::new(values.clone(), [rows, cols]), &Default::default())
    };
    graph.weights.iter().zip(weights).map(one).collect()
}

/// Sequences of seeded tokens, as numbers and as a batch.
pub fn batch(n: usize, seq_len: usize, vocab: usize) -> (Vec<u32>, Batch<Plain>) {
    let tokens: Vec<u32> = (0..n * seq_len).map(|i| ((i * 7 + i * i * 3) % vocab) as u32).collect();
    let ids: Vec<i32> = tokens.iter().map(|&t| t as i32).collect();
    let ids: Tensor<Plain, 1, Int> =
        Tensor::from_data(TensorData::new(ids, [n * seq_len]), &Default::default());
    (tokens, Batch { tokens: ids, n_sequences: n, seq_len })
}

/// A text to learn, and a byte-level tokenizer of 300 tokens made from it.
pub fn sentences(dir: &Path) -> (PathBuf, PathBuf) {
    let (text, tokenizer) = (dir.join("text.txt"), dir.join("tokenizer.json"));
    let line = |i: usize| format!("The {i}th tern flew {} miles over the sea.\n", i * 37 % 101);
    std::fs::write(&text, (0..400).map(line).collect::<String>()).unwrap();
    train_tokenizer(&text, &tokenizer, 300);
    (text, tokenizer)
}

/// Trains a tokenizer of so many tokens.
pub fn train_tokenizer(text: &Path, to: &Path, vocab_size: usize) {
    let text = std::fs::read_to_string(text).unwrap();
    let settings = sterna_train::tokenizer::Settings {
        vocab_size,
        min_frequency: 2,
        specials: vec!["<|endoftext|>".into()],
    };
    let json = sterna_train::tokenizer::train(&[&text], &settings, &mut |_| ()).unwrap();
    std::fs::write(to, json).unwrap();
}
