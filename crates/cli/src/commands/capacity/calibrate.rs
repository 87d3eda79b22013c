//! What batches of a program take on this machine, measured once and kept.
//!
//! In: a program, and what its engine may use. Out: a [`Calibration`]. Shapes are run in turn,
//! forth and back, so that a drift of the machine is in all of them alike; some judge the fit and
//! are no part of it. A batch is what the engine's thread does in a step: pages copied, the forward
//! pass, and the choice of each token.

mod shapes;

use crate::probes;
use crate::scoring;
use crate::show::bad_input;
use anyhow::Context;
use shapes::{Planned, Room};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use sterna_engine::Limits;
use sterna_measure::capacity::{Calibration, TimedShape};
use sterna_measure::clock::{Clock, RealClock, timestamp_utc};
use sterna_measure::machine::Machine;
use sterna_model::Model;
use sterna_runtime::settings::PAGE_LEN;
use sterna_runtime::{Logits, PagedChunk, Program, Runner, Sampler, SamplerSettings};

/// Rounds at least: fewer have no median to speak of.
const MIN_ROUNDS: usize = 3;

/// Rounds at most: more do not move a median.
const MAX_ROUNDS: usize = 15;

/// Keys and values that the shapes may fill, together.
const MAX_KV_BYTES: usize = 1 << 30;

/// Where a calibration comes from.
pub struct Source<'a> {
    /// This file.
    pub file: Option<&'a Path>,
    /// Measure, whatever is kept.
    pub refresh: bool,
    /// How long measuring may take.
    pub budget: Duration,
}

/// A calibration and where it was.
pub struct Calibrated {
    /// What batches take.
    pub calibration: Calibration,
    /// Its file; `None` where there is no place to keep it.
    pub file: Option<PathBuf>,
    /// Whether it was measured now.
    pub is_new: bool,
}

/// Reads what is kept of a program, or measures it.
///
/// # Errors
/// When the file is none, or the program cannot be run.
pub fn calibrate(
    source: &Source<'_>,
    model: &Model,
    program: &Arc<Program>,
    limits: &Limits,
) -> anyhow::Result<Calibrated> {
    if let Some(file) = source.file {
        return from_file(file, model, program);
    }
    let (machine, cache) = (Machine::detect(), probes::cache_folder());
    let (key, version) = (key(model, program)?, env!("CARGO_PKG_VERSION"));
    if let (Some(cache), false) = (&cache, source.refresh)
        && let Some(calibration) = Calibration::load(cache, &machine, &key, version)?
    {
        let file = Some(Calibration::path(cache, &machine, &key));
        return Ok(Calibrated { calibration, file, is_new: false });
    }
    let calibration = Calibration {
        format: Calibration::FORMAT.into(),
        machine_id: machine.id(),
        cpu: machine.cpu.clone(),
        isa: program.level().name().into(),
        threads: program.n_workers(),
        version: version.into(),
        model: format!("{}{}", model.path().display(), kind(model)),
        program: key,
        timestamp_utc: timestamp_utc(),
        shapes: measure(program, limits, source.budget)?,
    };
    let file = match &cache {
        Some(cache) => Some(calibration.save(cache, &machine)?),
        None => {
            eprintln!("warning: neither XDG_CACHE_HOME nor HOME is set; nothing is kept");
            None
        }
    };
    Ok(Calibrated { calibration, file, is_new: true })
}

/// How the name of a model ends in a calibration: batches of others take another time.
fn kind(model: &Model) -> String {
    format!(", {}", scoring::describe(model))
}

fn from_file(file: &Path, model: &Model, program: &Program) -> anyhow::Result<Calibrated> {
    let found = Calibration::read(file, "give another with --calibration")?;
    let calibration = found.ok_or_else(|| {
        bad_input(format!("{}: there is no such file; --calibration names it", file.display()))
    })?;
    if !calibration.model.ends_with(&kind(model)) {
        return Err(bad_input(format!(
            "{}: was measured with {}, and this model is {}; give a calibration of such a model, \
             or leave --calibration out",
            file.display(),
            calibration.model,
            scoring::describe(model)
        )));
    }
    let here = (program.level().name(), program.n_workers());
    let there = (calibration.isa.as_str(), calibration.threads);
    if here != there {
        eprintln!(
            "note: {} is of {} with {} threads; here it would run on {} with {}",
            file.display(),
            there.0,
            there.1,
            here.0,
            here.1
        );
    }
    Ok(Calibrated { calibration, file: Some(file.to_owned()), is_new: false })
}

