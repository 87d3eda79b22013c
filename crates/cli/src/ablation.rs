//! The runtime's optimizations, each measured on against off on one model: what `bench --ablate`
//! shows and `--flags auto` acts on.

use crate::compute::ComputeArgs;
use crate::scoring::prepare;
use std::sync::Arc;
use sterna_measure::ablation::{Effect, Switch, effect};
use sterna_measure::clock::{Clock, RealClock};
use sterna_measure::compare;
use sterna_model::Model;
use sterna_runtime::cache::Cache;
use sterna_runtime::flags::{FLAGS, Flag, OptLevel};
use sterna_runtime::settings::PAGE_LEN;
use sterna_runtime::{Chunk, Logits, Program, Runner, SequenceId, Settings};

/// Sequences of the batched part of a run.
const N_SEQUENCES: usize = 4;
/// Tokens that each of them begins with.
const N_START: usize = 8;
/// Rows whose logits are compared at most.
const COMPARED_ROWS: usize = 32;

/// One run: a prompt, tokens one by one, then tokens of several sequences at once.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Load {
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Tokens generated after it.
    pub n_gen: usize,
}

impl Load {
    /// Positions that a sequence takes at most.
    pub fn context_len(&self) -> usize {
        self.n_prompt.max(N_START) + self.n_gen
    }

    /// The settings with room in the KV cache for all that runs at once.
    fn room(&self, settings: Settings) -> Settings {
        let one = self.context_len().next_multiple_of(PAGE_LEN);
        let all = N_SEQUENCES * (N_START + self.n_gen).next_multiple_of(PAGE_LEN);
        Settings { kv_positions: Some(one.max(all)), ..settings }
    }
}

/// The parts of a run, in seconds.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// Of the prompt, run by run.
    pub prefill: Vec<f64>,
    /// Of the tokens one by one.
    pub decode: Vec<f64>,
    /// Of the tokens of several sequences.
    pub batched: Vec<f64>,
}

/// A runner, and what its runs took.
pub struct Side {
    runner: Runner,
    /// What its runs took.
    pub parts: Parts,
}

impl Side {
    fn new(program: Program) -> anyhow::Result<Self> {
        Ok(Self { runner: Runner::new(Arc::new(program))?, parts: Parts::default() })
    }

    /// Its program.
    pub fn program(&self) -> &Program {
        self.runner.program()
    }

    /// Bytes of the arena and of the workers' scratch.
    pub fn working_bytes(&self) -> usize {
        let memory = self.runner.memory();
        memory.arena + memory.scratch
    }

    /// Any tokens do: the work does not depend on them. A fixed stride keeps runs alike.
    fn tokens(&self, n: usize) -> Vec<u32> {
        let vocabulary = self.program().vocabulary();
        (0..n).map(|i| (i * 7919 % vocabulary) as u32).collect()
    }

    fn run(&mut self, load: Load) -> anyhow::Result<f64> {
        let tokens = self.tokens(load.context_len());
        let (prompt, clock) = (&tokens[..load.n_prompt], RealClock::new());
        let one = [self.runner.new_sequence()];
        let prefilled = self.step(&one, prompt);
        let prefill = clock.now();
        let decoded = (0..load.n_gen).try_for_each(|i| self.step(&one, &tokens[i..=i]));
        let decode = clock.now() - prefill;
        self.free(&one)?;
        prefilled.and(decoded)?;
        let several: [SequenceId; N_SEQUENCES] =
            std::array::from_fn(|_| self.runner.new_sequence());
        let started = self.step(&several, &tokens[..N_START]);
        let start = clock.now();
        let decoded = (0..load.n_gen).try_for_each(|i| self.step(&several, &tokens[i..=i]));
        let batched = clock.now() - start;
        self.free(&several)?;
        started.and(decoded)?;
        self.parts.prefill.push(prefill.as_secs_f64());
        self.parts.decode.push(decode.as_secs_f64());
        self.parts.batched.push(batched.as_secs_f64());
        Ok((prefill + decode + batched).as_secs_f64())
    }

    fn step(&mut self, sequences: &[SequenceId], tokens: &[u32]) -> anyhow::Result<()> {
        let chunk = |&sequence: &SequenceId| Chunk { sequence, tokens, logits: Logits::Last };
        let chunks: Vec<Chunk<'_>> = sequences.iter().map(chunk).collect();
        self.runner.forward(&chunks)?;
        Ok(())
    }

    fn free(&mut self, sequences: &[SequenceId]) -> anyhow::Result<()> {
        sequences.iter().try_for_each(|&sequence| Ok(self.runner.free(sequence)?))
    }

