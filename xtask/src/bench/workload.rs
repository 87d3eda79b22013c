//! A workload of the race: a model shape and what to run on it, read from `workloads/NAME.toml`.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::fmt;
use std::path::Path;

/// What a workload file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// For people.
    pub about: String,
    /// Of the random weights.
    pub seed: u64,
    /// Standard deviation of the weights.
    pub weight_std: f32,
    /// Encodings to race.
    pub encodings: Vec<String>,
    /// What is timed.
    pub tests: Vec<Test>,
    /// Rounds of four runs.
    pub rounds: usize,
    /// The model.
    pub shape: Shape,
}

/// A Llama shape; the head is a matrix of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    pub n_layers: usize,
    pub dim: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub ffn_dim: usize,
    pub vocab_len: usize,
    pub context_len: usize,
}

/// llama-bench's two tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Test {
    /// Reads a prompt of so many tokens.
    Prefill(usize),
    /// Generates so many tokens.
    Decode(usize),
}

impl Test {
    /// `-p` and `-n` of both engines.
    pub fn counts(self) -> (usize, usize) {
        match self {
            Test::Prefill(n) => (n, 0),
            Test::Decode(n) => (0, n),
        }
    }
}

impl TryFrom<String> for Test {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        let number = |n: &str| n.parse().ok().filter(|n| *n > 0);
        let prefill = text.strip_prefix("pp").and_then(number).map(Test::Prefill);
        let decode = text.strip_prefix("tg").and_then(number).map(Test::Decode);
        prefill.or(decode).with_context(|| format!("test \"{text}\" is not like pp512 or tg128"))
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Test::Prefill(n) => write!(f, "pp{n}"),
            Test::Decode(n) => write!(f, "tg{n}"),
        }
    }
}

impl Workload {
    /// Reads `workloads/NAME.toml` under `root`.
    ///
    /// # Errors
    /// When the file is missing, or has a key too few, too many, or of the wrong kind.
    pub fn read(root: &Path, name: &str) -> Result<Self> {
        let path = root.join("workloads").join(format!("{name}.toml"));
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let workload: Self = toml::from_str(text)?;
        let Shape { dim, n_heads, n_kv_heads, .. } = workload.shape;
        ensure!(dim % n_heads.max(1) == 0, "dim {dim} does not divide into n_heads {n_heads}");
        ensure!(
            n_heads % n_kv_heads.max(1) == 0,
            "n_heads {n_heads} does not divide into n_kv_heads {n_kv_heads}"
        );
        Ok(workload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root;

    #[test]
    fn every_workload_file_can_be_read() {
        let mut n_files = 0;
        for file in std::fs::read_dir(root::root().join("workloads")).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let workload = Workload::read(&root::root(), name).unwrap();
            assert!(!workload.tests.is_empty() && workload.rounds > 0, "{name}");
            n_files += 1;
        }
        assert!(n_files >= 3);
    }

    #[test]
    fn a_wrong_key_or_test_is_an_error() {
        let text = std::fs::read_to_string(root::root().join("workloads/smoke.toml")).unwrap();
        let error = |text: String| format!("{:#}", Workload::parse(&text).unwrap_err());
        assert!(error(text.replace("rounds", "runds")).contains("runds"));
        assert!(error(text.replace("pp16", "pp")).contains("not like pp512"));
        assert!(error(text.replace("n_heads = 4", "n_heads = 3")).contains("does not divide"));
    }
}
