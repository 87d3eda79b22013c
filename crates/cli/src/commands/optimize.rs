//! `sterna optimize`: search, build, prove.

use crate::activations::{Activations, Ranges};
use crate::bars::Bars;
use crate::compute::ComputeArgs;
use crate::distiller::Trainer;
use crate::footprint::own_process;
use crate::interrupt;
use crate::show::{self, bad_input};
use clap::builder::{PossibleValue, PossibleValuesParser};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use sterna_measure::Level;
use sterna_measure::clock::{RealClock, timestamp_utc};
use sterna_measure::report::Artefact;
use sterna_model::Model;
use sterna_optimize::budget::{
    Allowed, TTFT_PROMPT, parse_allow, parse_bytes, parse_duration, parse_ms, parse_percent,
};
use sterna_optimize::pipeline::rounding::{self, Choice};
use sterna_optimize::pipeline::{self, Effort, Identity, Settings, inputs};
use sterna_optimize::progress::Watch;
use sterna_optimize::runner::RuntimeEngine;
use sterna_optimize::search::strategies::by_name;
use sterna_optimize::search::{Least, STRATEGIES, UseCase};
use sterna_optimize::{Budget, report};

/// Find the best plan within a budget, build the artifact, and prove it on text the search never
/// saw. Writes artifact, plan.toml, report.html and report.json into a folder.
///
/// The drop is the rise of perplexity on held-out text against the model as given; it counts as
/// kept when the upper end of its 95% interval is within the budget.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  sterna optimize model.gguf --calib text.txt --max-drop 1%
  sterna optimize model.gguf --calib text.txt --max-drop 1% --max-size 600MB --goal latency
  sterna optimize ./model-dir --calib a.txt --eval b.txt --max-size 700MB --out best")]
