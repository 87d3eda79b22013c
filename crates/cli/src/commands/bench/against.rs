//! `sterna bench --against`: the race. Sterna and its peers run the same tests on the same files,
//! each run a fresh process, in turn, with the machine's ceilings probed around every round.
//!
//! In: models, tests, names of peers. Out: a table, JSON with every sample, and a page to look at.
//! [`engines`] has one file per engine, [`rounds`] the order of runs, [`roof`] what the machine
//! allows.

mod engines;
mod outcome;
mod page;
mod peers;
mod plots;
mod roof;
mod rounds;
mod table;

use super::ceiling::thread_bytes;
use crate::compute::ComputeArgs;
use crate::probes::KernelProbes;
use crate::show::{self, bad_input};
use anyhow::Context;
use engines::{Engine, sterna::Sterna};
use outcome::{EngineFacts, MachineFacts, Race, Row};
use peers::Peers;
use roof::Roof;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use sterna_formats::AtomicFile;
use sterna_kernels::Level;
use sterna_measure::clock::{RealClock, timestamp_utc};
use sterna_measure::latency::BenchTest as Test;
use sterna_measure::machine::{self, Machine, Prober};
use sterna_measure::stats::median;
use sterna_runtime::KvEncoding;

/// Flags of the race, beside the tests of `sterna bench`.
#[derive(clap::Args)]
#[group(skip)]
pub struct RaceArgs {
    /// Race these engines on the same files, in turn: llama.cpp, openvino.
    #[arg(long, value_delimiter = ',', value_name = "ENGINES", value_parser = engines::NAMES)]
    // Rounds say how often.
    #[arg(conflicts_with = "repetitions")]
    against: Vec<String>,
    /// Where the engines are: what `cargo xtask peers` made, or a folder with llama-bench [default:
    /// target/peers beside this program].
    #[arg(long, env = "STERNA_PEERS_DIR", value_name = "DIR")]
    peers: Option<PathBuf>,
    /// Rounds of each test; in each, every engine runs twice: ours, theirs, theirs, ours.
    #[arg(long, default_value_t = 3, requires = "against")]
    rounds: usize,
    /// Also write a page with plots.
    #[arg(long, value_name = "FILE", requires = "against")]
    html: Option<PathBuf>,
    /// Also write every sample as JSON; after each test, so that little is lost if it is stopped.
    #[arg(long, value_name = "FILE", requires = "against")]
    save: Option<PathBuf>,
}

/// What `sterna bench` was asked to measure.
pub struct Asked<'a> {
    /// The files.
    pub models: &'a [PathBuf],
    /// The tests, each run on each file.
    pub tests: Vec<Test>,
    /// How Sterna computes; its threads are everybody's.
    pub compute: &'a ComputeArgs,
    /// JSON instead of a table.
    pub json: bool,
}

impl RaceArgs {
    /// Whether there is to be a race.
    pub fn is_race(&self) -> bool {
        !self.against.is_empty()
    }
}

/// Runs the race; the exit code is 1 where Sterna itself could not run a test.
///
/// # Errors
/// When a peer is not there, or a file cannot be read or written.
pub fn run(args: &RaceArgs, asked: &Asked) -> anyhow::Result<ExitCode> {
    if args.rounds == 0 {
        return Err(bad_input("--rounds 0 measures nothing; give at least 1"));
    }
    let settings = asked.compute.settings(usize::MAX)?;
    if settings.kv != KvEncoding::default() {
        return Err(bad_input(format!(
            "a race is run with the KV cache in {}, as peers have it; leave --kv-cache-dtype out",
            KvEncoding::default().name()
        )));
    }
    let machine = Machine::detect();
    let n_threads = settings.threads.unwrap_or_else(|| machine.usable_cpus());
    let level = settings.isa.as_deref().map_or(Ok(Level::detect()), Level::by_name);
    let level = level.map_err(bad_input)?;
    let peers = Peers::find(args.peers.as_deref())?;
    let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(Sterna::new(asked.compute)?)];
    for name in &args.against {
        if engines.iter().all(|engine| engine.name() != name) {
            engines.push(engines::peer(name, &peers)?);
        }
    }
    let roofs = asked.models.iter().map(|path| Roof::of(path, &settings));
    let roofs = roofs.collect::<anyhow::Result<Vec<_>>>()?;
    let mut race = Race {
        format: outcome::FORMAT.into(),
        date: timestamp_utc(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        machine: MachineFacts::of(&machine, level.name()),
        n_threads,
        rounds: args.rounds,
        engines: engines.iter().map(|engine| EngineFacts::of(engine.as_ref())).collect(),
        rows: Vec::new(),
    };
    let probe = |name: &str| probe(name, level, n_threads);
    for (path, roof) in asked.models.iter().zip(&roofs) {
        for &test in &asked.tests {
            let ceilings = [roof::BANDWIDTH, roof.arithmetic];
            let found =
                rounds::run(&engines, path, test, n_threads, args.rounds, &ceilings, &probe)?;
            race.rows.push(Row::new(path, test, roof, found)?);
            save(args.save.as_deref(), &race)?;
        }
    }
    finish(args, asked.json, &race)
}

fn finish(args: &RaceArgs, is_json: bool, race: &Race) -> anyhow::Result<ExitCode> {
    match is_json {
        true => show::json(race)?,
        false => print!("{}", table::text(race)),
    }
    if let Some(path) = &args.html {
        write(path, &page::render(race)?)?;
        eprintln!("page: {}", path.display());
    }
    if let Some(path) = &args.save {
        eprintln!("every sample: {}", path.display());
    }
    let ours_ran = race.rows.iter().all(|row| row.entrants[0].unavailable.is_none());
    Ok(if ours_ran { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn save(path: Option<&Path>, race: &Race) -> anyhow::Result<()> {
    path.map_or(Ok(()), |path| write(path, &(serde_json::to_string_pretty(race)? + "\n")))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let written = AtomicFile::write_whole(path, text.as_bytes());
    written.with_context(|| format!("writing {}", path.display()))
}

/// Length of a probe of a ceiling, and how many stand around a round: a probe must be short, its
/// neighbours make up for its noise.
const PROBE: Duration = Duration::from_millis(60);
const N_PROBES: usize = 3;

/// What the machine can do just now, per second. The probe's memory is given back before a run.
fn probe(name: &str, level: Level, n_threads: usize) -> anyhow::Result<f64> {
    let read = machine::Roof::MemoryRead { thread_bytes: thread_bytes(n_threads) };
    let mut roofs = std::iter::once(read).chain(machine::Roof::PEAKS);
    let roof = roofs.find(|roof| roof.name() == name).expect("roofs have these names");
    let mut prober = Prober::start(roof, KernelProbes(level), n_threads, RealClock::new());
    let rates: Option<Vec<f64>> = (0..N_PROBES).map(|_| prober.sample(PROBE)).collect();
    Ok(median(&rates.with_context(|| format!("{name} cannot be measured on this CPU"))?))
}
