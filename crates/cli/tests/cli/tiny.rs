//! A tiny random model with a byte vocabulary: what tests run where no real model may be assumed.
#![allow(dead_code)] // Each test binary uses its part.

use std::path::{Path, PathBuf};
use sterna_formats::encodings::by_name;
use sterna_formats::{Array, GgufWriter, Metadata, TensorDecl, Value};

/// Shape of the model.
pub struct Shape {
    pub dim: usize,
    pub ffn: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    /// Standard deviation of the matrices' values.
    pub deviation: f32,
    /// The same for the token embedding.
    pub embedding: f32,
}

/// Rows of 64 and 128: every 32-block encoding fits, no 256-block one does.
pub const SMALL: Shape =
    Shape { dim: 64, ffn: 128, layers: 2, heads: 4, kv_heads: 2, deviation: 0.15, embedding: 0.15 };

/// Rows of 256 and 512: every encoding fits. The deviation is what models are initialized with.
pub const WIDE: Shape =
    Shape { dim: 256, ffn: 512, layers: 2, heads: 4, kv_heads: 2, deviation: 0.02, embedding: 1.0 };

/// Seeded, roughly normal numbers.
pub struct Rng(pub u64);

impl Rng {
    pub fn normal(&mut self) -> f32 {
        let mut sum = 0.0;
        for _ in 0..6 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            sum += (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0;
        }
        sum * 0.7
    }
}

/// Writes the model as F32 GGUF.
pub fn write(folder: &Path, name: &str, shape: &Shape) -> PathBuf {
    let path = folder.join(name);
    let tokens = tokens();
    let decls = declare(shape, tokens.len());
    let metadata = metadata(shape, tokens);
    let mut writer = GgufWriter::create(&path, &metadata, decls.clone()).expect("a valid model");
    let mut rng = Rng(42);
    for decl in &decls {
        let n: usize = decl.shape.iter().product();
        let value = |rng: &mut Rng| match decl.shape.len() {
            1 => 1.0 + 0.05 * rng.normal(),
            _ if decl.name == "token_embd.weight" => shape.embedding * rng.normal(),
            _ => shape.deviation * rng.normal(),
        };
        let bytes: Vec<u8> = (0..n).flat_map(|_| value(&mut rng).to_le_bytes()).collect();
        writer.write_tensor(&bytes).expect("bytes of the declared length");
    }
    writer.finish().expect("the folder can be written");
    path
}

fn tokens() -> Vec<String> {
    let mut tokens = vec!["<unk>".to_owned(), "<s>".into(), "</s>".into()];
    tokens.extend((0..256).map(|b| format!("<0x{b:02X}>")));
    tokens.extend(["\u{2581}".to_owned(), "\u{2581}t".into(), "he".into(), "\u{2581}the".into()]);
    tokens.extend(('a'..='z').map(String::from));
    tokens
}

fn declare(shape: &Shape, vocab: usize) -> Vec<TensorDecl> {
    let encoding = by_name("F32").expect("F32 is registered");
    let kv = shape.dim / shape.heads * shape.kv_heads;
    let tensor = |name: String, shape: Vec<usize>| TensorDecl { name, shape, encoding };
    let mut decls = vec![tensor("token_embd.weight".into(), vec![vocab, shape.dim])];
    for layer in 0..shape.layers {
        let named =
            |part: &str, dims: Vec<usize>| tensor(format!("blk.{layer}.{part}.weight"), dims);
        decls.push(named("attn_norm", vec![shape.dim]));
        decls.push(named("attn_q", vec![shape.dim, shape.dim]));
        decls.push(named("attn_k", vec![kv, shape.dim]));
        decls.push(named("attn_v", vec![kv, shape.dim]));
        decls.push(named("attn_output", vec![shape.dim, shape.dim]));
        decls.push(named("ffn_norm", vec![shape.dim]));
        decls.push(named("ffn_gate", vec![shape.ffn, shape.dim]));
        decls.push(named("ffn_up", vec![shape.ffn, shape.dim]));
        decls.push(named("ffn_down", vec![shape.dim, shape.ffn]));
    }
    decls.push(tensor("output_norm.weight".into(), vec![shape.dim]));
    decls.push(tensor("output.weight".into(), vec![vocab, shape.dim]));
    decls
}

fn metadata(shape: &Shape, tokens: Vec<String>) -> Metadata {
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", Value::Str("llama".into()));
    metadata.set("general.name", Value::Str("tiny".into()));
    let numbers = [
        ("context_length", 512),
        ("embedding_length", shape.dim),
        ("block_count", shape.layers),
        ("feed_forward_length", shape.ffn),
        ("attention.head_count", shape.heads),
        ("attention.head_count_kv", shape.kv_heads),
        ("rope.dimension_count", shape.dim / shape.heads),
        ("vocab_size", tokens.len()),
    ];
    for (key, value) in numbers {
        metadata.set(format!("llama.{key}"), Value::U32(value as u32));
    }
    metadata.set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    metadata.set("tokenizer.ggml.model", Value::Str("llama".into()));
    let scores = (0..tokens.len()).map(|i| if i < 259 { 0.0 } else { -(i as f32) }).collect();
    let kinds = (0..tokens.len()).map(|i| match i {
        0 => 2,
        1 | 2 => 3,
        3..259 => 6,
        _ => 1,
    });
    metadata.set("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
    metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds.collect())));
    metadata.set("tokenizer.ggml.tokens", Value::Array(Array::Str(tokens)));
    metadata.set("tokenizer.ggml.bos_token_id", Value::U32(1));
    metadata.set("tokenizer.ggml.eos_token_id", Value::U32(2));
    metadata.set("tokenizer.ggml.unknown_token_id", Value::U32(0));
    metadata
}

/// Documents with some repetition, so that there is something to score.
pub fn text(n_documents: usize) -> String {
    let words = ["the cat", "sat on", "a mat", "and then", "the dog", "ran to", "its house", "."];
    let mut rng = Rng(7);
    let mut pick = || words[(rng.normal().to_bits() >> 7) as usize % words.len()];
    (0..n_documents)
        .map(|i| {
            let body: Vec<&str> = (0..14).map(|_| pick()).collect();
            format!("number {i} {}", body.join(" "))
        })
        .collect::<Vec<_>>()
        .join("\n<|endoftext|>\n")
}