/// What a calibration is of: the model's files by path, size and time of change, and all that says
/// how they are run.
fn key(model: &Model, program: &Program) -> anyhow::Result<String> {
    let mut hasher = blake3::Hasher::new();
    for file in model.checkpoint().files() {
        let path = file.path();
        let facts = path.metadata().with_context(|| format!("reading {}", path.display()))?;
        let changed = facts.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        hasher.update(format!("{}\0{}\0{changed:?}\0", path.display(), facts.len()).as_bytes());
    }
    let (settings, level) = (program.settings(), program.level().name());
    hasher.update(format!("{settings:?}\0{level}\0{}", program.n_workers()).as_bytes());
    Ok(hasher.finalize().to_hex()[..16].to_owned())
}

/// Runs every shape, again and again until the time is up.
fn measure(
    program: &Arc<Program>,
    limits: &Limits,
    budget: Duration,
) -> anyhow::Result<Vec<TimedShape>> {
    let page_bytes = (program.memory().kv / limits.n_pages.max(1)).max(1);
    let room = Room {
        n_pages: limits.n_pages.min((MAX_KV_BYTES / page_bytes).max(8)),
        context_len: limits.longest(),
        max_rows: limits.max_rows,
        max_running: limits.max_running,
    };
    let shapes = shapes::shapes(&room);
    eprintln!("measuring what {} shapes of batches take (kept for next time) ...", shapes.len());
    let (mut bench, clock) = (Bench::new(program, &shapes)?, RealClock::new());
    for shape in &shapes {
        bench.seconds(shape)?;
    }
    let mut seconds = vec![Vec::new(); shapes.len()];
    let mut n_rounds = 0;
    while n_rounds < MIN_ROUNDS || (n_rounds < MAX_ROUNDS && clock.now() < budget) {
        let forth = 0..shapes.len();
        let order: Vec<usize> =
            if n_rounds.is_multiple_of(2) { forth.collect() } else { forth.rev().collect() };
        for index in order {
            seconds[index].push(bench.seconds(&shapes[index])?);
        }
        n_rounds += 1;
    }
    let timed = shapes.into_iter().zip(seconds).map(|(planned, seconds)| TimedShape {
        name: planned.name(),
        shape: planned.shape(),
        is_held_out: planned.is_held_out,
        seconds,
    });
    Ok(timed.collect())
}

/// A runner whose pages hold something, so that reading them is reading memory.
struct Bench {
    runner: Runner,
    tokens: Vec<u32>,
    sampler: Sampler,
    clock: RealClock,
}

impl Bench {
    fn new(program: &Arc<Program>, shapes: &[Planned]) -> anyhow::Result<Self> {
        let mut runner = Runner::new(program.clone())?;
        let (vocabulary, settings) = (program.vocabulary(), program.settings());
        let n_tokens = settings.max_batch_rows.max(PAGE_LEN);
        // Any tokens do: the work does not depend on them. A fixed stride keeps runs alike.
        let tokens: Vec<u32> = (0..n_tokens).map(|i| (i * 7919 % vocabulary) as u32).collect();
        let n_first = PAGE_LEN.min(settings.context_len);
        let first = PagedChunk {
            pages: &[0],
            position: 0,
            tokens: &tokens[..n_first],
            logits: Logits::None,
        };
        runner.forward_paged(&[first])?;
        let n_pages = shapes.iter().map(Planned::n_pages).max().unwrap_or(0);
        (1..n_pages as u32).for_each(|page| runner.copy_page(0, page));
        let sampler = Sampler::new(SamplerSettings::greedy());
        Ok(Self { runner, tokens, sampler, clock: RealClock::new() })
    }

    /// Runs a shape once. Every sequence has pages of its own, after those that all share.
    fn seconds(&mut self, planned: &Planned) -> anyhow::Result<f64> {
        let shared = 0..planned.n_shared as u32;
        let mut next = shared.end;
        let tables: Vec<Vec<u32>> = planned
            .parts
            .iter()
            .map(|part| {
                let first = next;
                next += (part.n_pages() - planned.n_shared) as u32;
                shared.clone().chain(first..next).collect()
            })
            .collect();
        let chunks: Vec<PagedChunk<'_>> = planned
            .parts
            .iter()
            .zip(&tables)
            .map(|(part, pages)| PagedChunk {
                pages,
                position: part.depth,
                tokens: &self.tokens[..part.n_tokens],
                logits: if part.wants_logits { Logits::Last } else { Logits::None },
            })
            .collect();
        let n_outputs = self.runner.program().n_outputs();
        let start = self.clock.now();
        (0..planned.copies as u32).for_each(|copy| self.runner.copy_page(0, next + copy));
        let logits = self.runner.forward_paged(&chunks)?;
        for row in logits.chunks_exact(n_outputs) {
            self.sampler.sample(row, &[])?;
        }
        Ok((self.clock.now() - start).as_secs_f64())
    }
}
