//! A workload: a model shape and what to race on it, read from `workloads/NAME.toml`.

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

/// One of llama-bench's tests, written `pp512` or `tg128`, with `@d4096` where it comes after so
/// many tokens, and `x16` where so many sequences generate together: `tg64@d256x16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Test {
    /// Tokens of the prompt, or 0.
    pub n_prompt: usize,
    /// Tokens generated, or 0.
    pub n_gen: usize,
    /// Tokens in the KV cache before.
    pub depth: usize,
    /// Sequences at once.
    pub n_sequences: usize,
}

impl Test {
    /// The flags of `sterna bench` for this test alone.
    pub fn flags(self) -> Vec<String> {
        let mut flags = vec!["-p".into(), self.n_prompt.to_string()];
        flags.extend(["-n".into(), self.n_gen.to_string()]);
        if self.depth > 0 {
            flags.extend(["--n-depth".into(), self.depth.to_string()]);
        }
        if self.n_sequences > 1 {
            flags.extend(["--sequences".into(), self.n_sequences.to_string()]);
        }
        flags
    }
}

impl TryFrom<String> for Test {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        let parse = || -> Option<Self> {
            let (test, n_sequences) = text.split_once('x').unwrap_or((&text, "1"));
            let (test, depth) = test.split_once("@d").unwrap_or((test, "0"));
            let prompt = test.strip_prefix("pp");
            let n: usize = prompt.or(test.strip_prefix("tg"))?.parse().ok()?;
            let (n_prompt, n_gen) = if prompt.is_some() { (n, 0) } else { (0, n) };
            let (depth, n_sequences) = (depth.parse().ok()?, n_sequences.parse().ok()?);
            let test = Self { n_prompt, n_gen, depth, n_sequences };
            (n > 0 && n_sequences > 0).then_some(test)
        };
        let like = "pp512, tg128, tg128@d4096 or tg64@d256x16";
        parse().with_context(|| format!("test \"{text}\" is not like {like}"))
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.n_prompt {
            0 => write!(f, "tg{}", self.n_gen)?,
            n => write!(f, "pp{n}")?,
        }
        if self.depth > 0 {
            write!(f, "@d{}", self.depth)?;
        }
        if self.n_sequences > 1 {
            write!(f, "x{}", self.n_sequences)?;
        }
        Ok(())
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
            if path.is_dir() || ["targets", "agents"].contains(&name) {
                continue; // no shapes of their own
            }
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
        assert!(error(text.replace("pp16", "tg8x0")).contains("not like pp512"));
        assert!(error(text.replace("n_heads = 4", "n_heads = 3")).contains("does not divide"));
    }

    #[test]
    fn tests_are_read_as_they_are_written() {
        for text in ["pp512", "tg128", "tg128@d4096", "tg64@d256x16", "tg8x2"] {
            assert_eq!(Test::try_from(text.to_owned()).unwrap().to_string(), text);
        }
        let flags = Test::try_from("tg64@d256x16".to_owned()).unwrap().flags();
        assert_eq!(flags.join(" "), "-p 0 -n 64 --n-depth 256 --sequences 16");
    }
}
