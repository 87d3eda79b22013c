//! `sterna tune`: how to cut the work on this machine, measured and kept in the machine profile.

mod subject;
mod synthetic;

use crate::compute::LevelArgs;
use crate::probes;
use crate::show::{self, bad_input};
use anyhow::Context;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use sterna_measure::clock::{Clock, RealClock, timestamp_utc};
use sterna_measure::compare;
use sterna_measure::machine::{Machine, Tuned};
use sterna_measure::search::{Found, Knob, Trial, search};
use sterna_model::Model;
use sterna_optimize::budget::parse_duration;
use sterna_runtime::Settings;
use sterna_runtime::tuning::KNOBS;
use subject::Subject;
use synthetic::Synthetic;

/// Measure how to cut the work on this machine: threads, parts per worker, rows at once.
///
/// Every candidate runs against the best so far, interleaved, and is taken only if it is faster
/// beyond noise; the result must beat the defaults once more, or the defaults stay. Numbers never
/// depend on it: logits are compared bit for bit. The result is kept beside the machine profile,
/// and `--opt-level aggressive` uses it.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  sterna tune                               on a made-up model, under a minute
  sterna tune model.gguf                    on the model that will run
  sterna run model.gguf \"Once\" --opt-level aggressive")]
pub struct Args {
    /// The model to tune on [default: a made-up one of 50 million weights].
    model: Option<PathBuf>,
    /// How long it may take; what is not measured by then stays as it was.
    #[arg(long, default_value = "50s", value_name = "TIME")]
    time_budget: String,
    /// Measure and print, but keep nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    level: LevelArgs,
}

/// Rounds are few, as candidates are many; a candidate that is not surely faster is not taken.
const EFFORT: compare::Settings =
    compare::Settings { n_warmup: 1, min_rounds: 6, max_rounds: 6, floor: 0.01, precision: 0.005 };

/// Runs of one comparison: of both sides to warm up, then four per round.
const RUNS: usize = 2 + 4 * 6;

/// One candidate, for people and tools.
#[derive(Serialize)]
struct Row {
    knob: String,
    value: usize,
    /// The candidate's cost over that of the best so far; `None` where time was up.
    cost_ratio: Option<f64>,
    cost_ratio_ci95: Option<[f64; 2]>,
    is_taken: bool,
}

/// Runs the command.
///
/// # Errors
/// When the model cannot be run, or the result cannot be kept.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let clock = RealClock::new();
    let (level, machine) = (args.level.level()?, Machine::detect());
    let base = args.level.settings(subject::MAX_CONTEXT)?;
    let knobs = knobs(&base, base.threads.unwrap_or(machine.usable_cpus()));
    let Tuning { found, workload } = tune_on(&args, &knobs, base, &clock)?;
    let cost_ratio = match &found.proof {
        Some(proof) if found.values != defaults(&knobs) => {
            Some(proof.figure("tuned_cost_ratio", "seconds of the workload, tuned over default")?)
        }
        _ => None,
    };
    let tuned = Tuned {
        machine_id: machine.id(),
        isa: level.name().into(),
        version: env!("CARGO_PKG_VERSION").into(),
        workload,
        timestamp_utc: timestamp_utc(),
        knobs: knobs.iter().map(|knob| knob.name.clone()).zip(found.values).collect(),
        cost_ratio,
    };
    let kept = if args.dry_run { None } else { Some(keep(&tuned, &machine)?) };
    let rows: Vec<Row> = found.trials.iter().map(Row::of).collect();
    let seconds = clock.now().as_secs_f64();
    if args.json {
        show::json(&serde_json::json!({
            "tuned": tuned, "trials": rows, "seconds": seconds, "file": kept,
        }))?;
    } else {
        print(&tuned, &knobs, &rows, seconds, kept.as_ref());
    }
    Ok(ExitCode::SUCCESS)
}

/// Every knob with its default and candidates on this machine.
fn knobs(base: &Settings, n_cpus: usize) -> Vec<Knob> {
    let knob = |knob: &sterna_runtime::tuning::Knob| {
        let default = (knob.get)(base);
        let mut candidates = (knob.candidates)(n_cpus);
        candidates.retain(|&value| value != default);
        Knob { name: knob.name.into(), default, candidates }
    };
    KNOBS.iter().map(knob).collect()
}

