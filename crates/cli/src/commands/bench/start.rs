//! `sterna bench start`: how soon a fresh process answers, and what a second one costs in memory.
//!
//! Each process is this program again with a hidden flag, and its program cache a temporary folder,
//! so that the user's own stays as it is. A process says when it has its first token, then how long
//! the same prompt takes it once warm, and ends with its input.

use super::ceiling::thread_bytes;
use crate::compute::ComputeArgs;
use crate::interrupt;
use crate::probes::KernelProbes;
use crate::scoring::Scorer;
use crate::show::{self, bad_input};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;
use sterna_formats::{MappedFile, OpenOptions};
use sterna_kernels::Level;
use sterna_measure::clock::{Clock, RealClock};
use sterna_measure::machine::{Prober, Roof};
use sterna_measure::memory::{Process, pss};
use sterna_measure::start::{Pair, Start, StartReport, StartSamples};
use sterna_measure::stats::median;
use sterna_model::Model;

/// Measure fresh processes of a model: the time to the first token of a prompt of one, with an
/// empty program cache and with a filled one, and what a second process adds to the memory in use.
///
/// Files are read once before, so that they come from the page cache. Targets: a cold start takes
/// at most 1.5 times reading the files once and packing at memory speed, a warm one at most 50 ms
/// beyond its prefill, a second process adds at most 5% of the weight bytes. The caches of the
/// measurement lie in a temporary folder (TMPDIR), which needs room for the weights.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  sterna bench start model.gguf
  sterna bench start model.gguf -r 5 --threads 2 --json")]
pub struct Args {
    /// The model.
    model: PathBuf,
    /// Processes of each kind.
    #[arg(short = 'r', long, default_value_t = 3)]
    repetitions: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Be one of the processes.
    #[arg(long, hide = true)]
    worker: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Runs of the warm prompt.
const WARM_RUNS: usize = 5;

/// Length of a probe of the read bandwidth.
const PROBE: Duration = Duration::from_millis(100);

/// What a process says of itself after its first token.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Ready {
    /// Seconds of the same prompt once everything is warm, the median of some runs.
    prefill: f64,
    n_threads: usize,
    /// Bytes of the weights as stored.
    weight_bytes: u64,
    /// Bytes of the prepared weights.
    image_bytes: u64,
    is_shared: bool,
}

/// Runs the command.
///
/// # Errors
/// When the model cannot be run or the temporary folder not be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.repetitions == 0 {
        return Err(bad_input("--repetitions must be at least 1"));
    }
    if args.worker {
        return work(&args).map(|()| ExitCode::SUCCESS);
    }
    let report = StartReport::new(&measure(&args)?)?;
    if args.json {
        show::json(&report)?;
    } else {
        print!("{}", report.table());
    }
    Ok(ExitCode::SUCCESS)
}

/// A process's part.
fn work(args: &Args) -> anyhow::Result<()> {
    let mut model = Scorer::open(&args.model, &args.compute)?;
    model.generation().push(&[0])?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "first token")?;
    out.flush()?;
    let clock = RealClock::new();
    let mut seconds = Vec::new();
    for _ in 0..WARM_RUNS {
        let mut generation = model.generation();
        let start = clock.now();
        generation.push(&[0])?;
        seconds.push((clock.now() - start).as_secs_f64());
    }
    let n_threads = model.n_threads();
    let weight_bytes = model.cost().weight_bytes;
    let program = model.runner().program();
    let ready = Ready {
        prefill: median(&seconds),
        n_threads,
        weight_bytes,
        image_bytes: program.memory().weights as u64,
        is_shared: program.is_shared(),
    };
    writeln!(out, "{}", serde_json::to_string(&ready)?)?;
    out.flush()?;
    // The parent looks at this process's memory, and closes its input when it has.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn measure(args: &Args) -> anyhow::Result<StartSamples> {
    let options = OpenOptions { tokenizer: args.compute.tokenizer.clone() };
    let model = Model::open_with(&args.model, &options)?;
    for warning in &model.warnings {
        eprintln!("warning: {warning}");
    }
    let files: Vec<&Path> = model.checkpoint().files().iter().map(MappedFile::path).collect();
    let clock = RealClock::new();
    read_all(&files)?;
    // Ctrl-C ends the processes, and so this: with an error, which removes the folder.
    interrupt::listen()?;
    let folder = Folder::new()?;
    let bar = ProgressBar::new((4 * args.repetitions) as u64);
    let shape = "{bar:24} {pos}/{len} {msg} {eta} left";
    bar.set_style(ProgressStyle::with_template(shape).expect("a constant template"));
    let next = |what: &'static str| {
        bar.set_message(what);
        bar.inc(1);
    };
    let (mut file_bytes, mut read_seconds, mut cold, mut ready) = (0, vec![], vec![], None);
    for _ in 0..args.repetitions {
        next("reading");
        let start = clock.now();
        file_bytes = read_all(&files)?;
        read_seconds.push((clock.now() - start).as_secs_f64());
        next("cold start");
        // The last round's cache is what the warm starts find.
        folder.empty()?;
        let fresh = Fresh::start(args, &folder.0, &clock)?;
        cold.push(fresh.start);
        ready = Some(fresh.ready);
    }
    let ready = ready.expect("at least one repetition");
    let mut warm = Vec::new();
    for _ in 0..args.repetitions {
        next("warm start");
        warm.push(Fresh::start(args, &folder.0, &clock)?.start);
    }
    let mut pairs = Vec::new();
    for _ in 0..args.repetitions {
        next("two at once");
        pairs.push(pair(args, &folder.0, &clock)?);
    }
    bar.finish_and_clear();
    Ok(StartSamples {
        model: args.model.display().to_string(),
        n_threads: ready.n_threads,
        file_bytes,
        weight_bytes: ready.weight_bytes,
        image_bytes: ready.image_bytes,
        is_shared: ready.is_shared,
        read_seconds,
        memory_read: read_bandwidth(ready.n_threads, args.repetitions, clock),
        cold,
        warm,
        pairs: pairs.into_iter().collect(),
    })
}

