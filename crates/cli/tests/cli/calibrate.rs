//! `sterna calibrate`: the statistics of a text, their use, and what is refused.

use crate::{ok, sterna, tiny};
use serde_json::Value;
use std::path::Path;

/// The tiny model and texts for it.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    tiny::write(folder.path(), "tiny.gguf", &tiny::WIDE);
    std::fs::write(folder.path().join("text.txt"), tiny::text(40)).unwrap();
    folder
}

fn refused(at: &Path, args: &[&str]) -> String {
    let output = sterna(at, args);
    assert_eq!(output.status.code(), Some(2), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

// proves B8 (tokens, hash and coverage travel with the statistics), S-2
#[test]
fn statistics_are_written_shown_and_used() {
    let folder = folder();
    let at = folder.path();
    let calibrate = ["calibrate", "tiny.gguf", "--calib", "text.txt", "--calib-seqlen", "64"];
    let told = ok(at, &[&calibrate[..], &["-o", "m.imatrix.gguf"]].concat());
    assert!(told.contains("blk.0.attn_q.weight"), "{told}");
    assert!(told.contains("documents of text.txt (hash "), "{told}");
    let json: Value =
        serde_json::from_str(&ok(at, &[&calibrate[..], &["-o", "n.gguf", "--json"]].concat()))
            .unwrap();
    let inputs = json["inputs"].as_array().unwrap();
    for input in inputs {
        assert_eq!(input["rows"], json["text"]["n_tokens"], "{input}");
        let range = |name: &str| input[name].as_f64().unwrap();
        assert!(range("p99_9") <= range("largest") && range("entropy_int8") > 0.0, "{input}");
    }
    let bytes = |name: &str| std::fs::read(at.join(name)).unwrap();
    assert_eq!(bytes("m.imatrix.gguf"), bytes("n.gguf"), "the same text, the same file");
    let inspected = ok(at, &["inspect", "n.gguf", "--tensors"]);
    assert!(inspected.contains("blk.1.ffn_down.weight.in_sum2"), "{inspected}");
    ok(at, &["quantize", "tiny.gguf", "plain.gguf", "Q4_0", "--pure"]);
    let weighed =
        ["quantize", "tiny.gguf", "weighed.gguf", "Q4_0", "--pure", "--imatrix", "n.gguf"];
    ok(at, &weighed);
    assert_eq!(bytes("plain.gguf").len(), bytes("weighed.gguf").len());
    assert_ne!(bytes("plain.gguf"), bytes("weighed.gguf"), "errors are weighed");
}

#[test]
fn what_cannot_be_calibrated_with_is_refused() {
    let folder = folder();
    let at = folder.path();
    std::fs::write(at.join("empty.txt"), "").unwrap();
    std::fs::write(at.join("short.txt"), "the cat\n\nthe dog").unwrap();
    std::fs::write(at.join("binary.txt"), [0xff, 0xfe, 0x00, 0x80]).unwrap();
    for (calib, more, word) in [
        ("empty.txt", &[][..], "0 documents are left"),
        ("short.txt", &[], "give more"),
        ("binary.txt", &[], "is not UTF-8 text"),
        ("none.txt", &[], "none.txt"),
        ("text.txt", &["--eval", "text.txt"], "repeat"),
        ("text.txt", &["--calib-seqlen", "1"], "--calib-seqlen"),
    ] {
        let args = ["calibrate", "tiny.gguf", "--calib", calib, "-o", "out.gguf"];
        let said = refused(at, &[&args[..], more].concat());
        assert!(said.contains(word), "{calib}: {said}");
        assert!(!at.join("out.gguf").exists(), "{calib}");
    }
    let there = refused(at, &["calibrate", "tiny.gguf", "--calib", "text.txt", "-o", "tiny.gguf"]);
    assert!(there.contains("--force"), "{there}");
}
