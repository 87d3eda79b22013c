//! Encoders: converted, quantized, measured and served; and what they refuse.

use crate::serve::Server;
use crate::tiny::Rng;
use crate::{ok, refused};
use serde_json::{Value as Json, json};
use std::path::Path;
use sterna_formats::encodings::by_name;
use sterna_formats::{Array, GgufWriter, Metadata, TensorDecl, Value};
use sterna_model::{Config, Role, archs, presets};

const WORDS: [&str; 12] =
    ["the", "cat", "dog", "sat", "ran", "on", "a", "mat", "house", "tree", "and", "then"];

fn tokenizer(metadata: &mut Metadata) -> usize {
    let mut tokens = vec!["[PAD]".to_owned(), "[UNK]".into(), "[CLS]".into(), "[SEP]".into()];
    tokens.extend(WORDS.map(|word| format!("\u{2581}{word}")));
    let kinds = (0..tokens.len()).map(|id| if id == 1 { 2 } else { 1 + 2 * i32::from(id < 4) });
    let n_tokens = tokens.len();
    metadata.set("tokenizer.ggml.model", Value::Str("bert".into()));
    metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds.collect())));
    metadata.set("tokenizer.ggml.tokens", Value::Array(Array::Str(tokens)));
    for (name, id) in [("unknown", 1), ("cls", 2), ("seperator", 3)] {
        metadata.set(format!("tokenizer.ggml.{name}_token_id"), Value::U32(id));
    }
    n_tokens
}

/// A tiny BERT of random weights, with pairs of texts, and a text, beside it.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let arch = archs::by_name("bert").unwrap();
    let mut words = Metadata::default();
    let config = Config {
        n_layers: 2,
        dim: 320,
        ffn_dim: 320,
        n_heads: 10,
        n_kv_heads: 10,
        head_dim: 32,
        vocab_len: tokenizer(&mut words),
        context_len: 256,
        rotary_dim: 0,
        biases: archs::bert::biases(),
        ..presets::by_name("bitnet-tiny").unwrap().config()
    };
    let graph = arch.graph(&config).unwrap();
    let mut metadata = arch.metadata(&config);
    words.iter().for_each(|(key, value)| metadata.set(key, value.clone()));
    metadata.set("general.name", Value::Str("tiny-bert".into()));
    metadata.set("bert.pooling_type", Value::U32(1));
    let encoding = by_name("F32").unwrap();
    let decl = |decl: &sterna_model::WeightDecl| TensorDecl {
        name: decl.name.clone(),
        shape: decl.shape.clone(),
        encoding,
    };
    let decls = graph.weights.iter().map(decl).collect();
    let path = folder.path().join("bert.gguf");
    let mut writer = GgufWriter::create(&path, &metadata, decls).unwrap();
    let mut rng = Rng(3);
    for decl in &graph.weights {
        let n: usize = decl.shape.iter().product();
        let (centre, spread) = match decl.role {
            Role::Norm => (1.0, 0.05),
            Role::Bias => (0.0, 0.1),
            Role::TokenEmbedding => (0.0, 1.0),
            _ => (0.0, 0.07),
        };
        let bytes: Vec<u8> =
            (0..n).flat_map(|_| (centre + spread * rng.normal()).to_le_bytes()).collect();
        writer.write_tensor(&bytes).unwrap();
    }
    writer.finish().unwrap();
    let mut text = |n: usize| -> String {
        let mut word = || WORDS[(rng.normal().to_bits() >> 7) as usize % WORDS.len()];
        (0..n).map(|_| word()).collect::<Vec<_>>().join(" ")
    };
    let pairs: String = (0..40)
        .map(|n| format!("{}\t{}\t{}.5\n", text(3 + n % 9), text(4 + n % 5), n % 6))
        .collect();
    let texts: Vec<String> = (0..20).map(|_| text(30)).collect();
    std::fs::write(folder.path().join("pairs.tsv"), pairs).unwrap();
    std::fs::write(folder.path().join("text.txt"), texts.join("\n\n")).unwrap();
    folder
}

fn figure(figures: &Json, name: &str) -> f64 {
    let all = figures.as_array().unwrap();
    let found = all.iter().find(|figure| figure["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {figures}"))["value"].as_f64().unwrap()
}

