//! A model file made ready to be served.

use super::Engine;
use super::disk::DiskArgs;
use super::sizes::Sizes;
use crate::compute::ComputeArgs;
use crate::scoring;
use crate::show;
use anyhow::Context;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use sterna_measure::clock::{Clock, RealClock};
use sterna_model::Model;
use sterna_model::artifact::PLAN_KEY;
use sterna_runtime::settings::PAGE_LEN;
use sterna_runtime::{Program, Runner, Settings};
use sterna_server::Served;

/// Opens a model, compiles it, and starts its engine.
///
/// # Errors
/// When it cannot be run.
pub fn open(
    path: &Path,
    compute: &ComputeArgs,
    sizes: &Sizes,
    disk: &DiskArgs,
) -> anyhow::Result<(Served, Engine)> {
    let positions = |model: &Model, settings: &Settings| sizes.positions(model, settings);
    let (model, program) = scoring::compiled(path, compute, &positions)?;
    let tokenizer = Arc::new(model.tokenizer()?.clone());
    let limits = sizes.limits(&program);
    let mut runner = Runner::new(program.clone())?;
    let kept = disk.open(&model, &name_of(path), &mut runner)?;
    let (handle, thread) =
        sterna_engine::start_with_disk(runner, tokenizer.clone(), limits, clock(), kept)
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

/// The time since now.
pub fn clock() -> sterna_engine::Clock {
    let clock = RealClock::new();
    Box::new(move || clock.now())
}

/// A model's name: its file's, without the ending.
fn name_of(path: &Path) -> String {
    // A link's own name, where it has one: what it leads to may be called by a hash.
    let path = match path.file_name() {
        Some(_) => path.to_owned(),
        None => path.canonicalize().unwrap_or_else(|_| path.to_owned()),
    };
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
