//! `cargo xtask peers`: what Sterna is compared with, from PyPI: llama.cpp built for this CPU, ONNX
//! Runtime and OpenVINO, all under `peers/` in the target folder. Nothing of it enters this
//! repository, and neither users nor CI need it.
//!
//! Each step looks for what it would make, so that a second call goes on where the first stopped.

mod llama_cpp;
mod progress;
pub mod python;

use crate::root;
use anyhow::{Result, bail};
pub use llama_cpp::has_bench;
use python::Python;
use std::path::PathBuf;

/// Names the folder with llama.cpp's tools, or with all peers, here, in tests and in `sterna
/// bench`.
const PEERS_DIR: &str = "STERNA_PEERS_DIR";

/// Options of `cargo xtask peers`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask peers                      everything; about 15 minutes on 2 cores
  cargo xtask peers --only openvino      a minute
  cargo xtask peers --avx2               also a llama.cpp that knows no AVX-512
Then: sterna bench model.gguf --against llama.cpp,openvino")]
pub struct Args {
    /// Only these
    #[arg(long, value_delimiter = ',', value_parser = ["llama.cpp", "openvino", "onnxruntime"])]
    only: Vec<String>,
    /// Also build llama.cpp for AVX2, FMA and F16C without AVX-512, in build-avx2/
    #[arg(long)]
    avx2: bool,
}

/// Packages by the name of the peer: what pip installs, and what Python then imports.
const PACKAGES: [(&str, &[&str], &str); 2] = [
    ("openvino", &["openvino", "openvino-genai"], "openvino, openvino_genai"),
    ("onnxruntime", &["onnxruntime"], "onnxruntime"),
];

/// Installs what is not there yet.
///
/// # Errors
/// When a program or the network is missing, or a build fails.
pub fn run(args: &Args) -> Result<bool> {
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let folder = folder();
    let python = Python::in_folder(&folder)?;
    for (name, packages, modules) in PACKAGES {
        if wanted(name) {
            python.install(name, packages, modules)?;
        }
    }
    if wanted("llama.cpp") {
        llama_cpp::install(&folder, &python)?;
    }
    if args.avx2 {
        llama_cpp::install_avx2(&folder, &python)?;
    }
    println!("peers are in {}", folder.display());
    Ok(true)
}

/// Where peers are.
pub fn folder() -> PathBuf {
    root::target_dir().join("peers")
}

/// The environment in which the tests that compare with peers run instead of being skipped.
///
/// # Errors
/// As [`find`], and when they may be fetched, as [`run`].
pub fn environment(fetch: bool) -> Result<Vec<(&'static str, PathBuf)>> {
    if fetch && std::env::var_os(PEERS_DIR).is_none() {
        run(&Args { only: vec!["llama.cpp".into()], avx2: false })?;
    }
    let tools = find()?;
    let library = tools.join("libggml-base.so");
    let mut variables = vec![(PEERS_DIR, tools)];
    if library.is_file() {
        variables.push(("STERNA_LIBGGML", library));
    }
    let peers = folder();
    let python = peers.join("venv/bin/python");
    if std::env::var_os("STERNA_PEERS").is_none() && python.is_file() {
        variables.push(("STERNA_PEERS", python));
    }
    if let Some(sources) = llama_cpp::sources(&peers) {
        variables.push(("PYTHONPATH", sources));
    }
    Ok(variables)
}

/// The folder with llama.cpp's tools: from the environment, or built earlier.
///
/// # Errors
/// When there is none.
pub fn find() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(PEERS_DIR).map(PathBuf::from) {
        let folders = [named.join("build/bin"), named.clone()];
        match folders.into_iter().find(|folder| has_bench(folder)) {
            Some(folder) => return Ok(folder),
            None => {
                bail!("{PEERS_DIR}={} has no llama-bench; correct or unset it", named.display())
            }
        }
    }
    let built = folder().join("build/bin");
    if !has_bench(&built) {
        bail!(
            "llama.cpp is not here; `cargo xtask peers --only llama.cpp` builds it (about 15 \
             minutes), or set {PEERS_DIR} to a folder with llama-bench"
        );
    }
    Ok(built)
}
