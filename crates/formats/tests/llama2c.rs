//! The real stories260K, from the shared data, seen through its container.

use std::path::PathBuf;
use sterna_formats::{Array, Checkpoint, Stored, Value};

/// The shared data folder; tests that need it are skipped where it is absent.
fn data(name: &str) -> Option<PathBuf> {
    let from_env = std::env::var_os("STERNA_DATA").map(PathBuf::from);
    let above = || {
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        here.ancestors().map(|dir| dir.join("shared/data")).find(|dir| dir.is_dir())
    };
    let path = from_env.or_else(above).map(|dir| dir.join(name)).filter(|path| path.exists());
    if path.is_none() {
        println!("skipped: no shared data folder with {name}");
    }
    path
}

#[test]
fn stories260k_is_a_llama_with_its_tokenizer() {
    let Some(path) = data("tinyllamas/stories260K.bin") else { return };
    let c = Checkpoint::open(&path).unwrap();
    assert_eq!(c.container, "llama2c");
    let facts = ["block_count", "embedding_length", "feed_forward_length", "context_length"];
    assert_eq!(facts.map(|k| c.metadata.u64(&format!("llama.{k}")).unwrap()), [5, 64, 172, 512]);
    assert_eq!(c.metadata.u64("llama.attention.head_count_kv"), Some(4));
    assert_eq!(c.tensors.len(), 1 + 5 * 9 + 1);
    assert!(c.tensor("output.weight").is_none(), "the classifier is the embedding");
    assert_eq!(c.tensor("blk.4.ffn_down.weight").unwrap().shape, [64, 172]);
    assert_eq!(c.tensor("blk.0.attn_k.weight").unwrap().shape, [32, 64]);
    // Trained norms are positive and near one; a wrong offset would read signed weights.
    let norm = c.tensor("output_norm.weight").unwrap();
    let Stored::Known(encoding) = norm.stored else { panic!("F32") };
    let mut values = vec![0.0; 64];
    encoding.decode(c.bytes(norm), &mut values);
    assert!(values.iter().all(|v| (0.1..20.0).contains(v)), "{values:?}");

    let Some(Array::Str(tokens)) = c.metadata.array("tokenizer.ggml.tokens") else { panic!() };
    assert_eq!(tokens.len(), 512);
    assert_eq!(&tokens[..4], ["<unk>", "<s>", "</s>", "<0x00>"]);
    assert_eq!(tokens[259], "\u{2581}t", "spaces are spelled as SentencePiece does");
    let Some(Array::I32(kinds)) = c.metadata.array("tokenizer.ggml.token_type") else { panic!() };
    assert_eq!((&kinds[..4], kinds[258], kinds[259]), (&[2, 3, 3, 6][..], 6, 1));
    assert_eq!(c.metadata.get("tokenizer.ggml.bos_token_id"), Some(&Value::U32(1)));
}