pub struct Args {
    /// The model: GGUF, Hugging Face directory, safetensors or llama2.c .bin.
    model: PathBuf,
    /// Text the search may look at: documents separated by <|endoftext|> or blank lines, JSON
    /// lines, or else one paragraph per line.
    #[arg(long, value_name = "FILE")]
    calib: Option<PathBuf>,
    /// Text to judge by [default: documents of --calib that the search is not shown].
    #[arg(long, value_name = "FILE")]
    eval: Option<PathBuf>,
    /// Ask both models questions with known answers: JSON lines of {query, choices, gold},
    /// {context_options, continuation, gold} or {context, continuation}, as lm-eval's kin have.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    tasks: Vec<PathBuf>,
    /// Questions of each task at most [default: 200].
    #[arg(long, visible_alias = "limit", value_name = "N", requires = "tasks")]
    task_limit: Option<usize>,
    /// Perplexity may rise by this much, e.g. 1%.
    #[arg(long, visible_alias = "quality-floor", value_name = "PERCENT")]
    max_drop: Option<String>,
    /// The same the other way round, as MLPerf says it: so much of the quality has to stay, e.g. 99
    /// or 99.9.
    #[arg(long, value_name = "PERCENT", conflicts_with = "max_drop")]
    accuracy_target: Option<f64>,
    /// The artifact may have this many bytes, e.g. 700MB.
    #[arg(long, visible_alias = "target-size", value_name = "BYTES")]
    max_size: Option<String>,
    /// All tensors may take this many bits per parameter of the model as given, e.g. 4.5.
    #[arg(long, visible_aliases = ["avg-bits", "effective-bits"], value_name = "BITS")]
    target_bpw: Option<f64>,
    /// The loaded model may take this much memory, e.g. 1GB.
    #[arg(long, value_name = "BYTES")]
    max_memory: Option<String>,
    /// One sequence may generate at least so many tokens per second on this machine.
    #[arg(long, value_name = "RATE", conflicts_with = "itl")]
    tokens_per_s: Option<f64>,
    /// The median token of one sequence may take this long on this machine, e.g. 5ms.
    #[arg(long, value_name = "TIME")]
    itl: Option<String>,
    /// 95% of tokens of one sequence may take this long at most, e.g. 8ms.
    #[arg(long, visible_alias = "itl-p95", value_name = "TIME")]
    latency_p95: Option<String>,
    /// The first token after a prompt of 128 may take this long on this machine, e.g. 200ms.
    #[arg(long, value_name = "TIME")]
    ttft: Option<String>,
    /// What to save within the caps, where quality is one of them: memory takes the fewest bytes,
    /// latency the least time per token on this machine [default: memory, and the least divergence
    /// where a size or a time is capped].
    #[arg(long, value_enum, value_name = "WHAT")]
    goal: Option<Goal>,
    /// Encodings that may be used, e.g. Q8_0,Q4_0 or int8,int4; with prune among them, channels of
    /// the MLP may leave too, where that measures better within the caps; with distill, codes and
    /// scales of the chosen plan learn from the source on text of --calib (some minutes of
    /// training, for models of up to about 100 million weights), kept where it measures better.
    #[arg(long, value_name = "LIST")]
    allow: Option<String>,
    /// Stop searching after this long, e.g. 30m, and build the best found.
    #[arg(long, value_name = "TIME")]
    time_budget: Option<String>,
    /// How thorough: development, balanced or production, by any of their names.
    #[arg(long, default_value = "balanced")]
    level: Level,
    /// Calibration documents at most that plans are judged by. Rounding and pruning are fitted on
    /// others of that text, up to four times as many.
    #[arg(long, value_name = "N")]
    calib_samples: Option<usize>,
    /// Tokens of a document at most.
    #[arg(long, value_name = "N")]
    calib_seqlen: Option<usize>,
    /// Held-out documents at most: what the proof rests on.
    #[arg(long, value_name = "N")]
    eval_samples: Option<usize>,
    /// Seed of everything random.
    #[arg(long)]
    seed: Option<u64>,
    /// Never widen the MLP with zeros to make its rows fit block encodings.
    #[arg(long)]
    no_pad: bool,
    /// How weights are rounded: plain; weighed, where errors count as much as the inputs they meet
    /// on calibration text; compensated, where later columns also make up for the errors of earlier
    /// ones (GPTQ); or auto, which measures each and takes the best.
    #[arg(long, value_enum, default_value = "auto", value_name = "HOW")]
    rounding: Rounding,
    /// Whether matrices' columns are multiplied by how large their inputs are, and norms divided by
    /// it, so that rounding hurts less (AWQ, SmoothQuant): auto where that measures better.
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN")]
    scaling: Scaling,
    /// How layers see their inputs: float, as the model was made; dynamic, as int8 codes with a
    /// scale per row; static, with one scale for all rows, found on calibration text. (With float,
    /// integer kernels have a scale per 256 inputs, which loses least.)
    #[arg(
        long,
        visible_alias = "activation-scheme",
        value_enum,
        default_value = "float",
        value_name = "HOW"
    )]
    activations: Activations,
    /// What static scales are made of: the largest magnitude, what 99.9% are within, or what loses
    /// least by KL divergence [default: whichever measures best].
    #[arg(long, visible_alias = "calibration-method", value_enum, value_name = "HOW")]
    ranges: Option<Ranges>,
    /// What the model is for. It decides, with the model's size, which plan the search measures
    /// besides its own: int8 below 50 MB, about 6 bits to 200 MB, int4 above; realtime is int4 and
    /// accuracy int8, whatever the size.
    #[arg(long, value_enum, default_value = "general", value_name = "WHAT")]
    use_case: For,
    /// What proposes plans from the losses of single groups; whole plans are measured and
    /// mended afterwards in any case, and the report compares all of them.
    #[arg(long, default_value = "exact", value_name = "STRATEGY", value_parser = strategies())]
    strategy: String,
    /// The folder to write into.
    #[arg(long, short = 'o', default_value = "sterna-out", value_name = "FOLDER")]
    out: PathBuf,
    /// Hold no whole model in memory, for those that are larger than it: weights lie in files of
    /// the output folder (about three times the model's bytes while it runs, on a disk), and those
    /// of a layer are read when it runs. It takes longer, neither speeds nor memory are measured,
    /// and rounding is weighed, or plain where --rounding says so.
    #[arg(long)]
    low_memory: bool,
    /// Go on from an earlier run in the same folder.
    #[arg(long)]
    resume: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Questions of each task at most, unless the user says otherwise.
const N_QUESTIONS: usize = 200;

/// For each document that plans are judged by, others at most that the chosen one learns from.
const LESSONS_RATIO: usize = 64;

/// Names of strategies, and what they are.
fn strategies() -> PossibleValuesParser {
    let all = STRATEGIES.iter();
    all.map(|strategy| PossibleValue::new(strategy.name()).help(strategy.about()))
        .collect::<Vec<_>>()
        .into()
}

/// [`Least`] on the command line.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Goal {
    Memory,
    Latency,
    /// Known from other tools; what serves it here is said.
    #[value(hide = true)]
    Throughput,
    /// The same.
    #[value(hide = true)]
    Energy,
}

impl Goal {
    fn least(self) -> anyhow::Result<Least> {
        Err(bad_input(match self {
            Goal::Memory => return Ok(Least::Bytes),
            Goal::Latency => return Ok(Least::Time),
            Goal::Throughput => {
                "--goal throughput: plans are compared by what a token of one sequence takes; ask \
                 for --goal latency, and see with `sterna bench serve` what many at once get"
            }
            Goal::Energy => {
                "--goal energy: nothing here measures energy; --goal latency is the plan whose \
                 tokens take the least time"
            }
        }))
    }
}

