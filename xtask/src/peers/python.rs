//! The Python environment of the peers: pip, and what it installs.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A virtual environment.
pub struct Python {
    folder: PathBuf,
    program: PathBuf,
}

impl Python {
    /// The environment of a folder of peers, made if it is not there.
    ///
    /// # Errors
    /// When there is no Python 3 with venv.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let program = folder.join("venv/bin/python");
        let works = |program: &Path| {
            let pip = Command::new(program).args(["-m", "pip", "--version"]).output();
            pip.is_ok_and(|output| output.status.success())
        };
        if !works(&program) {
            println!("python: making an environment in {}", folder.join("venv").display());
            let made = Command::new("python3")
                .args(["-m", "venv", "--clear", "venv"])
                .current_dir(folder)
                .output();
            let fix = "install Python 3 with venv (Debian: apt-get install python3-venv)";
            let output = made.with_context(|| format!("python3 is not on the path; {fix}"))?;
            if !works(&program) {
                bail!("python3 cannot make an environment: {}; {fix}", last_line(&output));
            }
        }
        Ok(Self { folder: folder.to_owned(), program })
    }

    /// A program of the environment, such as cmake.
    pub fn tool(&self, name: &str) -> PathBuf {
        self.program.with_file_name(name)
    }

    /// Installs packages unless the modules can be imported already.
    ///
    /// # Errors
    /// When pip cannot.
    pub fn install(&self, what: &str, packages: &[&str], modules: &str) -> Result<()> {
        if self.imports(modules) {
            println!("{what}: is there");
            return Ok(());
        }
        println!("{what}: pip install {}", packages.join(" "));
        self.pip(&[&["install", "-q"], packages].concat())?;
        if !self.imports(modules) {
            bail!("pip installed {}, but Python cannot import {modules}", packages.join(" "));
        }
        Ok(())
    }

    fn imports(&self, modules: &str) -> bool {
        let import =
            Command::new(&self.program).args(["-c", &format!("import {modules}")]).output();
        import.is_ok_and(|output| output.status.success())
    }

    /// Runs pip in the peers' folder.
    ///
    /// # Errors
    /// When it fails; the sentence says what it needs.
    pub fn pip(&self, args: &[&str]) -> Result<()> {
        let mut pip = Command::new(&self.program);
        pip.args(["-m", "pip", "--disable-pip-version-check"]).args(args);
        let output = pip.current_dir(&self.folder).output().context("cannot start pip")?;
        if !output.status.success() {
            bail!(
                "pip {} failed: {}; it needs PyPI or the mirror in PIP_INDEX_URL; what is already \
                 there is kept, so try again when it can be reached",
                args.join(" "),
                last_line(&output)
            );
        }
        Ok(())
    }
}

/// The last thing that a program said, errors first.
fn last_line(output: &Output) -> String {
    let said = [&output.stderr, &output.stdout].map(|text| String::from_utf8_lossy(text));
    let lines = said.iter().map(|text| text.lines().map(str::trim).rfind(|l| !l.is_empty()));
    lines.flatten().next().unwrap_or("it said nothing").trim_start_matches("ERROR: ").to_owned()
}