/// Reads files from start to end; their bytes.
fn read_all(files: &[&Path]) -> anyhow::Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    for path in files {
        let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        loop {
            match file.read(&mut buffer).with_context(|| format!("reading {}", path.display()))? {
                0 => break,
                n => bytes += n as u64,
            }
        }
    }
    Ok(bytes)
}

fn read_bandwidth(n_threads: usize, n: usize, clock: RealClock) -> Vec<f64> {
    let roof = Roof::MemoryRead { thread_bytes: thread_bytes(n_threads) };
    let mut prober = Prober::start(roof, KernelProbes(Level::detect()), n_threads, clock);
    (0..n).filter_map(|_| prober.sample(PROBE)).collect()
}

/// The memory of one process, and of it and another; or why the system does not tell.
fn pair(args: &Args, cache: &Path, clock: &RealClock) -> anyhow::Result<Result<Pair, String>> {
    let of = |fresh: &Fresh| -> anyhow::Result<Result<f64, String>> {
        let figure = pss(Process::Pid(fresh.child.id()))?;
        Ok(figure.value().ok_or_else(|| figure.reason().unwrap_or("unknown").to_owned()))
    };
    let first = Fresh::start(args, cache, clock)?;
    let alone = of(&first)?;
    let second = Fresh::start(args, cache, clock)?;
    let both = of(&first)?.and_then(|first| Ok((first, of(&second).map_err(|e| e.to_string())??)));
    Ok(alone.and_then(|alone| both.map(|(first, second)| Pair { alone, both: first + second })))
}

/// A process that has its first token; it ends when dropped.
struct Fresh {
    child: Child,
    start: Start,
    ready: Ready,
}

impl Fresh {
    fn start(args: &Args, cache: &Path, clock: &RealClock) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(program);
        command.args(["bench", "start", "--worker"]).arg(&args.model).args(args.compute.as_flags());
        command.env("XDG_CACHE_HOME", cache);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = clock.now();
        let mut child = command.spawn().context("starting a process for the model")?;
        let mut answers = BufReader::new(child.stdout.take().expect("piped"));
        let said = line(&mut answers).and_then(|_| {
            let first_token = (clock.now() - start).as_secs_f64();
            Ok((first_token, serde_json::from_str::<Ready>(&line(&mut answers)?)?))
        });
        match said {
            Ok((first_token, ready)) => {
                let start = Start { first_token, prefill: ready.prefill };
                Ok(Self { child, start, ready })
            }
            Err(_) => {
                let output = child.wait_with_output()?;
                let said = String::from_utf8_lossy(&output.stderr);
                let said = said.trim().trim_start_matches("error: ");
                Err(bad_input(format!("a process of the model ended: {said}")))
            }
        }
    }
}

fn line(answers: &mut BufReader<ChildStdout>) -> anyhow::Result<String> {
    let mut line = String::new();
    anyhow::ensure!(answers.read_line(&mut line)? > 0, "it has ended");
    Ok(line)
}

impl Drop for Fresh {
    /// The child ends with its input.
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // There is nothing to be done about a child that cannot be waited for.
        let _ = self.child.wait();
    }
}

/// A temporary folder that goes when this does.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("sterna-start-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(path))
    }

    /// Removes what is in it.
    fn empty(&self) -> anyhow::Result<()> {
        let failed = || format!("emptying {}", self.0.display());
        std::fs::remove_dir_all(&self.0).with_context(failed)?;
        std::fs::create_dir(&self.0).with_context(failed)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is the system's to clean up: it lies in its temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
