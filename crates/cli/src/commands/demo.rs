//! `sterna demo`, and `sterna` alone: the main job, whole, on the model inside this program.
//!
//! In: nothing but a folder to write into. Out: a sample of the model's text, then what `sterna
//! optimize` does with any model, then the same sample by the artifact, and where everything lies.

use super::optimize::identity;
use crate::bars::Bars;
use crate::compute::LevelArgs;
use crate::embedded::{self, Files};
use crate::footprint::own_process;
use crate::scoring::Scorer;
use crate::show::{self, bad_input};
use crate::{interrupt, sample};
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use sterna_measure::Clock;
use sterna_measure::clock::RealClock;
use sterna_model::Model;
use sterna_optimize::budget::parse_percent;
use sterna_optimize::pipeline::{self, Effort, Outcome, Settings};
use sterna_optimize::progress::Watch;
use sterna_optimize::report::{self, Point, Report};
use sterna_optimize::runner::RuntimeEngine;
use sterna_optimize::{Budget, OptimizeError};
use sterna_runtime::sample::SamplerSettings;

/// The main job on the model inside this program: measure the baseline, search for the encoding of
/// each tensor, build the artifact, prove it on text that neither training nor search has seen.
///
/// It is `sterna optimize` with a model of its own, and takes about a minute on two cores. All
/// files go into one folder; a second run there replaces them.
#[derive(clap::Args)]
pub struct Args {
    /// Perplexity may rise by this much.
    #[arg(long, default_value = "1%", value_name = "PERCENT")]
    max_drop: String,
    /// Seed of the choice of text and of the samples.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder to write into.
    #[arg(long, short = 'o', default_value = "sterna-demo", value_name = "FOLDER")]
    out: PathBuf,
    /// What the samples begin with.
    #[arg(long, short = 'p', default_value = "She was", value_name = "TEXT")]
    prompt: String,
    /// Fewer documents, coarser groups, fewer rounds: seconds, with wider intervals.
    #[arg(long)]
    quick: bool,
    /// Print samples, files and the report as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    level: LevelArgs,
}

/// Tokens of a sample.
const N_SAMPLE: usize = 60;
/// The search ends after this long, so that a slow or busy machine is kept within two minutes, too.
const MAX_SEARCH: Duration = Duration::from_secs(60);
/// As long may each comparison of speeds take.
const MAX_RACE: Duration = Duration::from_secs(8);

/// Runs the command.
///
/// # Errors
/// When the folder cannot be used, or the user stops it.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let clock = RealClock::new();
    let start = clock.now();
    let max_drop = parse_percent(&args.max_drop)?;
    interrupt::listen()?;
    let mut folder = Folder::claim(&args.out)?;
    let files = embedded::write_into(&folder.path)?;
    let mut settings = settings(&args, &files, max_drop);
    settings.budget.check()?;
    let model = Model::open(&files.model)?;
    announce(&args, &model, &settings);
    let before = continuation(&files.model, &args)?;
    eprintln!("\n  before  {}\n", show::paragraph(&before, 10));
    let context_len = settings.text.context_len(model.config.context_len);
    let run_settings = args.level.settings(context_len)?;
    settings.footprint = Some(own_process(args.level.as_flags(), &run_settings));
    let engine = RuntimeEngine::new(run_settings)?.stopped_by(&interrupt::STOP);
    let bars = Bars::new();
    let watch = Watch { progress: &bars, stop: &interrupt::STOP };
    let outcome = pipeline::optimize(&settings, &engine, &clock, watch);
    bars.finish();
    let outcome = outcome.map_err(|error| match error {
        OptimizeError::Cancelled => anyhow::anyhow!("stopped; {}", folder.what_stays()),
        other => other.into(),
    })?;
    let after = continuation(&outcome.artifact, &args)?;
    folder.is_done = true;
    let seconds = (clock.now() - start).as_secs_f64();
    if args.json {
        print_json(&args, &outcome, [&before, &after], seconds)?;
    } else {
        print_results(&args, &outcome, &after, seconds);
    }
    Ok(show::graded(&outcome.report.run))
}

fn settings(args: &Args, files: &Files, max_drop: f64) -> Settings {
    let mut budget =
        Budget { max_drop_percent: Some(max_drop), seed: args.seed, ..Budget::default() };
    // What is quick needs no limit, and without one it is the same plan on every machine.
    budget.time = (!args.quick).then_some(MAX_SEARCH);
    let (model, text) = (files.model.clone(), files.text.clone());
    let mut settings = Settings::new(model, args.out.clone(), text, budget);
    settings.n_bands = args.quick.then_some(1);
    settings.max_checks = if args.quick { 10 } else { 40 };
    let text = &mut settings.text;
    (text.n_calibration, text.n_evaluation, text.quick_tokens) =
        if args.quick { (16, 40, 600) } else { (64, 192, 1000) };
    settings.effort = match args.quick {
        true => {
            Effort { max_rounds: 6, n_requests: 4, max_time: MAX_RACE / 4, ..Effort::default() }
        }
        false => Effort { max_time: MAX_RACE, ..Effort::default() },
    };
    settings.identity = identity();
    settings
}