    /// The logits after each of the first tokens.
    fn logits(&mut self, n: usize) -> anyhow::Result<Vec<f32>> {
        let tokens = self.tokens(n);
        let sequence = self.runner.new_sequence();
        let chunk = Chunk { sequence, tokens: &tokens, logits: Logits::All };
        let logits = self.runner.forward(&[chunk]).map(<[f32]>::to_vec);
        self.runner.free(sequence)?;
        Ok(logits?)
    }
}

/// Two ways to run a model: with something, and without it.
pub struct Case {
    /// What.
    pub name: &'static str,
    /// In words.
    pub about: &'static str,
    /// With it.
    pub on: ComputeArgs,
    /// Without it.
    pub off: ComputeArgs,
}

impl Case {
    /// A flag; all other choices are the user's.
    pub fn flag(compute: &ComputeArgs, flag: &Flag) -> Self {
        Self {
            name: flag.name,
            about: flag.about,
            on: compute.with_flag(flag, true),
            off: compute.with_flag(flag, false),
        }
    }

    /// A level against the default one.
    pub fn level(compute: &ComputeArgs, level: OptLevel) -> Self {
        Self {
            name: level.name(),
            about: "a level, against the default one",
            on: compute.at_level(level),
            off: compute.at_level(OptLevel::Default),
        }
    }
}

/// A model with an optimization on, and the same without it.
pub struct Pair {
    name: &'static str,
    load: Load,
    /// With it.
    pub on: Side,
    /// Without it.
    pub off: Side,
}

impl Pair {
    /// Prepares both. Weights that are packed alike are shared.
    ///
    /// # Errors
    /// When the model cannot be run.
    pub fn new(
        model: &Model,
        cache: Option<&Cache>,
        case: &Case,
        load: Load,
    ) -> anyhow::Result<Self> {
        let settings = |compute: &ComputeArgs| {
            anyhow::Ok(load.room(compute.quiet_settings(model.config.context_len)?))
        };
        let on = prepare(model, &settings(&case.on)?, cache, None)?;
        let off = prepare(model, &settings(&case.off)?, cache, Some(&on))?;
        Ok(Self { name: case.name, load, on: Side::new(on)?, off: Side::new(off)? })
    }

    /// Whether both would do the very same.
    pub fn is_alike(&self) -> bool {
        self.on.program().settings() == self.off.program().settings()
    }

    /// The greatest difference of a logit with it and without it.
    ///
    /// # Errors
    /// When a run fails.
    pub fn max_difference(&mut self) -> anyhow::Result<f64> {
        let n = self.load.n_prompt.clamp(1, COMPARED_ROWS);
        let (on, off) = (self.on.logits(n)?, self.off.logits(n)?);
        Ok(on.iter().zip(&off).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max))
    }
}

impl Switch for Pair {
    fn name(&self) -> &str {
        self.name
    }

    fn run(&mut self, on: bool) -> Result<f64, String> {
        let side = if on { &mut self.on } else { &mut self.off };
        side.run(self.load).map_err(|error| format!("{error:#}"))
    }
}

/// A short load for measurements at every start.
const AUTO: Load = Load { n_prompt: 64, n_gen: 8 };
/// How long they go on.
const AUTO_EFFORT: compare::Settings =
    compare::Settings { n_warmup: 1, min_rounds: 6, max_rounds: 10, floor: 0.02, precision: 0.01 };

/// Measures the optimizations that the user left to measurement.
///
/// # Errors
/// When the model cannot be run.
pub fn auto(
    model: &Model,
    compute: &ComputeArgs,
    cache: Option<&Cache>,
) -> anyhow::Result<Vec<Effect>> {
    let names = compute.optimizations()?.auto;
    let context = compute.quiet_settings(model.config.context_len)?.context_len;
    let room = context.saturating_sub(AUTO.n_gen);
    let load = Load { n_prompt: AUTO.n_prompt.min(room), ..AUTO };
    // What is timed is generating.
    if !names.is_empty() && (load.context_len() > context || model.graph.is_encoder()) {
        return Ok(Vec::new());
    }
    let mut effects = Vec::new();
    for flag in FLAGS.iter().filter(|flag| names.contains(&flag.name)) {
        let mut pair = Pair::new(model, cache, &Case::flag(compute, flag), load)?;
        if !pair.is_alike() {
            effects.push(effect(&mut pair, &AUTO_EFFORT)?);
        }
    }
    Ok(effects)
}
