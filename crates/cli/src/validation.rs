//! A ternary model against its f32 twin: what is measured, in which order, by which process.
//!
//! In: two paths and a level. Out: a [`Validation`]. Memory is read in fresh processes, one alive
//! at a time, several of each; then one process per model stays, and the two take turns.

pub mod process;
pub mod text;
pub mod twins;
pub mod worker;

use crate::compute::ComputeArgs;
use crate::show::bad_input;
use process::Process;
use std::path::{Path, PathBuf};
use sterna_measure::clock::timestamp_utc;
use sterna_measure::compare::{self, compare};
use sterna_measure::machine::Machine;
use sterna_measure::report::{MachineSummary, WorkloadSummary};
use sterna_measure::validation::{Evidence, Memory, Runs, Side, Speed, Validation};
use sterna_measure::{Level, RunReport};
use text::Text;
use twins::Twin;
use worker::{MAX_BATCH, Ready, Request, Scored, Work};

/// What to validate, and how thoroughly.
pub struct Settings {
    /// The ternary model.
    pub bitnet: PathBuf,
    /// Its f32 twin.
    pub baseline: Option<PathBuf>,
    /// Held-out text.
    pub text: Option<PathBuf>,
    /// Between the text's documents.
    pub separator: Option<String>,
    /// How thoroughly.
    pub level: Level,
    /// How to run both.
    pub compute: ComputeArgs,
}

/// How much is measured at a level.
struct Effort {
    /// Fresh processes per model for memory.
    n_processes: usize,
    /// Rounds of each comparison, at least and at most.
    rounds: [usize; 2],
    /// Times each model generates tokens that are timed one by one.
    n_requests: usize,
    /// Tokens of text at most.
    max_tokens: Option<usize>,
}

impl Effort {
    fn of(level: Level) -> Self {
        Self {
            n_processes: level.choose([1, 3, 5]),
            rounds: level.choose([[6, 6], [10, 20], [10, 60]]),
            n_requests: level.choose([2, 6, 16]),
            max_tokens: level.choose([Some(8192), Some(65_536), None]),
        }
    }
}

/// The kinds of work that are timed. Of those of batch 1, decoding is what targets are judged by.
const WORK: [(&str, Work); 4] = [
    ("decode_b1", Work { batch: 1, n_prompt: 8, n_generate: 48 }),
    ("decode_b32", Work { batch: MAX_BATCH, n_prompt: 8, n_generate: 8 }),
    ("prefill_b1", Work { batch: 1, n_prompt: 256, n_generate: 0 }),
    ("prefill_b32", Work { batch: MAX_BATCH, n_prompt: 32, n_generate: 0 }),
];

/// Measures and judges. `progress` hears what is being done.
///
/// # Errors
/// When a model cannot be run, the two cannot be compared, or the text not be scored.
pub fn validate(settings: &Settings, progress: &mut dyn FnMut(&str)) -> anyhow::Result<Validation> {
    let bitnet = Twin::read(&settings.bitnet, &settings.compute)?;
    let baseline = settings.baseline.as_deref();
    let baseline = baseline.map(|path| Twin::read(path, &settings.compute)).transpose()?;
    let both = [Some(&bitnet), baseline.as_ref()];
    let paths = [Some(settings.bitnet.as_path()), settings.baseline.as_deref()];
    let context_len = both.iter().flatten().map(|twin| twin.context_len).min().unwrap_or(1);
    let effort = Effort::of(settings.level);
    let text = settings.text.clone().map(|path| {
        let (separator, max_tokens) = (settings.separator.clone(), effort.max_tokens);
        Text { path, separator, max_tokens, context_len }
    });
    if let Some(text) = &text {
        check_text(text, &bitnet, baseline.as_ref())?;
    }
    let mut bench = Bench {
        settings,
        effort,
        context_len,
        text,
        progress,
        sides: both.map(|twin| twin.map(|twin| side(twin.file_bytes))),
    };
    bench.read_memory(&paths)?;
    let (mut processes, ready) = bench.start(&paths)?;
    let speeds = bench.time_work(&mut processes)?;
    bench.time_tokens(&mut processes)?;
    let workload = bench.score(&mut processes)?;
    let [Some(bitnet_side), baseline_side] = bench.sides else { unreachable!("set above") };
    let evidence = Evidence { bitnet: bitnet_side, baseline: baseline_side, speeds };
    let (notes, unfit) = twins::remarks(&bitnet, baseline.as_ref());
    let names = (bitnet.label, baseline.map(|twin| twin.label));
    let run = circumstances(&ready, workload);
    Ok(Validation::new(run, settings.level, names, &evidence, notes, unfit)?)
}

