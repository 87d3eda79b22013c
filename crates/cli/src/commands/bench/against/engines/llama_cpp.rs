//! llama.cpp, by its own benchmarks at its best settings on a CPU: llama-bench for one sequence,
//! llama-batched-bench for several. Their defaults are the best but for flash attention, which
//! prompts gain from and generation behind a context loses from.

use super::{Engine, Peers, version_line};
use anyhow::Context;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use sterna_measure::latency::BenchTest as Test;

/// As people call it.
pub const NAME: &str = "llama.cpp";

/// The folder with its programs.
struct LlamaCpp(PathBuf);

/// Finds its programs.
///
/// # Errors
/// When they are not there.
pub fn find(peers: &Peers) -> anyhow::Result<Box<dyn Engine>> {
    Ok(Box::new(LlamaCpp(peers.llama_cpp()?)))
}

impl Engine for LlamaCpp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> String {
        version_line(Command::new(self.0.join("llama-bench")).arg("--version"))
    }

    fn command(&self, file: &Path, test: Test, n_threads: usize) -> Result<Command, String> {
        let is_batched = test.n_sequences > 1;
        let program = if is_batched { "llama-batched-bench" } else { "llama-bench" };
        let mut command = Command::new(self.0.join(program));
        command.arg("-m").arg(file);
        let mut number = |flag: &str, n: usize| {
            command.args([flag, &n.to_string()]);
        };
        number("-t", n_threads);
        if is_batched {
            number("-npp", test.n_depth.max(1));
            number("-ntg", test.n_gen);
            number("-npl", test.n_sequences);
            number("-c", test.context_len().max(2) * test.n_sequences);
            command.args(["--output-format", "jsonl"]);
        } else {
            number("-p", test.n_prompt);
            number("-n", test.n_gen);
            number("-d", test.n_depth);
            number("-r", 1);
            command.args(["-o", "json"]);
        }
        if test.n_gen > 0 && test.n_depth > 0 {
            // Measured on 2 CPUs, 1.1B Q4_0: 10.5 tokens/s without it behind 2048 tokens, 6.5 with;
            // in 16 sequences behind 256 each 66.8 and 47.5. Behind nothing it gains 5%, and a
            // prompt behind 2048 tokens 17%.
            command.args(["-fa", "off"]);
        }
        Ok(command)
    }

    fn speed(&self, output: &str, test: Test) -> anyhow::Result<f64> {
        match test.n_sequences {
            1 => speed_of_entry(output, test),
            _ => speed_of_batch(output, test),
        }
    }
}

/// `avg_ts` of the entry of llama-bench's JSON that has the test's counts.
///
/// # Errors
/// When there is none, or its speed is not above zero.
pub fn speed_of_entry(output: &str, test: Test) -> anyhow::Result<f64> {
    let list: Vec<Value> = serde_json::from_str(output).context("it printed no JSON list")?;
    let counts = [("n_prompt", test.n_prompt), ("n_gen", test.n_gen), ("n_depth", test.n_depth)];
    let fits = |entry: &&Value| {
        counts.iter().all(|(key, n)| entry[*key].as_u64().unwrap_or(0) == *n as u64)
    };
    let entry = list.iter().find(fits).with_context(|| format!("it printed no entry of {test}"))?;
    above_zero(&entry["avg_ts"])
}

/// `speed_tg` of the line of llama-batched-bench that has the test's counts.
fn speed_of_batch(output: &str, test: Test) -> anyhow::Result<f64> {
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut fitting = lines.filter(|line| {
        line["pl"].as_u64() == Some(test.n_sequences as u64)
            && line["tg"].as_u64() == Some(test.n_gen as u64)
    });
    let line = fitting.next().with_context(|| format!("it printed no line of {test}"))?;
    above_zero(&line["speed_tg"])
}

fn above_zero(speed: &Value) -> anyhow::Result<f64> {
    let speed = speed.as_f64().filter(|speed| speed.is_finite() && *speed > 0.0);
    speed.context("its speed is not a number above zero")
}
