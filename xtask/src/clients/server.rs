//! A `sterna serve` for clients, on a port of its own.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// It ends when dropped.
pub struct Server {
    /// Where it is, without `/v1`.
    pub url: String,
    child: Child,
    // Held, so that what the server prints has somewhere to go.
    _out: BufReader<ChildStdout>,
}

impl Server {
    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(sterna: &Path, model: &Path, key: &str, flags: &[&str]) -> Result<Self> {
        let mut command = Command::new(sterna);
        command.arg("serve").arg(model).args(["--port", "0"]).args(flags);
        // The environment is not seen by whoever lists processes.
        command.env("STERNA_API_KEY", key).stdin(Stdio::null()).stdout(Stdio::piped());
        let started = command.spawn();
        let mut child = started.with_context(|| format!("cannot start {}", sterna.display()))?;
        let mut out = BufReader::new(child.stdout.take().expect("stdout was piped"));
        let mut line = String::new();
        out.read_line(&mut line).context("the server printed no UTF-8")?;
        let Some(url) = line.trim().strip_prefix("listening at ") else {
            bail!("the server did not start; it says why above");
        };
        Ok(Self { url: url.to_owned(), child, _out: out })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
