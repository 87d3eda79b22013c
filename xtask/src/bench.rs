//! `cargo xtask bench`: the race on files that it makes: models of known shapes with random
//! weights.
//!
//! In: workloads of `workloads/`. Out: what `sterna bench --against` prints, and beside it JSON and
//! a page per workload in `bench/` of the target folder. With `--targets`, the project's targets
//! beside what was measured ([`targets`]). Opt-in: it takes minutes to hours and wants a quiet
//! machine.

pub mod model_file;
mod targets;
pub mod workload;

use crate::{peers, readme, root};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use workload::{Test, Workload};

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Names of files in workloads/, without .toml
    #[arg(long, value_delimiter = ',', default_values_t = SHAPES.map(str::to_owned))]
    workload: Vec<String>,
    /// Encodings to race, e.g. Q8_0,Q4_0 [default: the workload's]
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// Tests: pp512 reads a prompt of 512 tokens, tg128 generates 128 [default: the workload's]
    #[arg(long, value_delimiter = ',')]
    tests: Vec<String>,
    /// Rounds, in each of which every engine runs twice [default: the workload's]
    #[arg(long)]
    rounds: Option<usize>,
    /// Threads of all engines [default: all this process may use]
    #[arg(short, long)]
    threads: Option<usize>,
    /// Engines to race; `cargo xtask peers` installs them
    #[arg(long, value_delimiter = ',', default_values_t = PEERS.map(str::to_owned))]
    against: Vec<String>,
    /// The smoke workload: shows that everything runs, says nothing about speed
    #[arg(long)]
    smoke: bool,
    /// This binary instead of a release build of the working tree
    #[arg(long, value_name = "FILE")]
    sterna: Option<PathBuf>,
    /// Put the result into README.md's table
    #[arg(long, conflicts_with = "targets")]
    write_readme: bool,
    /// Instead of a race, every target of workloads/targets.toml beside what is measured
    #[arg(long, conflicts_with_all = ["workload", "models", "tests", "against", "smoke"])]
    targets: bool,
    /// With --targets: only the rows of these names
    #[arg(long, value_delimiter = ',', requires = "targets", value_name = "ROW")]
    only: Vec<String>,
}

/// The shapes that targets are for.
const SHAPES: [&str; 2] = ["tinyllama-1.1b", "110m"];

/// Engines that are raced.
const PEERS: [&str; 2] = ["llama.cpp", "openvino"];

/// What the benchmarks run on.
pub struct Setup {
    /// The binary that races.
    pub sterna: PathBuf,
    /// Threads of every engine; all when none.
    pub threads: Option<usize>,
    /// Where model files and results go.
    pub folder: PathBuf,
}

/// Makes the files and runs what is asked.
///
/// # Errors
/// When a workload, an engine or a file is not as it should be.
pub fn run(args: &Args) -> Result<bool> {
    let folder = root::target_dir().join("bench");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let sterna = match &args.sterna {
        Some(file) => std::path::absolute(file)?,
        None => build_sterna()?,
    };
    let setup = Setup { sterna, threads: args.threads, folder };
    if args.targets {
        return targets::run(&setup, &args.only, args.rounds);
    }
    let smoke = ["smoke".to_owned()];
    let names = if args.smoke { &smoke[..] } else { &args.workload };
    let mut results = Vec::new();
    for name in names {
        results.push(race(&setup, args, name)?);
    }
    if args.write_readme {
        readme::write(&results)?;
    }
    Ok(true)
}

/// Races one workload; where its JSON is.
fn race(setup: &Setup, args: &Args, name: &str) -> Result<PathBuf> {
    let mut workload = Workload::read(&root::root(), name)?;
    println!("{name}: {}", workload.about);
    if !args.models.is_empty() {
        workload.encodings = args.models.iter().map(|m| m.to_uppercase()).collect();
    }
    if !args.tests.is_empty() {
        workload.tests = args.tests.iter().map(|t| t.clone().try_into()).collect::<Result<_>>()?;
    }
    let is_plain = |test: &Test| test.depth == 0 && test.n_sequences == 1;
    ensure!(workload.tests.iter().all(is_plain), "a race has tests like pp512 and tg128 only");
    let files = workload.encodings.iter().map(|e| setup.model(name, &workload, e));
    let files = files.collect::<Result<Vec<_>>>()?;
    let list = |of: fn(&Test) -> usize| {
        let all = workload.tests.iter().map(of).filter(|n| *n > 0);
        let all: Vec<String> = all.map(|n| n.to_string()).collect();
        if all.is_empty() { "0".to_owned() } else { all.join(",") }
    };
    let [json, html] = ["json", "html"].map(|e| setup.folder.join(format!("race-{name}.{e}")));
    let mut sterna = setup.bench(&files);
    sterna.args(["-p", &list(|test| test.n_prompt), "-n", &list(|test| test.n_gen)]);
    sterna.args(["--rounds", &args.rounds.unwrap_or(workload.rounds).to_string()]);
    sterna.args(["--against", &args.against.join(",")]).arg("--save").arg(&json);
    let status = sterna.arg("--html").arg(&html).status().context("cannot start sterna")?;
    // Code 1 is a race in which Sterna could not run a test, which its row says.
    if !json.is_file() || status.code() == Some(2) {
        bail!("the race of {name} ended with {status}");
    }
    Ok(json)
}

impl Setup {
    /// `sterna bench FILES...` with the race's threads, and peers where xtask installs them.
    pub fn bench(&self, files: &[PathBuf]) -> Command {
        let mut sterna = Command::new(&self.sterna);
        sterna.arg("bench").args(files);
        if let Some(threads) = self.threads {
            sterna.args(["--threads", &threads.to_string()]);
        }
        if std::env::var_os("STERNA_PEERS_DIR").is_none() {
            sterna.env("STERNA_PEERS_DIR", peers::folder());
        }
        sterna
    }

    /// The model of a workload in an encoding or mix, made once: F16 here, others by `sterna
    /// quantize`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn model(&self, name: &str, workload: &Workload, encoding: &str) -> Result<PathBuf> {
        let file = |encoding: &str| self.folder.join(format!("{name}-{encoding}.gguf"));
        let source = file("F16");
        if !source.exists() {
            println!("writing {}", source.display());
            model_file::write(&source, name, workload, "F16")?;
        }
        let made = file(encoding);
        if !made.exists() {
            println!("encoding {}", made.display());
            let mut quantize = Command::new(&self.sterna);
            root::output_of(quantize.arg("quantize").args([&source, &made]).arg(encoding))?;
        }
        Ok(made)
    }
}

/// The release build of the binary; what users get is what races.
///
/// # Errors
/// When it does not build.
pub fn build_sterna() -> Result<PathBuf> {
    let mut build = root::cargo();
    let status = build.args(["build", "--release", "--package", "sterna-cli"]).status();
    ensure!(status.context("cannot start cargo")?.success(), "sterna does not build");
    Ok(root::target_dir().join("release/sterna"))
}

/// The binary that was given, else a release build.
///
/// # Errors
/// When it is not there, or does not build.
pub fn sterna(given: Option<&Path>) -> Result<PathBuf> {
    match given {
        Some(path) => path.canonicalize().with_context(|| format!("no {}", path.display())),
        None => build_sterna(),
    }
}

/// Writes a file of results, with its folder's name in the error.
fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