/// Refuses, before anything is measured, a text that cannot be scored by both.
fn check_text(text: &Text, bitnet: &Twin, baseline: Option<&Twin>) -> anyhow::Result<()> {
    if let Some(baseline) = baseline {
        twins::check_vocabularies(bitnet, baseline)?;
    }
    text.passages(bitnet.tokenizer.as_ref().map_err(bad_input)?)?;
    Ok(())
}

fn side(file_bytes: u64) -> Side {
    Side { file_bytes, memory: Ok(vec![]), token_ms: vec![], scores: None }
}

/// A measurement under way; the ternary model comes first, the baseline second if there is one.
struct Bench<'a> {
    settings: &'a Settings,
    effort: Effort,
    context_len: usize,
    text: Option<Text>,
    progress: &'a mut dyn FnMut(&str),
    sides: [Option<Side>; 2],
}

type Paths<'a> = [Option<&'a Path>; 2];
type Processes = [Option<Process>; 2];

impl Bench<'_> {
    /// The work, made to fit the context.
    fn fitted(&self, work: Work) -> Work {
        let n_prompt = work.n_prompt.min(self.context_len / 2).max(1);
        let n_generate = work.n_generate.min(self.context_len - n_prompt);
        Work { n_prompt, n_generate, ..work }
    }

    /// Reads the memory of fresh processes, one alive at a time.
    fn read_memory(&mut self, paths: &Paths<'_>) -> anyhow::Result<()> {
        for n in 1..=self.effort.n_processes {
            (self.progress)(&format!(
                "memory of fresh processes, {n} of {}",
                self.effort.n_processes
            ));
            for (at, path) in paths.iter().enumerate() {
                let Some(path) = path else { continue };
                let read = self.memory_of(path)?;
                let side = self.sides[at].as_mut().expect("a side per path");
                match (read, &mut side.memory) {
                    (Ok(memory), Ok(all)) => all.push(memory),
                    (Err(why), memory) => *memory = Err(why),
                    (Ok(_), Err(_)) => {}
                }
            }
        }
        Ok(())
    }

    /// The memory of one process; the inner error is that the system does not tell.
    fn memory_of(&self, path: &Path) -> anyhow::Result<Result<Memory, String>> {
        let mut process = Process::start(path, &self.settings.compute.as_flags())?;
        let before = process.pss();
        let _: Ready = process.ask(&Request::Load).map_err(anyhow::Error::msg)?;
        let loaded = process.pss();
        for (_, work) in WORK.iter().filter(|(_, work)| work.batch == 1) {
            let run = Request::Run(self.fitted(*work));
            let _: f64 = process.ask(&run).map_err(anyhow::Error::msg)?;
        }
        let worked = process.pss();
        Ok(before.and_then(|before| Ok(Memory { before, loaded: loaded?, worked: worked? })))
    }

    fn start(&mut self, paths: &Paths<'_>) -> anyhow::Result<(Processes, Ready)> {
        (self.progress)("opening the models");
        let start = |path: &Path| Process::loaded(path, &self.settings.compute.as_flags());
        let baseline = paths[1].map(start).transpose()?.map(|(process, _)| process);
        let (bitnet, ready) = start(paths[0].expect("there is always a model"))?;
        Ok(([Some(bitnet), baseline], ready))
    }

    fn time_work(&mut self, processes: &mut Processes) -> anyhow::Result<Vec<Speed>> {
        let mut speeds = Vec::new();
        for (name, work) in WORK {
            (self.progress)(&format!("speed: {name}"));
            let work = self.fitted(work);
            let Work { batch, n_prompt, n_generate } = work;
            let runs = self.runs(work, processes)?;
            let (per_sequence, work) = match n_generate {
                0 => (n_prompt, format!("{batch} prompts of {n_prompt} tokens at once")),
                n => (n, format!("{n} tokens by each of {batch} sequences, one step at a time")),
            };
            speeds.push(Speed { name: name.into(), work, n_tokens: batch * per_sequence, runs });
        }
        Ok(speeds)
    }

    fn runs(&self, work: Work, processes: &mut Processes) -> anyhow::Result<Runs> {
        let [Some(bitnet), baseline] = processes else { unreachable!("there is always a model") };
        let request = Request::Run(work);
        let [min_rounds, max_rounds] = self.effort.rounds;
        let rounds = compare::Settings { min_rounds, max_rounds, ..compare::Settings::default() };
        let Some(baseline) = baseline else {
            let once = |_| bitnet.ask(&request).map_err(anyhow::Error::msg);
            let seconds: Vec<f64> =
                (0..rounds.n_warmup + 2 * min_rounds).map(once).collect::<Result<_, _>>()?;
            return Ok(Runs::Alone(seconds[rounds.n_warmup..].to_vec()));
        };
        let mut a = || baseline.ask(&request);
        let mut b = || bitnet.ask(&request);
        Ok(Runs::Compared(compare(&mut a, &mut b, &rounds)?))
    }

    /// Times tokens one by one, the models taking turns.
    fn time_tokens(&mut self, processes: &mut Processes) -> anyhow::Result<()> {
        let work = self.fitted(Work { batch: 1, n_prompt: 8, n_generate: 64 });
        let request = Request::Tokens { n_prompt: work.n_prompt, n_generate: work.n_generate };
        for n in 0..=self.effort.n_requests {
            (self.progress)("latency, token by token");
            for (process, side) in processes.iter_mut().zip(&mut self.sides) {
                let (Some(process), Some(side)) = (process, side) else { continue };
                let times: Vec<f64> = process.ask(&request).map_err(anyhow::Error::msg)?;
                // The first request warms up.
                if n > 0 {
                    side.token_ms.extend(times);
                }
            }
        }
        Ok(())
    }

    /// Scores the text, if there is one.
    fn score(&mut self, processes: &mut Processes) -> anyhow::Result<WorkloadSummary> {
        let none = "no text".to_owned();
        let mut summary =
            WorkloadSummary { name: none, hash: String::new(), sizes: Default::default() };
        let Some(text) = &self.text else { return Ok(summary) };
        let request = Request::Score(text.clone());
        for (process, side) in processes.iter_mut().zip(&mut self.sides) {
            let (Some(process), Some(side)) = (process, side) else { continue };
            (self.progress)("loss on held-out text");
            let scored: Scored = process.ask(&request).map_err(anyhow::Error::msg)?;
            side.scores = Some(scored.scores);
            summary = scored.workload;
        }
        Ok(summary)
    }
}

/// A report without metrics.
fn circumstances(ready: &Ready, workload: WorkloadSummary) -> RunReport {
    let machine = Machine::detect();
    let timestamp = timestamp_utc();
    RunReport {
        run_id: format!("validate-{timestamp}"),
        timestamp,
        machine: MachineSummary {
            id: machine.id(),
            cpu: machine.cpu.clone(),
            cores: machine.usable_cpus(),
            threads: ready.n_threads,
            isa: ready.isa.clone(),
            ram_bytes: machine.usable_memory_bytes().unwrap_or(0),
            gpu: None,
        },
        build: format!("sterna {}", env!("CARGO_PKG_VERSION")),
        seed: 0,
        workload,
        metrics: Vec::new(),
        targets: Vec::new(),
        artefacts: Vec::new(),
    }
}
