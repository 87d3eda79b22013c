//! `sterna capacity`: how many agents this machine serves in time, and what the bottleneck is.
//!
//! In: a model, a workload as `bench serve` takes it, and limits. Out: yes or no for so many
//! agents, the most there can be, and what they would get. [`calibrate`] measures what batches take
//! here, once for each program; [`predict`] plays the workload through the engine's own scheduler
//! in virtual time; [`bottleneck`] says what the slowest requests waited for; [`report`] shows it.

mod bottleneck;
mod calibrate;
mod predict;
mod report;

use super::bench::serve::keys::Keys;
use super::bench::serve::workload::{self, Workload};
use super::serve::sizes::SizeArgs;
use crate::compute::ComputeArgs;
use crate::scoring;
use crate::show::bad_input;
use predict::{Prediction, Predictor};
use report::{Answer, Report};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use sterna_measure::capacity::{BatchCost, most};
use sterna_measure::load::{MAX_REQUESTS, Slo};
use sterna_model::Model;
use sterna_runtime::Settings;

/// Say how many agents this machine serves within limits, and what the bottleneck is.
///
/// The engine that serves is played in virtual time: the same queue, batches and shared prefixes,
/// each batch taking as long as batches of its shape took on this machine. That is measured first,
/// and kept beside the machine profile for the next time. HTTP, and whatever else runs on the
/// machine, is not in it: `sterna bench serve` confirms the answer. More agents each ask as often:
/// --rate is of all of them together, so it grows with them, as the pace of a trace does; both are
/// shown for each number of agents, and in the command that confirms. Exit code 1 says that the
/// limits are not met.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  sterna capacity model.gguf --slo ttft=2s,itl=150ms
  sterna capacity model.gguf --agents 69 --rate 2 --slo ttft=2s,itl=150ms
  sterna capacity model.gguf --workload agents-69 --slo e2e=30s --parallel 64")]
pub struct Args {
    /// The model.
    model: PathBuf,
    /// The share of requests that must be within all limits.
    #[arg(long, default_value_t = 0.95)]
    share: f64,
    /// Measure again what batches take.
    #[arg(long, conflicts_with = "calibration")]
    refresh: bool,
    /// Take what batches take from this file, such as one of another machine, and measure nothing.
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// How long measuring may take; three rounds are measured in any case.
    #[arg(long, default_value = "30s", value_name = "TIME")]
    time_budget: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// What is sent, as in `sterna bench serve`: a TOML file, or one of shared-prefix, agents-69,
    /// small-69, azure-code. Flags win over it.
    #[arg(long, value_name = "FILE|NAME", help_heading = "Workload")]
    workload: Option<String>,
    #[command(flatten, next_help_heading = "Workload")]
    keys: Keys,
    #[command(flatten, next_help_heading = "Serving")]
    sizes: SizeArgs,
    #[command(flatten, next_help_heading = "Computing")]
    compute: ComputeArgs,
}

/// Nobody asks for more of one machine.
const MOST_AGENTS: usize = 10_000;

/// Runs the command.
///
/// # Errors
/// When an argument is wrong, or the model cannot be run.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut keys = args.keys.clone().over(workload::read(args.workload.as_deref())?);
    let promise = args.promise(&keys)?;
    let sizes = args.sizes.read()?;
    let positions = |model: &Model, settings: &Settings| sizes.positions(model, settings);
    let (model, program) = scoring::compiled(&args.model, &args.compute, &positions)?;
    // Where nothing else is said, prompts are of this model's tokens.
    keys.vocab.get_or_insert(program.vocabulary());
    let workload = Workload::new(&keys)?;
    let limits = sizes.limits(&program);
    let tokenizer = Arc::new(model.tokenizer()?.clone());
    predict::check(&workload, &limits)?;
    let source = calibrate::Source {
        file: args.calibration.as_deref(),
        refresh: args.refresh,
        budget: sterna_optimize::budget::parse_duration(&args.time_budget)?,
    };
    let calibrated = calibrate::calibrate(&source, &model, &program, &limits)?;
    let cost = BatchCost::fit(&calibrated.calibration.shapes)?;
    let predictor = Predictor { limits, tokenizer, workload: &workload, cost: &cost, promise };
    let answer = answer(&predictor, keys.agents)?;
    let is_met = answer.is_met();
    let report =
        Report { args, keys, model: &model, program: &program, calibrated, predictor, answer };
    match args.json {
        true => report.json()?,
        false => print!("{}", report.text()?),
    }
    Ok(if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What must hold of a run.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// Of each request.
    pub slo: Slo,
    /// For so many of them.
    pub share: f64,
}

impl Args {
    /// Reads what is promised, before anything takes time.
    fn promise(&self, keys: &Keys) -> anyhow::Result<Promise> {
        let Some(slo) = keys.slo else {
            let why = "--slo says what agents are promised; give it like --slo ttft=2s,itl=150ms";
            return Err(bad_input(why));
        };
        if keys.agents == Some(0) {
            return Err(bad_input("--agents 0 asks for nothing; give at least 1, or leave it out"));
        }
        match self.share > 0.0 && self.share <= 1.0 {
            true => Ok(Promise { slo, share: self.share }),
            false => Err(bad_input(format!(
                "--share {} is no share; it is above 0 and at most 1",
                self.share
            ))),
        }
    }
}

/// Asks for the agents that were given, and for the most.
fn answer(predictor: &Predictor<'_>, asked: Option<usize>) -> anyhow::Result<Answer> {
    let mut predictions: BTreeMap<usize, Prediction> = BTreeMap::new();
    let per_agent = predictor.workload.requests_per_agent().max(1);
    let limit = MOST_AGENTS.min(MAX_REQUESTS / per_agent).max(1);
    let most = most(asked.unwrap_or(1), limit, |n_agents| {
        let prediction = predictor.predict(n_agents)?;
        let is_met = prediction.is_met(predictor.promise);
        predictions.insert(n_agents, prediction);
        anyhow::Ok(is_met)
    })?;
    let shown = [asked.unwrap_or(most), most, (most + 1).min(limit)];
    for n_agents in shown.into_iter().filter(|n| *n > 0) {
        if let Entry::Vacant(place) = predictions.entry(n_agents) {
            place.insert(predictor.predict(n_agents)?);
        }
    }
    predictions.retain(|n_agents, _| shown.contains(n_agents));
    let is_met = asked.map(|n_agents| predictions[&n_agents].is_met(predictor.promise));
    Ok(Answer { asked, is_met, most, is_limit: most == limit, predictions })
}
