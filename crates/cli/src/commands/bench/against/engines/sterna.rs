//! Sterna itself: a fresh process of this same program.

use super::Engine;
use super::llama_cpp::speed_of_entry;
use crate::compute::ComputeArgs;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use sterna_measure::latency::BenchTest as Test;

/// This program with the user's flags.
pub struct Sterna {
    program: PathBuf,
    flags: Vec<OsString>,
}

impl Sterna {
    /// To run as `compute` says.
    ///
    /// # Errors
    /// When this program does not know where it is.
    pub fn new(compute: &ComputeArgs) -> anyhow::Result<Self> {
        Ok(Self { program: std::env::current_exe()?, flags: compute.as_flags() })
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|given| given == flag)
    }
}

impl Engine for Sterna {
    fn name(&self) -> &'static str {
        "sterna"
    }

    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    fn command(&self, file: &Path, test: Test, n_threads: usize) -> Result<Command, String> {
        let mut command = Command::new(&self.program);
        command.arg("bench").arg(file).args(["--json", "--no-probe", "-r", "1"]).args(&self.flags);
        let mut number = |flag: &str, n: usize| {
            command.args([flag, &n.to_string()]);
        };
        number("-p", test.n_prompt);
        number("-n", test.n_gen);
        if !self.has("--threads") {
            number("--threads", n_threads);
        }
        if test.n_depth > 0 {
            number("--n-depth", test.n_depth);
        }
        if test.n_sequences > 1 {
            number("--sequences", test.n_sequences);
        }
        if test.n_depth > 0 && !self.has("--ctx-size") {
            number("--ctx-size", test.context_len());
        }
        Ok(command)
    }

    fn speed(&self, output: &str, test: Test) -> anyhow::Result<f64> {
        speed_of_entry(output, test)
    }
}
