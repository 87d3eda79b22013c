//! Writes a model of a given shape with random weights and a made-up SentencePiece vocabulary, as a
//! GGUF file that every engine loads.
//!
//! In: a [`Workload`] and the encoding of its matrices. Out: the file; the same gives the same
//! bytes.

use super::workload::{Shape, Workload};
use anyhow::{Context, Result};
use std::path::Path;
use sterna_formats::encodings::by_name;
use sterna_formats::{Array, EncodingRef, GgufWriter, Metadata, TensorDecl, Value};

/// Values encoded at a time.
const RUN: usize = 1 << 16;

/// Writes the model of `workload` to `path`, its matrices in `encoding`.
///
/// # Errors
/// When there is no such encoding, or the file cannot be written.
pub fn write(path: &Path, name: &str, workload: &Workload, encoding: &str) -> Result<()> {
    let matrix = by_name(encoding).with_context(|| format!("formats has no {encoding}"))?;
    let norm = by_name("F32").context("formats has no F32")?;
    let tensors = tensors(&workload.shape, matrix, norm);
    let mut writer =
        GgufWriter::create(path, &metadata(name, workload, encoding), tensors.clone())?;
    let mut normal = Normal { state: workload.seed.wrapping_mul(2).wrapping_add(1) };
    for tensor in &tensors {
        let n_values: usize = tensor.shape.iter().product();
        for start in (0..n_values).step_by(RUN) {
            let n = RUN.min(n_values - start);
            let is_norm = tensor.shape.len() == 1;
            let values: Vec<f32> = if is_norm {
                vec![1.0; n]
            } else {
                (0..n).map(|_| normal.next() * workload.weight_std).collect()
            };
            let mut bytes = vec![0; tensor.encoding.row_bytes(n)];
            tensor.encoding.encode(&values, None, &mut bytes);
            writer.write_tensor(&bytes)?;
        }
    }
    writer.finish()?;
    Ok(())
}

/// The tensors of a Llama model: matrices in one encoding, norms in another.
fn tensors(shape: &Shape, matrix: EncodingRef, norm: EncodingRef) -> Vec<TensorDecl> {
    let Shape { dim, ffn_dim, vocab_len, .. } = *shape;
    let kv_dim = dim / shape.n_heads * shape.n_kv_heads;
    let decl = |name: String, shape: &[usize]| {
        let encoding = if shape.len() == 1 { norm } else { matrix };
        TensorDecl { name, shape: shape.to_vec(), encoding }
    };
    let mut all = vec![decl("token_embd.weight".into(), &[vocab_len, dim])];
    for layer in 0..shape.n_layers {
        let parts: [(&str, &[usize]); 9] = [
            ("attn_norm", &[dim]),
            ("attn_q", &[dim, dim]),
            ("attn_k", &[kv_dim, dim]),
            ("attn_v", &[kv_dim, dim]),
            ("attn_output", &[dim, dim]),
            ("ffn_norm", &[dim]),
            ("ffn_gate", &[ffn_dim, dim]),
            ("ffn_up", &[ffn_dim, dim]),
            ("ffn_down", &[dim, ffn_dim]),
        ];
        all.extend(parts.iter().map(|(n, s)| decl(format!("blk.{layer}.{n}.weight"), s)));
    }
    all.push(decl("output_norm.weight".into(), &[dim]));
    all.push(decl("output.weight".into(), &[vocab_len, dim]));
    all
}

