//! `sterna integrate`: an optimization by a profile, with a grade.

use super::optimize::{apply_level, identity};
use crate::bars::Bars;
use crate::compute::ComputeArgs;
use crate::embedded;
use crate::footprint::own_process;
use crate::interrupt;
use crate::show::{self, bad_input};
use anyhow::Context;
use std::path::PathBuf;
use std::process::ExitCode;
use sterna_formats::AtomicFile;
use sterna_measure::clock::RealClock;
use sterna_measure::{Clock, Figure, Level, Unit};
use sterna_model::{Artifact, Model};
use sterna_optimize::budget::parse_percent;
use sterna_optimize::calibration;
use sterna_optimize::integration::{Config, Profile, Results, parallel, results};
use sterna_optimize::pipeline::{self, Effort, Settings};
use sterna_optimize::progress::Watch;
use sterna_optimize::runner::RuntimeEngine;
use sterna_optimize::search::Least;
use sterna_optimize::{Budget, OptimizeError};
use sterna_runtime::Settings as RunSettings;

/// Optimize a model by a profile, compare it with what it was on the same seeded text, and grade
/// what came of it: targets met, of those that were measured.
///
/// The profiles have the fields of the system they come from (--print-config shows them); what a
/// profile asks for and this program does not do is said and counts neither way.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  sterna integrate --profile full --save-report
  sterna integrate model.gguf --calib text.txt --profile minimal --config mine.json")]
pub struct Args {
    /// The model [default: the one inside this program].
    #[arg(requires = "calib")]
    model: Option<PathBuf>,
    /// Text the search may look at [default: the text inside this program].
    #[arg(long, value_name = "FILE", requires = "model")]
    calib: Option<PathBuf>,
    /// Text to judge by [default: documents of --calib that the search is not shown].
    #[arg(long, value_name = "FILE", requires = "calib")]
    eval: Option<PathBuf>,
    /// What is asked for.
    #[arg(long, value_enum, default_value = "full")]
    profile: Name,
    /// JSON whose fields go over the profile's.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the config and stop.
    #[arg(long)]
    print_config: bool,
    /// Perplexity may rise by this much.
    #[arg(long, default_value = "1%", value_name = "PERCENT")]
    max_drop: String,
    /// How thorough: development, balanced or production, by any of their names.
    #[arg(long, default_value = "development")]
    level: Level,
    /// Take more rounds to compare speeds.
    #[arg(long)]
    benchmark: bool,
    /// Keep the integration's report too: OUT/integration.json.
    #[arg(long)]
    save_report: bool,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder to write into.
    #[arg(long, short = 'o', default_value = "sterna-integration", value_name = "FOLDER")]
    out: PathBuf,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// [`Profile`] on the command line.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Name {
    Full,
    Conservative,
    Minimal,
}

impl From<Name> for Profile {
    fn from(name: Name) -> Self {
        match name {
            Name::Full => Profile::Full,
            Name::Conservative => Profile::Conservative,
            Name::Minimal => Profile::Minimal,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When an input cannot be used, or the user stops it.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (profile, clock) = (Profile::from(args.profile), RealClock::new());
    let start = clock.now();
    let config = config(&args, profile)?;
    if args.print_config {
        show::json(&config)?;
        return Ok(ExitCode::SUCCESS);
    }
    interrupt::listen()?;
    let mut settings = settings(&args, &config)?;
    let model = Model::open(&settings.source)?;
    let context_len = settings.text.context_len(model.config.context_len);
    let whole = args.compute.settings(model.config.context_len)?;
    let flags = args.compute.with_any_context().as_flags();
    settings.footprint = Some(own_process(flags, &whole));
    let threads = whole.n_workers().min(config.gpu_streams);
    let engine = |threads| {
        let threads = Some(threads);
        let engine = RuntimeEngine::new(RunSettings { context_len, threads, ..whole.clone() })?;
        Ok::<_, OptimizeError>(engine.stopped_by(&interrupt::STOP))
    };
    let (one, many) = (engine(1)?, engine(threads)?);
    let bars = Bars::new();
    let watch = Watch { progress: &bars, stop: &interrupt::STOP };
    let outcome = pipeline::optimize(&settings, &many, &clock, watch);
    bars.finish();
    let outcome = outcome?;
    let speedup = if config.enable_parallel_execution {
        let text = calibration::prepare(&settings.text, &model, context_len)?.heldout;
        parallel::speedup(&Artifact::open(&outcome.artifact)?.model, &one, &many, &text, &clock)?
    } else {
        let reason = "enable_parallel_execution is off";
        let method = "time of 1 worker over that of all";
        Figure::unavailable(parallel::NAME, Unit::Ratio, method, reason)
            .map_err(OptimizeError::Measure)?
    };
    let run = results::run(&outcome.report, &config, speedup)?;
    let n_plans = outcome.report.details.tried.len();
    let seconds = (clock.now() - start).as_secs_f64();
    let results = Results::of(profile, &config, &run, n_plans, seconds);
    let json = results.to_json(&run)?;
    let path = args.out.join("integration.json");
    if args.save_report {
        AtomicFile::write_whole(&path, serde_json::to_string_pretty(&json)?.as_bytes())?;
    }
    if args.json {
        show::json(&json)?;
    } else {
        print!("{}", results.text(&run));
        println!("\nartifact  {}", outcome.artifact.display());
        println!("report    {}", outcome.report_html.display());
        if args.save_report {
            println!("          {}", path.display());
        }
    }
    Ok(show::graded(&run))
}

/// The profile's config with the user's fields over it.
fn config(args: &Args, profile: Profile) -> anyhow::Result<Config> {
    let Some(path) = &args.config else { return Ok(profile.config()) };
    let text = std::fs::read_to_string(path)
        .map_err(|error| bad_input(format!("{}: {error}", path.display())))?;
    let overrides = serde_json::from_str(&text)
        .map_err(|error| bad_input(format!("{}: {error}", path.display())))?;
    Ok(profile.config().with(&overrides)?)
}

fn settings(args: &Args, config: &Config) -> anyhow::Result<Settings> {
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("creating {}", args.out.display()))?;
    let (model, text) = match (&args.model, &args.calib) {
        (Some(model), Some(calib)) => (model.clone(), calib.clone()),
        _ => {
            let files = embedded::write_into(&args.out)?;
            (files.model, files.text)
        }
    };
    let budget = Budget {
        max_drop_percent: Some(parse_percent(&args.max_drop)?),
        least: Some(Least::Bytes),
        seed: args.seed,
        ..Budget::default()
    };
    budget.check()?;
    let mut settings = Settings::new(model, args.out.clone(), text, budget);
    settings.text.evaluation = args.eval.clone();
    settings.identity = identity();
    apply_level(&mut settings, args.level);
    if args.benchmark {
        settings.effort = Effort::default();
    }
    config.apply(&mut settings);
    Ok(settings)
}
