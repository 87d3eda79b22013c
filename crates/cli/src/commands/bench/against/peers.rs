//! Where the peers are, on this machine.
//!
//! In: `--peers`, or where `cargo xtask peers` puts them. Out: paths of programs, or the sentence
//! that says how to get them.

use crate::show::bad_input;
use std::path::{Path, PathBuf};

/// A folder of peers: that of `cargo xtask peers`, or one with llama.cpp's programs themselves.
pub struct Peers(PathBuf);

impl Peers {
    /// The folder named, else `target/peers` beside this program.
    ///
    /// # Errors
    /// When this program does not know where it is.
    pub fn find(named: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(folder) = named {
            return Ok(Self(folder.to_owned()));
        }
        let program = std::env::current_exe()?;
        // target/release/sterna, or target/debug/deps/a-test; anything farther is not ours.
        let near = program.ancestors().skip(1).take(3).map(|folder| folder.join("peers"));
        let folder = near.clone().find(|folder| folder.is_dir()).or_else(|| near.clone().nth(1));
        Ok(Self(folder.unwrap_or_else(|| "peers".into())))
    }

    /// The folder with llama.cpp's programs.
    ///
    /// # Errors
    /// When it is not there.
    pub fn llama_cpp(&self) -> anyhow::Result<PathBuf> {
        let folders = [self.0.join("build/bin"), self.0.clone()];
        let found = folders.into_iter().find(|folder| folder.join("llama-bench").is_file());
        found.ok_or_else(|| self.missing("llama.cpp", "llama-bench", "about 15 minutes"))
    }

    /// The Python that has openvino-genai.
    ///
    /// # Errors
    /// When it is not there.
    pub fn python(&self) -> anyhow::Result<PathBuf> {
        let python = self.0.join("venv/bin/python");
        match python.is_file() {
            true => Ok(python),
            false => Err(self.missing("openvino", "venv/bin/python", "a minute")),
        }
    }

    fn missing(&self, peer: &str, file: &str, takes: &str) -> anyhow::Error {
        bad_input(format!(
            "{peer} is not in {}: there is no {file}; `cargo xtask peers --only {peer}` installs \
             it ({takes}), or name another folder by --peers",
            self.0.display()
        ))
    }
}
