//! A model file made ready to be served.

use super::Engine;
use crate::compute::ComputeArgs;
use crate::scoring;
use crate::show;
use anyhow::Context;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use sterna_engine::{AnswerLimits, Limits};
use sterna_measure::clock::{Clock, RealClock};
use sterna_measure::machine::Machine;
use sterna_model::Model;
use sterna_model::artifact::PLAN_KEY;
use sterna_runtime::settings::PAGE_LEN;
use sterna_runtime::{KvEncoding, Program, Runner, Settings};
use sterna_server::Served;

/// What an engine may use.
pub struct Sizes {
    /// Sequences at once.
    pub max_running: usize,
    /// Requests that may wait.
    pub max_queue: usize,
    /// Bytes of keys and values.
    pub kv_bytes: Option<u64>,
    /// What a step may take while somebody waits for a token.
    pub itl_target: Option<Duration>,
    /// What the response cache keeps.
    pub answers: AnswerLimits,
}

/// Keys and values may take this part of the machine's memory where nothing is said.
const KV_SHARE: u64 = 4;

/// Opens a model, compiles it, and starts its engine.
///
/// # Errors
/// When it cannot be run.
pub fn open(path: &Path, compute: &ComputeArgs, sizes: &Sizes) -> anyhow::Result<(Served, Engine)> {
    let positions = |model: &Model, settings: &Settings| sizes.positions(model, settings);
    let (model, program) = scoring::compiled(path, compute, &positions)?;
    let tokenizer = Arc::new(model.tokenizer()?.clone());
    let limits = Limits {
        n_pages: program.settings().n_pages(),
        context_len: program.settings().context_len,
        max_rows: program.settings().max_batch_rows,
        max_running: sizes.max_running,
        max_queue: sizes.max_queue,
        vocabulary: program.vocabulary(),
        itl_target: sizes.itl_target,
        answers: sizes.answers,
    };
    let runner = Runner::new(program.clone())?;
    let clock = RealClock::new();
    let clock = Box::new(move || clock.now());
    let (handle, thread) = sterna_engine::start(runner, tokenizer.clone(), limits, clock)
        .context("the system starts no thread for the engine")?;
    let spelled = |token: Option<u32>| Some(tokenizer.token(token?)?.to_owned());
    let changed = path.metadata().and_then(|facts| facts.modified()).ok();
    let age = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let served = Served {
        name: name_of(path),
        aliases: Vec::new(),
        context_len: limits.longest(),
        chat_template: model.metadata.str("tokenizer.chat_template").map(str::to_owned),
        bos: spelled(tokenizer.bos()),
        eos: spelled(tokenizer.eos()),
        fingerprint: fingerprint(&model),
        created: age.unwrap_or_default().as_secs(),
        engine: Arc::new(handle.clone()),
        describe: describe(&model, &program),
        memory: memory(&program),
        tokenizer,
    };
    Ok((served, Engine { handle, thread }))
}

impl Sizes {
    /// Positions of keys and values that fit the memory, of all sequences together.
    fn positions(&self, model: &Model, settings: &Settings) -> usize {
        // A number of q8_0 has its share of a scale.
        let number_bytes = match settings.kv {
            KvEncoding::F32 => 4.0,
            KvEncoding::F16 => 2.0,
            KvEncoding::Q8_0 => 1.125,
        };
        let position_bytes = model.graph.kv_bytes_per_token(number_bytes).max(1.0);
        let fitting = |bytes: u64| (bytes as f64 / position_bytes) as usize / PAGE_LEN * PAGE_LEN;
        let most = self.max_running * settings.context_len;
        match self.kv_bytes {
            Some(bytes) => fitting(bytes),
            None => {
                let memory = Machine::detect().usable_memory_bytes().unwrap_or(4 << 30);
                fitting(memory / KV_SHARE).min(most)
            }
        }
    }
}

/// A model's name: its file's, without the ending.
fn name_of(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
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

fn memory(program: &Program) -> Vec<(&'static str, u64)> {
    let memory = program.memory();
    let kinds = [
        ("weights", memory.weights),
        ("kv", memory.kv),
        ("scratch", memory.arena + memory.scratch + memory.tables + memory.logits),
    ];
    kinds.map(|(kind, bytes)| (kind, bytes as u64)).to_vec()
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
