//! What every tokenizer must do, on small vocabularies made here.

mod small;

use super::Tokenizer;
use sterna_formats::{Array, Metadata, Value};

fn texts(texts: impl IntoIterator<Item = impl Into<String>>) -> Value {
    Value::Array(Array::Str(texts.into_iter().map(Into::into).collect()))
}

/// A SentencePiece-style vocabulary: three special tokens, 256 bytes, then `words` in order of
/// descending score.
fn spm_metadata(words: &[&str]) -> Metadata {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    tokens.extend((0..=255u8).map(|b| format!("<0x{b:02X}>")));
    let mut types = vec![2, 3, 3];
    types.resize(tokens.len(), 6);
    let mut scores = vec![0.0; tokens.len()];
    for (rank, word) in words.iter().enumerate() {
        tokens.push((*word).into());
        types.push(1);
        scores.push(-(rank as f32));
    }
    let mut metadata = Metadata::default();
    metadata.set("tokenizer.ggml.model", Value::Str("llama".into()));
    metadata.set("tokenizer.ggml.tokens", texts(tokens));
    metadata.set("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
    metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    metadata
}

/// A byte-level vocabulary: the 256 bytes, the results of `merges`, then `<|end|>`.
fn bpe_metadata(pre: &str, merges: &[&str]) -> Metadata {
    let mut tokens: Vec<String> =
        (0..=255u8).map(|b| super::vocab::char_of_byte(b).to_string()).collect();
    tokens.extend(merges.iter().map(|m| m.replace(' ', "")));
    tokens.push("<|end|>".into());
    let mut types = vec![1; tokens.len()];
    *types.last_mut().unwrap() = 3;
    let mut metadata = Metadata::default();
    metadata.set("tokenizer.ggml.model", Value::Str("gpt2".into()));
    metadata.set("tokenizer.ggml.pre", Value::Str(pre.into()));
    metadata.set("tokenizer.ggml.eos_token_id", Value::U32(tokens.len() as u32 - 1));
    metadata.set("tokenizer.ggml.tokens", texts(tokens));
    metadata.set("tokenizer.ggml.merges", texts(merges.iter().copied()));
    metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    metadata
}

fn build(metadata: &Metadata) -> Tokenizer {
    Tokenizer::from_metadata(metadata).unwrap()
}
