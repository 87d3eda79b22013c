//! A model file made ready to be served: what it takes, found from its header, and its engine.

use super::disk::DiskArgs;
use super::sizes::Sizes;
use super::speculate::SpeculateArgs;
use crate::compute::ComputeArgs;
use crate::embedder;
use crate::scoring;
use crate::show::{self, bad_input};
use anyhow::Context;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::UNIX_EPOCH;
use sterna_engine::{Drafter, Extras, Handle, Pooling};
use sterna_fleet::{Facts, Item, Load, LoadError, Loaded, Running};
use sterna_measure::clock::{Clock, RealClock};
use sterna_model::Model;
use sterna_model::artifact::PLAN_KEY;
use sterna_optimize::gate::{self, Standing};
use sterna_runtime::settings::PAGE_LEN;
use sterna_runtime::{Memory, Program, Runner, Settings};
use sterna_server::{Evidence, Served};
use tracing::{error, warn};

/// How models are opened.
pub struct Loader {
    /// How they compute.
    pub compute: ComputeArgs,
    /// What their engines may use.
    pub sizes: Sizes,
    /// Where their keys and values survive them.
    pub disk: DiskArgs,
    /// How they guess.
    pub speculate: SpeculateArgs,
    /// A chat template instead of their own.
    pub template: Option<String>,
    /// Whether models are served whose own evidence says that they should not be.
    pub force: bool,
    /// The engines' time, which begins before any request comes.
    pub clock: RealClock,
}

impl Loader {
    /// What a model takes and is, and where it stands by its own evidence. Its weights are not read
    /// for it.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn look(&self, item: &Item) -> anyhow::Result<(Facts, Evidence)> {
        let positions = |model: &Model, settings: &Settings| self.sizes.positions(model, settings);
        let (model, settings, memory) = scoring::sized(&item.path, &self.compute, &positions)?;
        let draft = self.speculate.memory(&self.compute)?;
        let most = settings.n_pages() * PAGE_LEN;
        let facts = Facts {
            memory: kinds("weights", &memory, draft.as_ref(), &self.sizes),
            created: created(&item.path),
            context_len: settings.context_len.min(most),
            describe: scoring::describe(&model),
            fingerprint: fingerprint(&model),
        };
        Ok((facts, self.evidence(&model)))
    }

    fn evidence(&self, model: &Model) -> Evidence {
        let standing = gate::standing(model);
        let name = standing.name();
        match standing {
            Standing::NotMet(why) => {
                Evidence { standing: name, unmet: Some(why), is_forced: self.force }
            }
            _ => Evidence { standing: name, ..Evidence::NONE },
        }
    }

    /// Refuses an artifact whose evidence misses what was asked of it (A4).
    ///
    /// # Errors
    /// Then, unless it is to be served by force.
    pub fn gate(&self, item: &Item, evidence: &Evidence) -> anyhow::Result<()> {
        match (&evidence.unmet, self.force) {
            (None, _) => Ok(()),
            (Some(why), true) => {
                warn!("{}: served by --force, though its own evidence says: {why}", item.name);
                Ok(())
            }
            (Some(why), false) => Err(bad_input(format!(
                "{} does not keep what was asked of it by its own evidence ({why}); optimize it \
                 again, or serve it all the same with --force, which is then told to everybody",
                item.path.display()
            ))),
        }
    }
}

impl Load for Loader {
    fn load(&self, item: &Item, within: u64) -> Result<Loaded, LoadError> {
        let failed = |error: anyhow::Error| {
            LoadError::Failed(format!("model `{}` was not loaded: {error:#}", item.name))
        };
        // The file may have been replaced since its header was read.
        let (facts, evidence) = self.look(item).map_err(failed)?;
        self.gate(item, &evidence).map_err(failed)?;
        let bytes = facts.bytes();
        if bytes > within {
            return Err(LoadError::Larger(bytes));
        }
        let (mut served, engine) = open(item, self).map_err(failed)?;
        let taken = served.memory.iter().map(|(_, bytes)| bytes).sum();
        if taken > within {
            engine.end();
            return Err(LoadError::Larger(taken));
        }
        served.chat_template = self.template.clone().or(served.chat_template);
        Ok(Loaded { served, engine: Box::new(engine) })
    }
}

/// An engine that runs.
struct Engine {
    model: String,
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Engine {
    fn end(self) {
        self.handle.drain();
        // Dropped, so that the thread sees that nobody can ask any more.
        drop(self.handle);
        if self.thread.join().is_err() {
            error!("the engine of model `{}` panicked, which is a mistake of ours", self.model);
        }
    }
}

impl Running for Engine {
    fn n_open(&self) -> usize {
        self.handle.n_open()
    }

    fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    fn drain(&self) {
        self.handle.drain();
    }

