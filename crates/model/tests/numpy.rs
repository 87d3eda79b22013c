//! Agreement with an independent NumPy implementation, on Hugging Face directories with random
//! weights: Llama (llama3 scaling), Mistral (sliding window), Qwen 2 (biases, tied, linear scaling),
//! Qwen 3 (QK-norm, heads of their own size) and BitNet b1.58 (ternary layers on int8 activations).
//!
//! `numpy/` holds small directories with the logits that `reference.py` computed, so the test runs
//! everywhere. Where a Python with numpy is at hand (`STERNA_PEERS`, else `python3`), the script
//! makes larger ones anew.

use std::path::{Path, PathBuf};
use std::process::Command;
use sterna_model::{Model, eval_graph};

/// Logits may differ by this much: NumPy computes in float64.
const TOLERANCE: f64 = 1e-4;

const MODELS: &[&str] = &["llama", "mistral", "qwen2", "qwen3", "bitnet"];

fn compare(directory: &Path) {
    let model = Model::open(directory).unwrap();
    assert_eq!(model.warnings, Vec::<String>::new());
    let text = std::fs::read_to_string(directory.join("logits.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
    let list = |key: &str| expected[key].as_array().unwrap();
    let tokens: Vec<u32> = list("tokens").iter().map(|t| t.as_u64().unwrap() as u32).collect();
    let logits = eval_graph(&model.graph, &model, &tokens).unwrap();
    let (mut worst, mut largest) = (0.0f64, 0.0f64);
    for (row, wanted) in list("rows").iter().zip(list("logits")) {
        let row = row.as_u64().unwrap() as usize;
        let found = &logits[row * model.config.vocab_len..(row + 1) * model.config.vocab_len];
        let wanted = wanted.as_array().unwrap();
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter().zip(wanted) {
            let wanted = wanted.as_f64().unwrap();
            worst = worst.max((f64::from(*found) - wanted).abs());
            largest = largest.max(wanted.abs());
        }
    }
    println!("{}: largest difference {worst:.1e}", directory.display());
    assert!(worst < TOLERANCE, "{}: {worst} from NumPy", directory.display());
    assert!(largest > 1.0, "logits this small would agree whatever they are");
}

#[test]
fn committed_directories_give_numpys_logits() {
    for name in MODELS {
        compare(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/numpy").join(name));
    }
}

#[test]
fn larger_directories_made_now_give_numpys_logits() {
    let python = std::env::var_os("STERNA_PEERS").unwrap_or("python3".into());
    let probe = Command::new(&python).args(["-c", "import numpy"]).output();
    if !probe.is_ok_and(|p| p.status.success()) {
        println!(
            "skipped: {} cannot import numpy; set STERNA_PEERS",
            PathBuf::from(python).display()
        );
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/numpy/reference.py");
    let out = tempfile::tempdir().unwrap();
    let status = Command::new(&python).arg(script).arg(out.path()).arg("large").status();
    assert!(status.unwrap().success());
    MODELS.iter().for_each(|name| compare(&out.path().join(name)));
}