fn metadata(name: &str, workload: &Workload, encoding: &str) -> Metadata {
    let shape = &workload.shape;
    let mut metadata = Metadata::default();
    let mut set = |key: &str, value: Value| metadata.set(key, value);
    let number = |n: usize| Value::U32(n as u32);
    set("general.architecture", Value::Str("llama".into()));
    set("general.name", Value::Str(format!("{name}, random weights")));
    if encoding == "F16" {
        set("general.file_type", Value::U32(1)); // mostly F16
    }
    set("llama.vocab_size", number(shape.vocab_len));
    set("llama.context_length", number(shape.context_len));
    set("llama.embedding_length", number(shape.dim));
    set("llama.block_count", number(shape.n_layers));
    set("llama.feed_forward_length", number(shape.ffn_dim));
    set("llama.rope.dimension_count", number(shape.dim / shape.n_heads));
    set("llama.rope.freq_base", Value::F32(10_000.0));
    set("llama.attention.head_count", number(shape.n_heads));
    set("llama.attention.head_count_kv", number(shape.n_kv_heads));
    set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    set("tokenizer.ggml.model", Value::Str("llama".into()));
    let (tokens, scores, types) = vocabulary(shape.vocab_len);
    set("tokenizer.ggml.tokens", Value::Array(Array::Str(tokens)));
    set("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
    set("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    set("tokenizer.ggml.bos_token_id", Value::U32(1));
    set("tokenizer.ggml.eos_token_id", Value::U32(2));
    set("tokenizer.ggml.unknown_token_id", Value::U32(0));
    metadata
}

/// Tokens, scores and GGUF token types: the special three, all bytes, then words of letters.
fn vocabulary(len: usize) -> (Vec<String>, Vec<f32>, Vec<i32>) {
    const UNKNOWN: i32 = 2;
    const CONTROL: i32 = 3;
    const BYTE: i32 = 6;
    const NORMAL: i32 = 1;
    let mut entries: Vec<(String, f32, i32)> = vec![
        ("<unk>".into(), 0.0, UNKNOWN),
        ("<s>".into(), 0.0, CONTROL),
        ("</s>".into(), 0.0, CONTROL),
    ];
    entries.extend((0..256).map(|b| (format!("<0x{b:02X}>"), 0.0, BYTE)));
    // The word boundary, then "a", "b", ..., "z", "aa", "ba", ...: unique, and merges can form.
    entries.push(("\u{2581}".into(), -1.0, NORMAL));
    for i in 0.. {
        if entries.len() >= len {
            break;
        }
        entries.push((word(i), -2.0 - i as f32, NORMAL));
    }
    entries.truncate(len);
    let mut lists = (Vec::new(), Vec::new(), Vec::new());
    for (token, score, kind) in entries {
        lists.0.push(token);
        lists.1.push(score);
        lists.2.push(kind);
    }
    lists
}

/// The `i`-th word over a to z, shortest first.
fn word(i: usize) -> String {
    let mut word = String::new();
    let mut left = i + 1;
    while left > 0 {
        word.push((b'a' + ((left - 1) % 26) as u8) as char);
        left = (left - 1) / 26;
    }
    word
}

/// A seeded normal distribution: xorshift64*, and the sum of twelve uniforms minus six, whose tails
/// end at six; for speed that is normal enough, and it is the same on every machine.
struct Normal {
    state: u64,
}

impl Normal {
    fn next(&mut self) -> f32 {
        let mut sum = 0;
        for _ in 0..3 {
            self.state ^= self.state >> 12;
            self.state ^= self.state << 25;
            self.state ^= self.state >> 27;
            let bits = self.state.wrapping_mul(0x2545_F491_4F6C_DD1D);
            sum += (0..4).map(|i| (bits >> (16 * i)) & 0xFFFF).sum::<u64>();
        }
        sum as f32 / 65_536.0 - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_vocabulary_is_unique_and_of_the_asked_length() {
        let (tokens, scores, types) = vocabulary(32_000);
        assert_eq!((tokens.len(), scores.len(), types.len()), (32_000, 32_000, 32_000));
        assert_eq!(tokens.iter().collect::<HashSet<_>>().len(), 32_000);
    }

    #[test]
    fn the_file_has_the_asked_shape_and_the_same_bytes_each_time() {
        let workload = Workload::read(&crate::root::root(), "smoke").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a.gguf", "b.gguf"].map(|name| folder.path().join(name));
        write(&a, "smoke", &workload, "F16").unwrap();
        write(&b, "smoke", &workload, "F16").unwrap();
        assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
        let checkpoint = sterna_formats::Checkpoint::open(&a).unwrap();
        assert_eq!(checkpoint.metadata.u64("llama.block_count"), Some(2));
        assert_eq!(checkpoint.tensors.len(), 3 + 9 * 2);
        let value = checkpoint.tensor("blk.1.attn_k.weight").unwrap();
        assert_eq!(value.shape, [128, 256]);
    }

    #[test]
    fn weights_are_normal_to_the_second_moment() {
        let mut normal = Normal { state: 3 };
        let values: Vec<f32> = (0..100_000).map(|_| normal.next()).collect();
        let mean = values.iter().sum::<f32>() / 1e5;
        let variance = values.iter().map(|v| v * v).sum::<f32>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }
}
