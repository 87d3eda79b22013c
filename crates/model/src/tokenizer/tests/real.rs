//! Vocabularies of real models: llama.cpp's 46 cases for each of six, and GPT-NeoX's
//! `tokenizer.json`.

use super::{assert_round_trips, assert_streams, build, rebuilt, shared};
use crate::Tokenizer;
use std::path::Path;
use sterna_formats::Checkpoint;

const VOCABULARIES: [&str; 6] =
    ["llama-spm", "gpt-2", "bert-bge", "starcoder", "falcon", "deepseek-llm"];

fn open(folder: &Path, name: &str) -> Tokenizer {
    let path = folder.join(format!("ggml-vocab-{name}.gguf"));
    build(&Checkpoint::open(&path).unwrap().metadata)
}

/// The inputs and ids of llama.cpp's cases.
fn cases(folder: &Path, name: &str) -> Vec<(String, Vec<u32>)> {
    let read = |ext| std::fs::read_to_string(folder.join(format!("ggml-vocab-{name}.gguf.{ext}")));
    let (inputs, outputs) = (read("inp").unwrap(), read("out").unwrap());
    let ids = |line: &str| line.split_whitespace().map(|id| id.parse().unwrap()).collect();
    let outputs: Vec<Vec<u32>> = outputs.lines().map(ids).collect();
    let inputs = inputs.split("\n__ggml_vocab_test__\n").map(String::from);
    assert_eq!(outputs.len(), 46, "{name}");
    inputs.zip(outputs).collect()
}

#[test]
fn every_case_of_every_vocabulary_passes() {
    let Some(folder) = shared("tokenizer-vocab") else { return };
    let mut failures = Vec::new();
    for name in VOCABULARIES {
        let tokenizer = open(&folder, name);
        let again = rebuilt(&tokenizer);
        let cases = cases(&folder, name);
        assert_eq!(cases.len(), 46, "{name}");
        for (n, (input, expected)) in cases.iter().enumerate() {
            let found = tokenizer.encode(input, false);
            if found != *expected || again.encode(input, false) != found {
                failures.push(format!(
                    "{name} case {n}: {input:?}\n  expected {expected:?}\n  found    {found:?}"
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn any_text_comes_back() {
    let Some(folder) = shared("tokenizer-vocab") else { return };
    for name in VOCABULARIES.into_iter().filter(|&n| n != "bert-bge") {
        let tokenizer = open(&folder, name);
        assert_round_trips(&tokenizer);
        for (input, ids) in cases(&folder, name) {
            assert_eq!(tokenizer.decode(&ids), input, "{name}");
            assert_streams(&tokenizer, &ids);
        }
    }
}

#[test]
fn bert_surrounds_a_text_and_parts_its_words() {
    let Some(folder) = shared("tokenizer-vocab") else { return };
    let bert = open(&folder, "bert-bge");
    assert_eq!(bert.encode("Hello world", true), [101, 7592, 2088, 102]);
    assert_eq!(bert.decode(&[101, 7592, 2088, 999, 102]), "hello world !");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a bound on the time that encoding takes")]
fn a_megabyte_takes_well_under_two_seconds() {
    let Some(folder) = shared("tokenizer-vocab") else { return };
    let Some(text) = shared("wikitext-2/test.txt") else { return };
    let text = std::fs::read_to_string(text).unwrap();
    let mut hard = vec![("text", text[..text.floor_char_boundary(1 << 20)].to_owned())];
    for (what, unit) in [("a", "a"), ("A", "A"), ("spaces", " "), ("lines", "\n"), ("1", "1")] {
        hard.push((what, unit.repeat(1 << 18)));
    }
    hard.push(("spaces, then a digit", " ".repeat(1 << 18) + "1"));
    for name in VOCABULARIES {
        let tokenizer = open(&folder, name);
        for (what, text) in &hard {
            let start = std::time::Instant::now();
            let n = tokenizer.encode(text, false).len();
            let seconds = start.elapsed().as_secs_f64();
            println!("{name}: {} bytes of {what} in {seconds:.2} s, {n} tokens", text.len());
            // Quadratic time would be minutes; the slack is for machines busy with other tests.
            assert!(seconds < 20.0, "{name}: {what} took {seconds} s");
        }
    }
}

#[test]
fn gpt_neox_encodes_the_same_as_gguf() {
    let Some(path) = shared("hf-tokenizers/gpt-neox-20B_tokenizer.json") else { return };
    let tokenizer = Tokenizer::from_json(&path).unwrap();
    let hello = tokenizer.encode("Hello world", true);
    assert_eq!(
        hello.iter().map(|&id| tokenizer.token(id).unwrap()).collect::<Vec<_>>(),
        ["Hello", "Ġworld"]
    );
    assert!(tokenizer.is_end(0), "<|endoftext|>");
    let again = rebuilt(&tokenizer);
    assert_eq!(tokenizer.vocab_len(), again.vocab_len());
    let Some(text) = shared("wikitext-2/test.txt") else { return };
    let text = std::fs::read_to_string(text).unwrap();
    for line in text.lines().filter(|l| !l.trim().is_empty()).take(500) {
        let ids = tokenizer.encode(line, true);
        assert_eq!(ids, again.encode(line, true), "{line}");
        assert_eq!(tokenizer.decode(&ids), line);
        assert_streams(&tokenizer, &ids);
    }
    for parse_special in [false, true] {
        let text = "a<|endoftext|>b          c\n\n  d";
        let ids = tokenizer.encode_special(text, true, parse_special);
        assert_eq!(ids, again.encode_special(text, true, parse_special));
        assert_eq!(ids.contains(&0), parse_special);
    }
}

#[test]
fn the_story_tokenizer_of_llama2_c_reads_a_story() {
    let Some(path) = shared("tinyllamas/stories260K.bin") else { return };
    let tokenizer = build(&Checkpoint::open(&path).unwrap().metadata);
    assert_eq!(tokenizer.vocab_len(), 512);
    let ids = tokenizer.encode("Once upon a time", true);
    assert_eq!(ids, [1, 403, 407, 261, 378]);
    assert_eq!(tokenizer.decode(&ids), "Once upon a time");
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
    assert!(tokenizer.is_end(2));
    assert_round_trips(&tokenizer);
}
