//! Agreement with llama.cpp, in both directions. Opt-in: set STERNA_PEERS_DIR to a folder with
//! llama-quantize and libllama.so (see CONTRIBUTING.md), STERNA_PEERS to a Python with numpy, and
//! PYTHONPATH to the llama-cpp-python sources.

#[path = "../cli/tiny.rs"]
mod tiny;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use sterna_model::Model;
use sterna_runtime::{Chunk, KvEncoding, Logits, Program, Runner, Settings};

/// The peer, if this machine has it.
struct Peer {
    folder: PathBuf,
    python: String,
}

impl Peer {
    fn find() -> Option<Self> {
        let Some(folder) = std::env::var_os("STERNA_PEERS_DIR") else {
            println!("skipped: STERNA_PEERS_DIR does not name a folder with llama.cpp's programs");
            return None;
        };
        let python = std::env::var("STERNA_PEERS").unwrap_or_else(|_| "python3".into());
        Some(Self { folder: folder.into(), python })
    }

    fn quantize(&self, from: &Path, to: &Path, kind: &str, pure: bool) {
        let mut command = Command::new(self.folder.join("llama-quantize"));
        if pure {
            command.arg("--pure");
        }
        let output = command.arg(from).arg(to).arg(kind).output().expect("llama-quantize runs");
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "llama-quantize {kind}: {log}");
    }

    /// One row of logits per token of each sequence.
    fn logits(&self, model: &Path, sequences: &[Vec<u32>]) -> Vec<f32> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (tokens, out) = (folder.path().join("tokens.json"), folder.path().join("logits"));
        let json = serde_json::to_string(sequences).expect("numbers");
        std::fs::write(&tokens, json).expect("writable");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/llama_cpp/logits.py");
        let output = Command::new(&self.python)
            .env("LLAMA_CPP_LIB_PATH", &self.folder)
            .arg(script)
            .args([model, &tokens, &out])
            .output()
            .expect("Python runs");
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "logits.py on {}: {log}", model.display());
        let bytes = std::fs::read(out).expect("written");
        bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
    }
}

/// Sterna's binary.
fn sterna(args: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_sterna")).args(args).output().expect("built");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "sterna {args:?}: {log}");
}

fn our_logits(model: &Path, sequences: &[Vec<u32>]) -> Vec<f32> {
    let model = Model::open(model).expect("a model");
    let settings = Settings { context_len: 512, kv: KvEncoding::F32, ..Settings::default() };
    let program = Program::compile(&model.graph, &model, &settings, None).expect("runnable");
    let mut runner = Runner::new(Arc::new(program)).expect("runnable");
    let mut all = Vec::new();
    for tokens in sequences {
        let sequence = runner.new_sequence();
        let chunk = Chunk { sequence, tokens, logits: Logits::All };
        all.extend_from_slice(runner.forward(&[chunk]).expect("it runs"));
        runner.free(sequence).expect("it was there");
    }
    all
}

/// Mean negative log-likelihood of each next token.
fn nll(logits: &[f32], sequences: &[Vec<u32>], vocab: usize) -> f64 {
    let mut rows = logits.chunks(vocab);
    let (mut sum, mut n) = (0.0, 0);
    for tokens in sequences {
        for (i, row) in rows.by_ref().take(tokens.len()).enumerate() {
            if let Some(&next) = tokens.get(i + 1) {
                sum += sterna_measure::quality::logits::nll(row, next);
                n += 1;
            }
        }
    }
    sum / f64::from(n)
}

/// Relative error of logits (both centred, since softmax knows no constant) and top-1 agreement.
fn agreement(ours: &[f32], theirs: &[f32], vocab: usize) -> (f64, f64) {
    let (mut error, mut norm, mut same, mut rows) = (0.0, 0.0, 0, 0);
    for (a, b) in ours.chunks(vocab).zip(theirs.chunks(vocab)) {
        let mean = |x: &[f32]| x.iter().map(|&v| f64::from(v)).sum::<f64>() / vocab as f64;
        let (mean_a, mean_b) = (mean(a), mean(b));
        for (&x, &y) in a.iter().zip(b) {
            let (x, y) = (f64::from(x) - mean_a, f64::from(y) - mean_b);
            error += (x - y).powi(2);
            norm += y.powi(2);
        }
        let top = |x: &[f32]| (0..vocab).max_by(|&i, &j| x[i].total_cmp(&x[j]));
        same += usize::from(top(a) == top(b));
        rows += 1;
    }
    ((error / norm).sqrt(), f64::from(same as u32) / f64::from(rows))
}