    fn stop(self: Box<Self>) {
        self.end();
    }
}

/// Opens a model, compiles it, and starts its engine.
fn open(item: &Item, loader: &Loader) -> anyhow::Result<(Served, Engine)> {
    let Loader { compute, sizes, disk, speculate, .. } = loader;
    let path = item.path.as_path();
    let positions = |model: &Model, settings: &Settings| sizes.positions(model, settings);
    let (model, program) = scoring::compiled(path, compute, &positions)?;
    let tokenizer = Arc::new(model.tokenizer()?.clone());
    let limits = sizes.limits(&program);
    let mut runner = Runner::new(program.clone())?;
    let draft = match program.is_encoder() {
        true => None,
        false => speculate.draft(compute, &tokenizer)?,
    };
    let memory = memory(&program, draft.as_deref(), sizes);
    let drafter = |draft| anyhow::Ok(Drafter::new(Runner::new(draft)?));
    let extras = match program.is_encoder() {
        // Nothing that it computes for one text is of use for another.
        true => Extras::default(),
        false => Extras {
            kept: disk.open(&model, &item.name, &mut runner)?,
            speculate: speculate.how(),
            drafter: draft.map(drafter).transpose()?,
        },
    };
    let time = loader.clock;
    let clock: sterna_engine::Clock = Box::new(move || time.now());
    let started = sterna_engine::start_with(runner, tokenizer.clone(), limits, clock, extras);
    let (handle, thread) = started.context("the system starts no thread for the engine")?;
    let spelled = |token: Option<u32>| Some(tokenizer.token(token?)?.to_owned());
    let served = Served {
        name: item.name.clone(),
        aliases: Vec::new(),
        context_len: limits.longest(),
        chat_template: model.metadata.str("tokenizer.chat_template").map(str::to_owned),
        pooling: pooling(&model, path),
        is_encoder: model.graph.is_encoder(),
        bos: spelled(tokenizer.bos()),
        eos: spelled(tokenizer.eos()),
        fingerprint: fingerprint(&model),
        created: created(path),
        engine: Arc::new(handle.clone()),
        describe: describe(&model, &program),
        memory,
        tokenizer,
    };
    Ok((served, Engine { model: item.name.clone(), handle, thread }))
}

/// When a file was made, in seconds since 1970.
fn created(path: &Path) -> u64 {
    let changed = path.metadata().and_then(|facts| facts.modified()).ok();
    let age = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    age.unwrap_or_default().as_secs()
}

/// How a model's embeddings are made; nothing, and a warning, where its way is not there.
fn pooling(model: &Model, path: &Path) -> Option<Pooling> {
    let refused = |why| {
        warn!("{}: {why}: /v1/embeddings refuses this model", path.display());
    };
    embedder::pooling(model).map_err(refused).ok()
}

/// The time since now.
pub fn clock() -> sterna_engine::Clock {
    let clock = RealClock::new();
    Box::new(move || clock.now())
}

/// What decides the numbers: this build, and the plan where the file has one.
fn fingerprint(model: &Model) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match model.metadata.str(PLAN_KEY) {
        Some(plan) => {
            let hash = blake3::hash(plan.as_bytes()).to_hex();
            format!("sterna-{version}-{}", &hash[..12])
        }
        None => format!("sterna-{version}"),
    }
}

fn memory(program: &Program, draft: Option<&Program>, sizes: &Sizes) -> Vec<(&'static str, u64)> {
    // A file that is mapped is in memory once, however many processes serve the model.
    let weights = if program.is_shared() { "weights_shared" } else { "weights_private" };
    kinds(weights, &program.memory(), draft.map(Program::memory).as_ref(), sizes)
}

/// All that a model takes: itself, the model that guesses for it, and the answers that are kept.
fn kinds(
    weights: &'static str,
    memory: &Memory,
    draft: Option<&Memory>,
    sizes: &Sizes,
) -> Vec<(&'static str, u64)> {
    let kinds = [
        (weights, memory.weights),
        ("kv", memory.kv),
        ("scratch", memory.arena + memory.scratch + memory.tables + memory.logits),
        ("draft", draft.map_or(0, Memory::total)),
        ("response_cache", sizes.answers.bytes),
    ];
    let taken = kinds.into_iter().filter(|(_, bytes)| *bytes > 0);
    taken.map(|(kind, bytes)| (kind, bytes as u64)).collect()
}

fn describe(model: &Model, program: &Program) -> String {
    let memory = program.memory();
    format!(
        "{}, context {}, {} of weights, up to {} of keys and values for {} tokens",
        scoring::describe(model),
        program.settings().context_len,
        show::bytes(memory.weights as u64),
        show::bytes(memory.kv as u64),
        program.settings().n_pages() * PAGE_LEN,
    )
}
