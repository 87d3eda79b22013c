//! `cargo xtask bench`: the race against llama.cpp on the same files, in interleaved rounds.
//!
//! In: a workload of `workloads/`, and llama.cpp's tools. Out: a table, and `bench/race.json` in
//! the target folder with every sample. Opt-in: it takes minutes and wants a quiet machine.

mod model_file;
mod race;
mod table;
mod workload;

use crate::{peers, root};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use workload::Workload;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Name of a file in workloads/, without .toml
    #[arg(long, default_value = "tinyllama-1.1b")]
    workload: String,
    /// Encodings to race, e.g. Q8_0,Q4_0 [default: the workload's]
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// Tests: pp512 reads a prompt of 512 tokens, tg128 generates 128 [default: the workload's]
    #[arg(long, value_delimiter = ',')]
    tests: Vec<String>,
    /// Rounds of four runs each: ours, theirs, theirs, ours [default: the workload's]
    #[arg(long)]
    rounds: Option<usize>,
    /// Threads of both engines [default: all this process may use]
    #[arg(short, long)]
    threads: Option<usize>,
    /// Download and build llama.cpp (from PyPI, about 15 minutes on 2 cores) if it is not there
    #[arg(long)]
    fetch: bool,
    /// The smoke workload: shows that everything runs, says nothing about speed
    #[arg(long)]
    smoke: bool,
}

/// Everything the race runs on.
struct Setup {
    workload_name: String,
    workload: Workload,
    n_threads: usize,
    /// Our binary, built for release.
    sterna: PathBuf,
    /// The folder with llama-bench.
    peers: PathBuf,
    /// Where model files and results go.
    folder: PathBuf,
}

/// Makes the files, runs the race, prints and writes the result.
///
/// # Errors
/// When a workload, an engine or a file is not as it should be.
pub fn run(args: &Args) -> Result<bool> {
    let setup = prepare(args)?;
    let source = setup.folder.join(format!("{}-F16.gguf", setup.workload_name));
    if !source.exists() {
        println!("writing {}", source.display());
        model_file::write(&source, &setup.workload_name, &setup.workload)?;
    }
    println!("measuring the ceilings of this machine");
    let facts = table::Facts::of(&setup)?;
    let mut results = Vec::new();
    for encoding in &setup.workload.encodings {
        let file = encoded(&setup, &source, encoding)?;
        for test in &setup.workload.tests {
            results.push(race::run(&setup, encoding, &file, *test)?);
        }
    }
    let json = setup.folder.join("race.json");
    std::fs::write(&json, serde_json::to_string_pretty(&table::json(&facts, &results))?)
        .with_context(|| format!("cannot write {}", json.display()))?;
    println!("\n{}", table::markdown(&facts, &results));
    println!("every sample is in {}", json.display());
    Ok(true)
}

fn prepare(args: &Args) -> Result<Setup> {
    let name = if args.smoke { "smoke" } else { &args.workload };
    let mut workload = Workload::read(&root::root(), name)?;
    if !args.models.is_empty() {
        workload.encodings = args.models.iter().map(|m| m.to_uppercase()).collect();
    }
    if !args.tests.is_empty() {
        workload.tests = args.tests.iter().map(|t| t.clone().try_into()).collect::<Result<_>>()?;
    }
    workload.rounds = args.rounds.unwrap_or(workload.rounds);
    ensure!(workload.rounds > 0, "--rounds 0 measures nothing; give at least 1");
    let n_cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
    let folder = root::target_dir().join("bench");
    std::fs::create_dir_all(&folder)?;
    Ok(Setup {
        workload_name: name.to_owned(),
        workload,
        n_threads: args.threads.unwrap_or(n_cpus),
        peers: peers::find(args.fetch)?,
        sterna: build_sterna()?,
        folder,
    })
}

/// The release build of the binary; what users get is what races.
pub fn build_sterna() -> Result<PathBuf> {
    let mut build = root::cargo();
    let status = build.args(["build", "--release", "--package", "sterna-cli"]).status();
    ensure!(status.context("cannot start cargo")?.success(), "sterna does not build");
    Ok(root::target_dir().join("release/sterna"))
}

/// The source in another encoding, made once by `sterna quantize`.
fn encoded(setup: &Setup, source: &Path, encoding: &str) -> Result<PathBuf> {
    if encoding == "F16" {
        return Ok(source.to_owned());
    }
    let file = setup.folder.join(format!("{}-{encoding}.gguf", setup.workload_name));
    if !file.exists() {
        println!("encoding {}", file.display());
        let mut quantize = Command::new(&setup.sterna);
        root::output_of(quantize.arg("quantize").arg(source).arg(&file).arg(encoding))?;
    }
    Ok(file)
}
