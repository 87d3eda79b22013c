//! The real stories260K, from the shared data, seen through its container.

use std::path::{Path, PathBuf};
use sterna_formats::{Array, Checkpoint, GgufWriter, Stored, TensorDecl, Value};

/// The shared data folder; tests that need it are skipped where it is absent.
fn data(name: &str) -> Option<PathBuf> {
    let from_env = std::env::var_os("STERNA_DATA").map(PathBuf::from);
    let above = || {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
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

/// Writes a checkpoint as GGUF, every tensor as it is.
fn write_gguf(c: &Checkpoint, path: &Path) {
    let decls = c.tensors.iter().map(|t| TensorDecl {
        name: t.name.clone(),
        shape: t.shape.clone(),
        encoding: c.encoding(t).unwrap(),
    });
    let mut writer = GgufWriter::create(path, &c.metadata, decls.collect()).unwrap();
    c.tensors.iter().for_each(|t| writer.write_tensor(c.bytes(t)).unwrap());
    writer.finish().unwrap();
}

#[test]
fn stories260k_as_gguf_is_the_same_model() {
    let Some(path) = data("tinyllamas/stories260K.bin") else { return };
    let from_bin = Checkpoint::open(&path).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let gguf = dir.path().join("stories260K.gguf");
    write_gguf(&from_bin, &gguf);
    let from_gguf = Checkpoint::open(&gguf).unwrap();
    assert_eq!(from_gguf.metadata, from_bin.metadata);
    assert_eq!(from_gguf.tensors.len(), from_bin.tensors.len());
    for (a, b) in from_gguf.tensors.iter().zip(&from_bin.tensors) {
        assert_eq!((&a.name, &a.shape, a.stored), (&b.name, &b.shape, b.stored));
        assert_eq!(from_gguf.bytes(a), from_bin.bytes(b));
    }
    llama_cpp_scores_stories(&gguf);
}

/// Only where `STERNA_PEERS_DIR` names a folder with llama.cpp's programs. A wrong tensor, token or
/// rotation would make the perplexity of plain stories tens or hundreds; it measured 4.25.
fn llama_cpp_scores_stories(gguf: &Path) {
    let Some(bin) = std::env::var_os("STERNA_PEERS_DIR") else {
        return println!("skipped: STERNA_PEERS_DIR is not set");
    };
    let Some(text) = data("tinystories/tinystories_sample_2MiB.txt") else { return };
    let stories = std::fs::read_to_string(text).unwrap();
    let plain = stories.split("<|endoftext|>").take(60).flat_map(str::split_whitespace);
    let text = gguf.with_extension("txt");
    std::fs::write(&text, plain.collect::<Vec<_>>().join(" ")).unwrap();
    let out = std::process::Command::new(PathBuf::from(bin).join("llama-perplexity"))
        .args(["-c", "512", "--chunks", "8", "-t", "1", "-m"])
        .arg(gguf)
        .arg("-f")
        .arg(text)
        .output()
        .unwrap();
    let said = [out.stdout, out.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let ppl = said.split("Final estimate: PPL = ").nth(1).and_then(|s| s.split(' ').next());
    let ppl: f64 = ppl.unwrap_or_else(|| panic!("{said}")).parse().unwrap();
    println!("llama.cpp: perplexity {ppl}");
    assert!((4.0..4.5).contains(&ppl), "{ppl}");
}
