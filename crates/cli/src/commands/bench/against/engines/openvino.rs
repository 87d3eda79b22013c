//! OpenVINO GenAI, driven by a small Python program on the GGUF file itself.

use super::{Engine, Peers};
use anyhow::Context;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use sterna_measure::latency::BenchTest as Test;

/// As people call it.
pub const NAME: &str = "openvino";

/// Loads the file, warms up, measures, prints JSON.
const DRIVER: &str = include_str!("openvino.py");

/// The Python that has it.
struct OpenVino(PathBuf);

/// Finds its Python.
///
/// # Errors
/// When it is not there.
pub fn find(peers: &Peers) -> anyhow::Result<Box<dyn Engine>> {
    Ok(Box::new(OpenVino(peers.python()?)))
}

impl Engine for OpenVino {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> String {
        let mut python = Command::new(&self.0);
        let said = python.args(["-c", "import openvino_genai as g; print(g.__version__)"]).output();
        let said = said.ok().filter(|output| output.status.success());
        let version = said.and_then(|output| String::from_utf8(output.stdout).ok());
        version.map_or("openvino_genai cannot be imported".into(), |text| text.trim().into())
    }

    fn command(&self, file: &Path, test: Test, n_threads: usize) -> Result<Command, String> {
        if test.n_sequences > 1 {
            return Err("its GGUF pipeline is driven here with one sequence only".into());
        }
        if test.n_prompt > 0 && test.n_depth > 0 {
            return Err("a prompt at a depth is not measured with it".into());
        }
        let mut command = Command::new(&self.0);
        command.args(["-c", DRIVER]).arg(file);
        for n in [test.n_prompt, test.n_gen, test.n_depth, n_threads] {
            command.arg(n.to_string());
        }
        Ok(command)
    }

    fn shown(&self, command: &Command) -> String {
        let words = command.get_args().skip(2).map(|word| word.to_string_lossy());
        format!("{} openvino.py {}", self.0.display(), words.collect::<Vec<_>>().join(" "))
    }

    fn speed(&self, output: &str, _: Test) -> anyhow::Result<f64> {
        // Its libraries may print before.
        let last = output.lines().last().unwrap_or_default();
        let said: Value = serde_json::from_str(last).context("it printed no JSON")?;
        let (tokens, seconds) = (said["tokens"].as_f64(), said["seconds"].as_f64());
        let speed = tokens.zip(seconds).map(|(tokens, seconds)| tokens / seconds);
        speed.filter(|s| s.is_finite() && *s > 0.0).context("its speed is not a number above zero")
    }
}