/// [`UseCase`] on the command line.
#[derive(Clone, Copy, clap::ValueEnum)]
enum For {
    General,
    Realtime,
    Accuracy,
}

/// [`Choice`] on the command line.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Rounding {
    Auto,
    Plain,
    Weighed,
    Compensated,
}

/// [`rounding::Scaling`] on the command line.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Scaling {
    Auto,
    On,
    Off,
}

impl From<Scaling> for rounding::Scaling {
    fn from(scaling: Scaling) -> Self {
        match scaling {
            Scaling::Auto => rounding::Scaling::Auto,
            Scaling::On => rounding::Scaling::On,
            Scaling::Off => rounding::Scaling::Off,
        }
    }
}

impl From<Rounding> for Choice {
    fn from(rounding: Rounding) -> Self {
        match rounding {
            Rounding::Auto => Choice::Auto,
            Rounding::Plain => Choice::Plain,
            Rounding::Weighed => Choice::Weighed,
            Rounding::Compensated => Choice::Compensated,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When an input cannot be used, or the user stops it.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut settings = settings(&args)?;
    if args.dry_run {
        println!("{}", pipeline::describe(&settings)?);
        return Ok(ExitCode::SUCCESS);
    }
    interrupt::listen()?;
    let model_context = Model::open(&args.model)?.config.context_len;
    let mut run_settings = args.compute.settings(model_context)?;
    let flags = args.compute.with_any_context().as_flags();
    // Memory is measured with the whole model in it.
    let footprint = (!args.low_memory).then(|| own_process(flags, &run_settings));
    settings.footprint = footprint;
    let wanted = match settings.budget.max_ttft_ms {
        // The prompt and what is generated after it.
        Some(_) => run_settings.context_len.min(2 * TTFT_PROMPT),
        None => 0,
    };
    let by_text = settings.text.context_len(run_settings.context_len);
    run_settings.context_len = by_text.max(wanted);
    let engine = RuntimeEngine::new(run_settings)?.stopped_by(&interrupt::STOP);
    let engine = if args.low_memory { engine.aside(args.out.clone()) } else { engine };
    let bars = Bars::new();
    let watch = Watch { progress: &bars, stop: &interrupt::STOP };
    let outcome = pipeline::optimize(&settings, &engine, &RealClock::new(), watch);
    bars.finish();
    let outcome = outcome?;
    let json: serde_json::Value = serde_json::from_str(&outcome.report.to_json()?)?;
    if args.json {
        show::json(&json)?;
    } else {
        print!("{}", report::text(&json)?);
        println!("\nartifact  {}", outcome.artifact.display());
        println!("plan      {}", outcome.plan.display());
        println!("report    {}", outcome.report_html.display());
        println!("          {}", outcome.report_json.display());
        println!("evidence  {}", outcome.evidence.display());
        println!("\nsterna verify {} derives every number again", args.out.display());
    }
    Ok(show::graded(&outcome.report.run))
}

fn settings(args: &Args) -> anyhow::Result<Settings> {
    let Some(calibration) = args.calib.clone() else {
        return Err(bad_input(
            "a search needs text to look at: give --calib FILE, some hundred kilobytes of what the \
             model will read (documents separated by <|endoftext|> or blank lines)",
        ));
    };
    let mut budget = Budget {
        max_drop_percent: max_drop(args)?,
        max_size: args.max_size.as_deref().map(parse_bytes).transpose()?,
        target_bpw: args.target_bpw,
        max_memory: args.max_memory.as_deref().map(parse_bytes).transpose()?,
        max_itl_ms: itl_ms(args)?,
        max_itl_p95_ms: args.latency_p95.as_deref().map(parse_ms).transpose()?,
        max_ttft_ms: args.ttft.as_deref().map(parse_ms).transpose()?,
        least: args.goal.map(Goal::least).transpose()?,
        time: args.time_budget.as_deref().map(parse_duration).transpose()?,
        ..Budget::default()
    };
    let Allowed { encodings, prune, distill } =
        parse_allow(args.allow.as_deref().unwrap_or_default())?;
    budget.allow = encodings;
    budget.seed = args.seed.unwrap_or(budget.seed);
    budget.check()?;
    let mut settings = Settings::new(args.model.clone(), args.out.clone(), calibration, budget);
    settings.tokenizer = args.compute.tokenizer.clone();
    settings.text.evaluation = args.eval.clone();
    settings.tasks.files = args.tasks.clone();
    settings.tasks.limit = Some(args.task_limit.unwrap_or(N_QUESTIONS));
    settings.may_pad = !args.no_pad;
    settings.rounding = match (args.rounding, args.low_memory) {
        (Rounding::Auto, true) => Choice::Weighed,
        (rounding, _) => rounding.into(),
    };
    settings.scaling = args.scaling.into();
    settings.may_prune = prune;
    settings.inputs = inputs(args)?;
    settings.strategy = by_name(&args.strategy).expect("one of those that clap lets pass");
    settings.use_case = match args.use_case {
        For::General => UseCase::General,
        For::Realtime => UseCase::Realtime,
        For::Accuracy => UseCase::Accuracy,
    };
    settings.may_choose_kv = args.compute.kv.is_none();
    settings.resume = args.resume;
    apply_level(&mut settings, args.level);
    settings.text.n_calibration = args.calib_samples.unwrap_or(settings.text.n_calibration);
    settings.text.n_evaluation = args.eval_samples.unwrap_or(settings.text.n_evaluation);
    settings.text.max_tokens = args.calib_seqlen.unwrap_or(settings.text.max_tokens);
    if distill {
        settings.distiller = Some(Arc::new(Trainer));
        settings.text.n_lessons = LESSONS_RATIO.saturating_mul(settings.text.n_calibration);
    }
    if args.low_memory {
        check_low_memory(args, &settings)?;
        settings.effort = Effort::none();
    }
    settings.identity = identity();
    Ok(settings)
}

/// Refuses what cannot be had with little memory.
fn check_low_memory(args: &Args, settings: &Settings) -> anyhow::Result<()> {
    let why = if settings.budget.is_about_time() {
        "times are those of a model in memory; give a cap on size or on the drop instead"
    } else if settings.budget.max_memory.is_some() {
        "what an artifact takes is measured with it in memory; give --max-size instead"
    } else if settings.may_prune {
        "pruning holds what it saw of the model; leave prune out of --allow"
    } else if settings.distiller.is_some() {
        "what learns is in memory; leave distill out of --allow"
    } else if matches!(args.rounding, Rounding::Compensated) {
        "what rounding compensates is in memory; --rounding weighed needs none of it"
    } else {
        return Ok(());
    };
    Err(bad_input(format!("--low-memory: {why}")))
}

/// The drop that either flag allows.
fn max_drop(args: &Args) -> anyhow::Result<Option<f64>> {
    match args.accuracy_target {
        // To the digits that people write.
        Some(kept) if (0.0..100.0).contains(&kept) => {
            Ok(Some(((100.0 - kept) * 1e9).round() / 1e9))
        }
        Some(_) => Err(bad_input("--accuracy-target is a percentage below 100, such as 99")),
        None => Ok(args.max_drop.as_deref().map(parse_percent).transpose()?),
    }
}

/// How layers are to see their inputs.
fn inputs(args: &Args) -> anyhow::Result<inputs::Choice> {
    match (args.activations, args.ranges) {
        (Activations::Static, ranges) => Ok(inputs::Choice::Static(ranges.map(Into::into))),
        (_, Some(_)) => Err(bad_input("--ranges are of static scales: add --activations static")),
        (Activations::Dynamic, None) => Ok(inputs::Choice::Dynamic),
        (Activations::Float, None) => Ok(inputs::Choice::Float),
    }
}

/// The time per token that either flag asks for.
fn itl_ms(args: &Args) -> anyhow::Result<Option<f64>> {
    let by_time = args.itl.as_deref().map(parse_ms).transpose()?;
    Ok(by_time.or(args.tokens_per_s.map(|rate| 1e3 / rate)))
}

/// This program and how it was called.
pub fn identity() -> Identity {
    Identity {
        build: format!("sterna {}", env!("CARGO_PKG_VERSION")),
        binary: binary_hash(),
        timestamp: timestamp_utc(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
    }
}

/// blake3 of this program's file, where the system lets it be read.
fn binary_hash() -> Option<String> {
    Some(Artefact::of(&std::env::current_exe().ok()?).ok()?.blake3)
}

/// The three levels differ in how much is measured, never in what counts as kept.
pub fn apply_level(settings: &mut Settings, level: Level) {
    match level {
        Level::Development => {
            settings.text.n_calibration = 24;
            settings.text.n_evaluation = 48;
            settings.text.quick_tokens = 1024;
            settings.max_checks = 12;
            settings.effort = Effort { max_rounds: 6, ..settings.effort };
        }
        Level::Production => {
            settings.text.n_calibration = 512;
            settings.text.n_evaluation = 1024;
            settings.text.quick_tokens = 32_768;
            settings.max_checks = 200;
        }
        Level::Balanced => {}
    }
}
