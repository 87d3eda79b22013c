//! One test on one file, run by both engines in turn: ours, theirs, theirs, ours; the next round
//! the other way round, so that a drift of the machine within a round cancels.
//!
//! In: a file and a test. Out: every run's tokens per second, in the order taken.

use super::Setup;
use super::workload::Test;
use crate::root;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use sterna_formats::Checkpoint;
use sterna_measure::Samples;

/// What both engines did on one file and test.
pub struct Race {
    pub encoding: String,
    pub test: Test,
    /// Tokens per second of each run.
    pub ours: Samples,
    pub theirs: Samples,
    /// Bytes of weights that one generated token reads.
    pub bytes_per_token: usize,
    pub file_bytes: u64,
}

/// Runs the rounds.
///
/// # Errors
/// When an engine fails or prints something else than its results.
pub fn run(setup: &Setup, encoding: &str, file: &Path, test: Test) -> Result<Race> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..setup.workload.rounds {
        for is_ours in [[true, false, false, true], [false, true, true, false]][round % 2] {
            let speed = tokens_per_second(setup, is_ours, file, test)?;
            if is_ours {
                ours.push(speed)
            } else {
                theirs.push(speed)
            }
            let engine = if is_ours { "sterna" } else { "llama.cpp" };
            println!("{encoding} {test} round {}: {engine} {speed:.2} tokens/s", round + 1);
        }
    }
    Ok(Race {
        encoding: encoding.to_owned(),
        test,
        ours: Samples::new("sterna", ours)?,
        theirs: Samples::new("llama.cpp", theirs)?,
        bytes_per_token: bytes_per_token(file)?,
        file_bytes: std::fs::metadata(file)?.len(),
    })
}

/// One run of one engine; both take llama-bench's flags and print its JSON.
fn tokens_per_second(setup: &Setup, is_ours: bool, file: &Path, test: Test) -> Result<f64> {
    let (n_prompt, n_gen) = test.counts();
    let mut command = if is_ours {
        let mut sterna = Command::new(&setup.sterna);
        sterna.arg("bench").arg(file).args(["--json", "--no-probe"]);
        sterna
    } else {
        let mut llama = Command::new(setup.peers.join("llama-bench"));
        llama.arg("-m").arg(file).args(["-o", "json"]);
        llama
    };
    for (flag, n) in [("-p", n_prompt), ("-n", n_gen), ("-t", setup.n_threads), ("-r", 1)] {
        command.arg(flag).arg(n.to_string());
    }
    let shown = format!("{command:?}");
    let hint = if is_ours { "sterna failed" } else { AMX_HINT };
    let output = root::output_of(&mut command).context(hint)?;
    speed_in(&output, n_prompt, n_gen).with_context(|| format!("{shown} printed:\n{output}"))
}

/// Seen with llama.cpp of 2026 on a virtual machine whose CPU has AMX.
const AMX_HINT: &str = "llama.cpp failed; if it crashed and the CPU has AMX, build it with \
    CMAKE_C_FLAGS and CMAKE_CXX_FLAGS of \"-mno-amx-tile -mno-amx-int8 -mno-amx-bf16\"";

/// `avg_ts` of the entry with these counts.
fn speed_in(output: &str, n_prompt: usize, n_gen: usize) -> Result<f64> {
    let list: Value = serde_json::from_str(output).context("not JSON")?;
    let entries = list.as_array().context("not a list")?;
    let fits = |e: &&Value| {
        e["n_prompt"].as_u64() == Some(n_prompt as u64) && e["n_gen"].as_u64() == Some(n_gen as u64)
    };
    let entry = entries.iter().find(fits).context("no entry with the asked n_prompt and n_gen")?;
    entry["avg_ts"].as_f64().filter(|ts| *ts > 0.0).context("no positive avg_ts")
}

fn bytes_per_token(file: &Path) -> Result<usize> {
    let checkpoint = Checkpoint::open(file)?;
    // A head of its own leaves the embedding table to look-ups of single rows.
    let has_head = checkpoint.tensor("output.weight").is_some();
    let is_read = |name: &str| !(has_head && name == "token_embd.weight");
    let read = checkpoint.tensors.iter().filter(|t| is_read(&t.name));
    Ok(read.map(|t| t.n_bytes).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_asked_test_is_read_from_llama_bench_output() {
        let output = r#"[{"n_prompt": 512, "n_gen": 0, "avg_ts": 97.5},
                         {"n_prompt": 0, "n_gen": 128, "avg_ts": 27.25}]"#;
        assert_eq!(speed_in(output, 0, 128).unwrap(), 27.25);
        assert!(speed_in(output, 0, 64).is_err());
        assert!(speed_in("[{\"n_prompt\": 1, \"n_gen\": 0, \"avg_ts\": 0}]", 1, 0).is_err());
        assert!(speed_in("oops", 1, 0).is_err());
    }
}
