//! What every tokenizer must do, on small vocabularies made here and on real ones where
//! `shared/data` has them.

mod hostile;
mod json;
mod real;
mod small;

use super::Tokenizer;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::path::PathBuf;
use sterna_formats::{Array, Metadata, Value};

/// A file or folder of the shared data, or `None` with a printed reason.
fn shared(path: &str) -> Option<PathBuf> {
    let given = std::env::var_os("STERNA_DATA").map(PathBuf::from);
    let above = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let found = given
        .or_else(|| above.ancestors().map(|a| a.join("shared/data")).find(|p| p.is_dir()))
        .map(|data| data.join(path))
        .filter(|p| p.exists());
    if found.is_none() {
        eprintln!("skipped: no {path} in shared/data (set STERNA_DATA to its folder)");
    }
    found
}

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

/// The tokenizer that the metadata of another describes.
fn rebuilt(tokenizer: &Tokenizer) -> Tokenizer {
    let mut metadata = Metadata::default();
    for (key, value) in tokenizer.to_metadata().unwrap() {
        metadata.set(key, value);
    }
    build(&metadata)
}

/// Asserts that random texts come back from their tokens, all at once and one by one. Left out are
/// `▁`, which to SentencePiece is a space, and bytes that are no token, as some vocabularies lack
/// those that no UTF-8 of their training text had.
fn assert_round_trips(tokenizer: &Tokenizer) {
    let fragment = prop_oneof![
        4 => any::<char>().prop_map(String::from),
        4 => "[ -~]{1,12}",
        1 => "[ \t\r\n]{1,6}",
        1 => "[а-яé-ü一-龥😀-😏]{1,4}",
        1 => select(vec!["<s>", "</s>", "<0x41>", "<|end|>", "<|endoftext|>", "'ll"])
            .prop_map(String::from),
    ];
    let mut has_byte = [false; 256];
    for id in 0..tokenizer.vocab_len() as u32 {
        if let [byte] = *tokenizer.token_bytes(id) {
            has_byte[byte as usize] = true;
        }
    }
    let has = |c: char| c.encode_utf8(&mut [0; 4]).bytes().all(|b| has_byte[b as usize]);
    let allowed = |text: String| text.chars().filter(|&c| c != '▁' && has(c)).collect();
    let text = vec(fragment, 0..40).prop_map(|f| allowed(f.concat()));
    let check = |text: String| {
        let ids = tokenizer.encode(&text, true);
        prop_assert_eq!(tokenizer.decode(&ids), text);
        assert_streams(tokenizer, &ids);
        Ok(())
    };
    let mut runner = TestRunner::new_with_rng(
        Config { cases: 400, failure_persistence: None, ..Config::default() },
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    runner.run(&text, check).unwrap();
}

/// Asserts that the pieces of a stream are whole characters and make up the text.
fn assert_streams(tokenizer: &Tokenizer, ids: &[u32]) {
    let mut decoder = tokenizer.decoder();
    let mut text: String = ids.iter().map(|&id| decoder.push(id)).collect();
    text.push_str(&decoder.finish());
    assert_eq!(text, tokenizer.decode(ids), "{ids:?}");
}
