//! `sterna tokenizer train`: what it writes is what every other command reads.

use crate::{ok, refused, tiny};
use serde_json::Value;

#[test]
fn a_tokenizer_is_trained_once_and_the_same_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    std::fs::write(at.join("text.txt"), tiny::text(80)).expect("writable");
    std::fs::write(at.join("other.txt"), "the dog sat on its house").expect("writable");
    let args = ["tokenizer", "train", "text.txt", "--vocab-size", "300", "--json"];
    let said = ok(at, &[&args[..], &["--held-out", "other.txt"]].concat());
    let said: Value = serde_json::from_str(&said).expect("JSON");
    let figure = |name: &str| {
        let all = said["figures"].as_array().expect("a list");
        let figure = all.iter().find(|f| f["name"] == name).unwrap_or_else(|| panic!("{said}"));
        figure["value"].as_f64().expect("a number")
    };
    assert_eq!(figure("vocab_size"), 300.0);
    assert!(figure("bytes_per_token") > 2.0 && figure("held_out_bytes_per_token") > 1.0);
    let tokenizer = sterna_model::Tokenizer::from_json(&at.join("tokenizer.json")).expect("ours");
    assert_eq!((tokenizer.vocab_len(), tokenizer.eos()), (300, Some(0)));

    let args = ["tokenizer", "train", "text.txt", "--vocab-size", "300", "-o", "again.json"];
    assert!(ok(at, &args).contains("again.json"));
    let read = |name| std::fs::read(at.join(name)).expect("written");
    assert!(read("tokenizer.json") == read("again.json"));
}

#[test]
fn mistakes_get_a_sentence_and_leave_no_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    std::fs::write(at.join("text.txt"), "too little").expect("writable");
    std::fs::write(at.join("binary"), [0xff, 0xfe, 0]).expect("writable");
    std::fs::write(at.join("there.json"), "mine").expect("writable");
    let cases: &[(&[&str], &str)] = &[
        (&["text.txt"], "too little for 2048"),
        (&["text.txt", "--vocab-size", "256"], "257"),
        (&["text.txt", "--special", "a"], "part of a text"),
        (&["text.txt", "text.txt", "--max-bytes", "15"], "--max-bytes"),
        (&["text.txt", "--max-bytes", "5"], "--max-bytes"),
        (&["-"], "standard input"),
        (&["binary"], "UTF-8"),
        (&["missing.txt"], "missing.txt"),
        (&["text.txt", "-o", "there.json"], "--force"),
        (&[], "TEXT"),
    ];
    for (args, word) in cases {
        let said = refused(at, &[&["tokenizer", "train"], *args].concat());
        assert!(said.contains(word), "{args:?} said: {said}");
    }
    assert!(!at.join("tokenizer.json").exists());
    assert_eq!(std::fs::read(at.join("there.json")).expect("still there"), b"mine");
}