// proves S-1, S-2, B30 (in form: numbers of a real encoder are in the README)
#[test]
fn an_encoder_is_quantized_in_every_way_and_measured_against_itself() {
    let folder = folder();
    let at = folder.path();
    let statistics = ["calibrate", "bert.gguf", "--calib", "text.txt", "--calib-seqlen", "40"];
    ok(at, &[&statistics[..], &["-o", "seen.gguf"]].concat());
    let ways: [(&str, &[&str]); 4] = [
        ("plain.gguf", &[]),
        ("dynamic.gguf", &["--activations", "dynamic"]),
        ("static.gguf", &["--activations", "static", "--imatrix", "seen.gguf"]),
        (
            "entropy.gguf",
            &["--activations", "static", "--imatrix", "seen.gguf", "--ranges", "entropy"],
        ),
    ];
    let mut nearest = Vec::new();
    for (file, flags) in ways {
        ok(at, &[&["quantize", "bert.gguf", file, "Q8_0"], flags].concat());
        let args = ["eval", file, "--baseline", "bert.gguf", "--pairs", "pairs.tsv", "--json"];
        let figures: Json = serde_json::from_str(&ok(at, &args)).unwrap();
        let cosine = figure(&figures, "embedding_cosine_mean");
        assert!(cosine > 0.98 && cosine < 1.0, "{file}: {figures}");
        assert!(figure(&figures, "texts_per_s") > 0.0);
        assert!(figure(&figures, "similarity_spearman_drop").abs() < 20.0);
        nearest.push(cosine);
    }
    assert!(nearest.iter().skip(1).all(|cosine| *cosine != nearest[0]), "{nearest:?}");
    std::fs::write(at.join("none.tsv"), "a\tb\t1\n").unwrap();
    refused(at, &["eval", "bert.gguf", "--pairs", "none.tsv", "--documents", "0"]);
    // A file that is written once more sees its inputs as before.
    ok(at, &["convert", "static.gguf", "again.gguf"]);
    let bytes = |name: &str| std::fs::read(at.join(name)).unwrap();
    assert_eq!(bytes("static.gguf"), bytes("again.gguf"));
    let inspected = ok(at, &["inspect", "static.gguf", "--graph"]);
    assert!(inspected.contains("activations=int8 within"), "{inspected}");
}

#[test]
fn an_encoder_is_served() {
    let folder = folder();
    let model = folder.path().join("bert.gguf").display().to_string();
    let server = Server::of(folder.path(), &[&model]);
    let text = "the cat sat on a mat";
    let (status, answer) =
        server.post("/v1/embeddings", &json!({ "model": "bert", "input": [text, "a dog", text] }));
    assert_eq!(status, 200, "{answer}");
    let vectors = |answer: &Json| -> Vec<Vec<f64>> {
        let numbers = |of: &Json| -> Vec<f64> {
            of["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
        };
        answer["data"].as_array().unwrap().iter().map(numbers).collect()
    };
    let all = vectors(&answer);
    let norm = all[0].iter().map(|x| x * x).sum::<f64>().sqrt();
    assert!((norm - 1.0).abs() < 1e-5 && all[0].len() == 320, "{norm}");
    assert_eq!(all[0], all[2], "whatever comes beside it");
    assert_ne!(all[0], all[1]);
    // [CLS], six words, [SEP]; and two words between them.
    assert_eq!(answer["usage"]["prompt_tokens"], 8 + 4 + 8);
    let (status, answer) = server.post(
        "/v1/chat/completions",
        &json!({ "model": "bert", "messages": [{ "role": "user", "content": text }] }),
    );
    assert_eq!(status, 400);
    let why = answer["error"]["message"].as_str().unwrap();
    assert!(why.contains("ask it for embeddings"), "{why}");
    let long = ["cat"; 300].join(" ");
    let (status, answer) =
        server.post("/v1/embeddings", &json!({ "model": "bert", "input": long }));
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("context_length_exceeded")));
    let (status, ready) = server.get("/health/ready");
    assert!(status == 200 && ready.contains("\"ready\""), "{status} {ready}");
}

#[test]
fn what_needs_predicted_tokens_says_so() {
    let folder = folder();
    let at: &Path = folder.path();
    let cases: [(&[&str], &str); 8] = [
        (&["run", "bert.gguf", "the cat"], "/v1/embeddings"),
        (&["eval", "bert.gguf", "-f", "pairs.tsv", "--max-tokens", "9"], "/v1/embeddings"),
        (
            &["optimize", "bert.gguf", "--calib", "text.txt", "--max-size", "1MB"],
            "sterna eval --pairs",
        ),
        (&["prune", "bert.gguf", "--calib", "text.txt", "--channels", "20%"], "encodes texts"),
        (&["eval", "bert.gguf", "--pairs", "text.txt"], "line 1 has 1 columns"),
        (&["eval", "bert.gguf", "--pairs", "pairs.tsv", "-f", "text.txt"], "cannot be used with"),
        (
            &["quantize", "bert.gguf", "x.gguf", "Q8_0", "--activations", "static"],
            "sterna calibrate",
        ),
        (
            &["quantize", "bert.gguf", "x.gguf", "Q8_0", "--ranges", "entropy"],
            "--activations static",
        ),
    ];
    for (args, word) in cases {
        let said = refused(at, args);
        assert!(said.contains(word), "{args:?}: {said}");
    }
    std::fs::write(at.join("long.tsv"), format!("{}\ta\t1\n", ["cat"; 300].join(" "))).unwrap();
    let said = refused(at, &["eval", "bert.gguf", "--pairs", "long.tsv"]);
    assert!(said.contains("302 tokens") && said.contains("takes 1 to 256"), "{said}");
}