fn data() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("STERNA_DATA") {
        return Some(folder.into());
    }
    let mut folder = Some(Path::new(env!("CARGO_MANIFEST_DIR")));
    while let Some(here) = folder {
        if here.join("shared/data").is_dir() {
            return Some(here.join("shared/data"));
        }
        folder = here.parent();
    }
    println!("skipped: no shared/data above this checkout");
    None
}

/// The first stories as tokens, BOS first.
fn stories(model: &Model, data: &Path, n: usize) -> Vec<Vec<u32>> {
    let text = std::fs::read_to_string(data.join("tinystories/tinystories_sample_2MiB.txt"));
    let text = text.expect("the stories are there");
    let tokenizer = model.tokenizer().expect("a tokenizer");
    let encode = |story: &str| {
        let short: String = story.trim().chars().take(900).collect();
        let mut tokens = tokenizer.encode(&short, true);
        tokens.truncate(256);
        tokens
    };
    text.split("<|endoftext|>").filter(|s| !s.trim().is_empty()).take(n).map(encode).collect()
}

// The trained model, in both directions: perplexity on the same text within 0.2%.
#[test]
fn stories_have_the_same_perplexity() {
    let (Some(peer), Some(data)) = (Peer::find(), data()) else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let source = data.join("tinyllamas/stories260K.bin");
    let f32 = at("f32.gguf");
    sterna(&["convert", &source.display().to_string(), &f32.display().to_string()]);
    let model = Model::open(&f32).expect("our own file");
    let sequences = stories(&model, &data, 20);
    let vocab = model.config.vocab_len;
    for kind in ["F32", "F16", "Q8_0", "Q4_0"] {
        let ours = at(&format!("ours-{kind}.gguf"));
        let theirs = at(&format!("theirs-{kind}.gguf"));
        let (from, to) = (f32.display().to_string(), ours.display().to_string());
        sterna(&["quantize", &from, &to, kind, "--pure"]);
        peer.quantize(&f32, &theirs, kind, true);
        for (who, file) in [("Sterna's", &ours), ("llama.cpp's", &theirs)] {
            let here = nll(&our_logits(file, &sequences), &sequences, vocab);
            let there = nll(&peer.logits(file, &sequences), &sequences, vocab);
            let ratio = (here - there).exp();
            println!("{who} {kind}: nll {here:.5} here, {there:.5} there, ratio {ratio:.5}");
            assert!((ratio - 1.0).abs() < 0.002, "{who} {kind}: perplexity ratio {ratio}");
        }
    }
}

// Every other encoding, on a random model with rows of 256 and 512.
#[test]
fn random_models_have_the_same_logits() {
    let Some(peer) = Peer::find() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let f32 = tiny::write(folder.path(), "f32.gguf", &tiny::WIDE);
    let model = Model::open(&f32).expect("our own file");
    let vocab = model.config.vocab_len;
    let mut rng = tiny::Rng(9);
    let mut token = || (rng.normal().to_bits() >> 5) % vocab as u32;
    let sequences: Vec<Vec<u32>> = (0..8).map(|_| (0..64).map(|_| token()).collect()).collect();
    for kind in ["Q6_K", "Q4_K", "Q3_K", "Q2_K", "TQ2_0", "TQ1_0", "IQ4_NL"] {
        let ours = folder.path().join(format!("ours-{kind}.gguf"));
        let theirs = folder.path().join(format!("theirs-{kind}.gguf"));
        peer.quantize(&f32, &theirs, &llama_name(kind), true);
        let mut files = vec![("llama.cpp's", theirs)];
        if kind != "IQ4_NL" {
            let (from, to) = (f32.display().to_string(), ours.display().to_string());
            sterna(&["quantize", &from, &to, kind, "--pure"]);
            files.push(("Sterna's", ours));
        }
        for (who, file) in files {
            let here = our_logits(&file, &sequences);
            let there = peer.logits(&file, &sequences);
            let (error, same) = agreement(&here, &there, vocab);
            println!("{who} {kind}: relative error {error:.5}, same top-1 {:.4}", same);
            assert!(error < 0.01 && same >= 0.98, "{who} {kind}: {error}, {same}");
        }
    }
}

/// llama-quantize names some encodings after its mixes.
fn llama_name(kind: &str) -> String {
    match kind {
        "Q4_K" => "Q4_K_S".into(),
        "Q3_K" => "Q3_K_S".into(),
        other => other.into(),
    }
}