/// Tunes on the model asked for, or on the made-up one.
fn tune_on(
    args: &Args,
    knobs: &[Knob],
    base: Settings,
    clock: &RealClock,
) -> anyhow::Result<Tuning> {
    let budget = parse_duration(&args.time_budget)?;
    let n_candidates: usize = knobs.iter().map(|knob| knob.candidates.len()).sum();
    // The last comparison proves the result.
    let per_run = budget.as_secs_f64() / ((n_candidates + 1) * RUNS) as f64;
    match &args.model {
        Some(path) => {
            let model = Model::open(path)?;
            let context_len = base.context_len.min(model.config.context_len);
            let settings = Settings { context_len, ..base };
            let name = path.display().to_string();
            let subject = Subject::new(&model.graph, &model, name, settings, per_run)?;
            tune(knobs, &subject, clock, budget)
        }
        None => {
            let made = Synthetic::new()?;
            let name = made.name.clone();
            let subject = Subject::new(&made.graph, &made, name, base, per_run)?;
            tune(knobs, &subject, clock, budget)
        }
    }
}

/// A search and what it ran.
struct Tuning {
    found: Found,
    workload: String,
}

fn defaults(knobs: &[Knob]) -> Vec<usize> {
    knobs.iter().map(|knob| knob.default).collect()
}

fn tune(
    knobs: &[Knob],
    subject: &Subject<'_>,
    clock: &RealClock,
    budget: std::time::Duration,
) -> anyhow::Result<Tuning> {
    let knobs: Vec<Knob> = knobs.iter().map(|knob| subject.worth_measuring(knob)).collect();
    eprintln!("tuning on {} ...", subject.workload());
    // The proof at the end takes as long as one candidate.
    let deadline = budget.mul_f64(0.85);
    let show = &mut |trial: &Trial| eprintln!("  {}", line(trial));
    let found = search(&knobs, subject, &EFFORT, clock, deadline, show)?;
    subject.check_bits(&defaults(&knobs), &found.values).map_err(bad_input)?;
    Ok(Tuning { found, workload: subject.workload() })
}

fn line(trial: &Trial) -> String {
    let Trial { knob, value, comparison, is_taken } = trial;
    match comparison {
        Some(comparison) => {
            let verdict = if *is_taken { "taken" } else { "not taken" };
            format!("{knob} {value}: {:+.1}% cost, {verdict}", (comparison.ratio - 1.0) * 100.0)
        }
        None => format!("{knob} {value}: not measured, time was up"),
    }
}

impl Row {
    fn of(trial: &Trial) -> Self {
        let ci = trial.comparison.as_ref().map(|c| [c.ratio_ci95.low, c.ratio_ci95.high]);
        Self {
            knob: trial.knob.clone(),
            value: trial.value,
            cost_ratio: trial.comparison.as_ref().map(|c| c.ratio),
            cost_ratio_ci95: ci,
            is_taken: trial.is_taken,
        }
    }
}

fn keep(tuned: &Tuned, machine: &Machine) -> anyhow::Result<PathBuf> {
    let cache = probes::cache_folder()
        .context("neither XDG_CACHE_HOME nor HOME is set, so there is no place to keep it")?;
    Ok(tuned.save(&cache, machine)?)
}

fn print(tuned: &Tuned, knobs: &[Knob], rows: &[Row], seconds: f64, kept: Option<&PathBuf>) {
    let about: BTreeMap<&str, &str> = KNOBS.iter().map(|knob| (knob.name, knob.about)).collect();
    let mut table = show::table(&["knob", "default", "tuned", "tried", "decides"]);
    for knob in knobs {
        let mut tried: Vec<String> = (rows.iter().filter(|row| row.knob == knob.name))
            .map(|row| match row.cost_ratio {
                Some(ratio) => format!("{} ({:+.1}%)", row.value, (ratio - 1.0) * 100.0),
                None => format!("{} (no time)", row.value),
            })
            .collect();
        if tried.is_empty() && !knob.candidates.is_empty() {
            tried.push("nothing: the prompt is too short to tell".into());
        }
        table.add_row([
            knob.name.clone(),
            knob.default.to_string(),
            tuned.knobs[&knob.name].to_string(),
            tried.join("\n"),
            about[knob.name.as_str()].to_owned(),
        ]);
    }
    println!("{table}");
    println!("{}; {} in {seconds:.0} s", tuned.workload, tuned.isa);
    match &tuned.cost_ratio {
        Some(figure) => println!("tuned against the defaults: {}", figure.line()),
        None => println!("nothing beat the defaults beyond noise, so they stay"),
    }
    match kept {
        Some(path) => println!("kept in {}; --opt-level aggressive uses it", path.display()),
        None => println!("nothing is kept (--dry-run)"),
    }
}