/// What is about to happen, on standard error.
fn announce(args: &Args, model: &Model, settings: &Settings) {
    eprintln!(
        "{}: the main job on its own model {} ({}, {:.1} million parameters, {})",
        settings.identity.build,
        model.name,
        model.arch.name(),
        model.graph.n_parameters() as f64 / 1e6,
        show::bytes(model.checkpoint().files().iter().map(|f| f.bytes().len() as u64).sum()),
    );
    eprintln!(
        "budget: {}; results go to {}; Ctrl-C stops and cleans up",
        settings.budget.line(),
        args.out.display()
    );
    if args.quick {
        eprintln!(
            "--quick: {} documents to judge plans by and {} for the proof, all layers in one band; \
             intervals are wider than in a full run",
            settings.text.n_calibration, settings.text.n_evaluation
        );
    }
}

/// The prompt and how a model goes on.
fn continuation(path: &Path, args: &Args) -> anyhow::Result<String> {
    let model = Model::open(path)?;
    let settings = args.level.settings(model.config.context_len)?;
    let mut scorer = Scorer::of(model, &settings, None)?;
    let how = SamplerSettings { temperature: 0.6, seed: args.seed, ..SamplerSettings::default() };
    sample::continuation(&mut scorer, &args.prompt, N_SAMPLE, how)
}

fn print_results(args: &Args, outcome: &Outcome, after: &str, seconds: f64) {
    let Report { run, details } = &outcome.report;
    println!("{}", comparison(&details.held_out));
    let (word, meaning) = report::verdict(&outcome.report);
    println!("verdict  {word}: {meaning}");
    for target in &run.targets {
        println!("         {}", report::target_line(target));
    }
    for warning in report::damage::warnings(run) {
        println!("WARNING: {warning}");
    }
    for race in &details.races {
        println!("{:8} {}", race.name, race.line);
    }
    println!("\n  after   {}\n", show::paragraph(after, 10));
    println!("report   {}", outcome.report_html.display());
    println!("artifact {}", outcome.artifact.display());
    println!("plan     {}", outcome.plan.display());
    println!("took     {seconds:.0} s");
    let program = std::env::args().next().unwrap_or_else(|| "sterna".into());
    let (artifact, text) = (outcome.artifact.display(), args.out.join(embedded::TEXT_NAME));
    println!("\nNext:");
    println!("  {program} run {artifact} \"{}\"", args.prompt);
    println!("  {program} report {artifact}");
    println!("  {program} verify {}", args.out.display());
    println!("  {program} optimize YOUR_MODEL --calib {} --max-drop 1%", text.display());
    println!("  {program} --help");
}

/// Size against quality: baseline, artifact, and one encoding for everything.
fn comparison(points: &[Point]) -> comfy_table::Table {
    let headings = ["held-out text", "file", "smaller", "perplexity rise", "95% interval", "KL"];
    let mut table = show::table(&headings);
    let source = points.first().map_or(0, |point| point.bytes) as f64;
    for point in points {
        let interval = point.drop_percent_ci95.filter(|_| point.kind != "baseline");
        table.add_row([
            point.label.clone(),
            show::bytes(point.bytes),
            format!("{:.2}x", source / point.bytes as f64),
            format!("{:+.2}%", point.drop_percent),
            interval.map_or("-".into(), |i| format!("{:+.2}% to {:+.2}%", i.low, i.high)),
            format!("{:.5}", point.kl),
        ]);
    }
    table
}

fn print_json(
    args: &Args,
    outcome: &Outcome,
    [before, after]: [&str; 2],
    seconds: f64,
) -> anyhow::Result<()> {
    let report: serde_json::Value = serde_json::from_str(&outcome.report.to_json()?)?;
    show::json(&serde_json::json!({
        "is_quick": args.quick,
        "seconds": seconds,
        "sample": { "prompt": args.prompt, "before": before, "after": after },
        "files": {
            "artifact": outcome.artifact,
            "plan": outcome.plan,
            "report_html": outcome.report_html,
            "report_json": outcome.report_json,
            "evidence": outcome.evidence,
        },
        "report": report,
    }))
}

/// The folder of the results. A run that does not end leaves what it found.
struct Folder {
    path: PathBuf,
    /// Whether it was not there before.
    is_new: bool,
    /// Whether the results are in it.
    is_done: bool,
}

impl Folder {
    /// A folder that is new, empty, or of an earlier run.
    fn claim(path: &Path) -> anyhow::Result<Self> {
        let is_new = !path.exists();
        let refused = |why: &str| {
            let path = path.display();
            bad_input(format!("{path} {why}; choose another folder with -o FOLDER"))
        };
        if !is_new {
            if !path.is_dir() {
                return Err(refused("is no folder"));
            }
            let is_empty = std::fs::read_dir(path)?.next().is_none();
            if !is_empty && !path.join(embedded::MODEL_NAME).exists() {
                return Err(refused("holds files that are not of an earlier demo"));
            }
        }
        std::fs::create_dir_all(path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self { path: path.to_owned(), is_new, is_done: false })
    }

    /// What a user who stopped finds.
    fn what_stays(&self) -> &'static str {
        match self.is_new {
            true => "nothing was left behind",
            false => "the results of the earlier run are as they were",
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_done || !self.is_new {
            return;
        }
        // Only what this run can have made; anything else in it keeps the folder.
        for name in [embedded::MODEL_NAME, embedded::TEXT_NAME, pipeline::STATE_NAME] {
            let _ = std::fs::remove_file(self.path.join(name));
        }
        let _ = std::fs::remove_dir(&self.path);
    }
}
