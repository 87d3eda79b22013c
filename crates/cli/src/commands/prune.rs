//! `sterna prune`: a physically smaller model, and what it is worth.

use super::optimize::identity;
use crate::bars::Bars;
use crate::compute::ComputeArgs;
use crate::interrupt;
use crate::show::{self, bad_input};
use std::path::PathBuf;
use std::process::ExitCode;
use sterna_formats::{AtomicFile, Metadata, OpenOptions};
use sterna_measure::clock::RealClock;
use sterna_measure::report::Artefact;
use sterna_measure::{Level, RunReport};
use sterna_model::{Model, config, write_new_gguf};
use sterna_optimize::calibration::{self, TextSettings};
use sterna_optimize::evidence::times::Times;
use sterna_optimize::pipeline::{self, Effort};
use sterna_optimize::progress::Watch;
use sterna_optimize::prune::report::{self, Made, Means};
use sterna_optimize::prune::{self, Amount, Cut, Seen, Subject, Wanted};
use sterna_optimize::runner::RuntimeEngine;
use sterna_train::{Config, Session};

/// Take hidden channels, heads or layers out of a model, so that its matrices are smaller, and
/// measure what that is worth: time saved beside arithmetic saved, and quality lost.
///
/// What adds least to the residual stream on calibration text goes, and what stays is fitted to
/// make up for it. --recover trains the result to answer as the original did.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  sterna prune model.gguf --calib text.txt --channels 20% -o pruned
  sterna prune model.gguf --calib a.txt --eval b.txt --layers 2 --kv-heads 25% --recover 300")]
pub struct Args {
    /// The model: GGUF, Hugging Face directory, safetensors or llama2.c .bin.
    model: PathBuf,
    /// Text that decides what leaves: documents separated by <|endoftext|> or blank lines.
    #[arg(long, value_name = "FILE")]
    calib: PathBuf,
    /// Text to judge by [default: documents of --calib that nothing is decided by].
    #[arg(long, value_name = "FILE")]
    eval: Option<PathBuf>,
    /// Hidden channels of every MLP that leave, e.g. 20% or 64.
    #[arg(long, value_name = "AMOUNT", default_value = "0")]
    channels: Amount,
    /// Key and value heads of every layer that leave, with the query heads that share them.
    #[arg(long, visible_alias = "kv-groups", value_name = "AMOUNT", default_value = "0")]
    kv_heads: Amount,
    /// Layers that leave.
    #[arg(long, value_name = "AMOUNT", default_value = "0")]
    layers: Amount,
    /// Do not fit what stays to make up for what leaves.
    #[arg(long)]
    no_fit: bool,
    /// Then train for so many steps on --calib to answer as the original does; needs --eval.
    #[arg(long, value_name = "STEPS", requires = "eval")]
    recover: Option<usize>,
    /// Lay one key over the config of that training; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", requires = "recover")]
    settings: Vec<String>,
    /// The folder to write into: pruned.gguf, prune.json, and recovery/ with its model.gguf.
    #[arg(long, short = 'o', default_value = "sterna-pruned", value_name = "FOLDER")]
    out: PathBuf,
    /// Seed of the choice of text.
    #[arg(long, default_value_t = 0x5eed)]
    seed: u64,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// The smaller model's file.
const PRUNED: &str = "pruned.gguf";

/// Runs the command.
///
/// # Errors
/// When an input cannot be used, more is to leave than there is, or the user stops it.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let wanted = wanted(&args)?;
    let tokenizer = args.compute.tokenizer.clone();
    let model = Model::open_with(&args.model, &OpenOptions { tokenizer })?;
    pipeline::refuse_encoders(&model)?;
    refuse_int8(&model)?;
    let training = args.recover.map(|steps| training(&args, steps)).transpose()?;
    let text = TextSettings {
        evaluation: args.eval.clone(),
        seed: args.seed,
        ..TextSettings::of(args.calib.clone())
    };
    let mut settings = args.compute.settings(model.config.context_len)?;
    settings.context_len = text.context_len(settings.context_len);
    let texts = calibration::prepare(&text, &model, settings.context_len)?;
    let engine = RuntimeEngine::new(settings)?.stopped_by(&interrupt::STOP);
    interrupt::listen()?;
    std::fs::create_dir_all(&args.out)?;
    let (bars, clock, identity) = (Bars::new(), RealClock::new(), identity());
    let watch = Watch { progress: &bars, stop: &interrupt::STOP };
    let subject = Subject {
        arch: model.arch,
        config: &model.config,
        graph: &model.graph,
        weights: &model,
        engine: &engine,
        passages: &texts.observed,
        quick: &texts.quick,
        folder: &args.out,
        watch,
    };
    let mut cut = watch.outcome(prune::cut(&subject, &wanted, &mut Seen::default()))?;
    let pruned = cut.apply(&subject)?;
    cut.notes.extend(pruned.widened());
    cut.notes.extend(texts.notes.iter().cloned());
    let path = args.out.join(PRUNED);
    let metadata = metadata(&model, pruned.config());
    write_new_gguf(&path, pruned.graph(), &metadata, &pruned)?;
    drop(pruned);
    let pruned = Model::open(&path)?;
    let recovered = match training {
        Some(training) => Some(Model::open(&recover(training)?)?),
        None => None,
    };
    let mut made = vec![Made { name: "pruned", model: &pruned }];
    made.extend(recovered.as_ref().map(|model| Made { name: "recovered", model }));
    let means = Means {
        engine: &engine,
        folder: &args.out,
        held_out: &texts.heldout,
        effort: Effort { n_requests: 0, ..Effort::default() },
        clock: &clock,
        watch,
        identity: &identity,
        seed: args.seed,
    };
    let (mut run, times) = watch.outcome(report::measure(&model, &made, &means))?;
    bars.finish();
    for one in &made {
        run.artefacts.push(Artefact::of(one.model.path())?);
    }
    tell(&args, &run, &cut, &times)?;
    Ok(show::graded(&run))
}

/// Writes and prints the report.
fn tell(args: &Args, run: &RunReport, cut: &Cut, times: &Times) -> anyhow::Result<()> {
    let json = report::to_json(run, cut, times)?;
    let whole = serde_json::to_string_pretty(&json)? + "\n";
    AtomicFile::write_whole(&args.out.join("prune.json"), whole.as_bytes())?;
    if args.json {
        show::json(&json)?;
    } else {
        cut.notes.iter().for_each(|note| eprintln!("note: {note}"));
        print!("{}", report::text(run));
        for artefact in &run.artefacts {
            println!("{}: {}", artefact.path, show::bytes(artefact.bytes));
        }
    }
    Ok(())
}

fn wanted(args: &Args) -> anyhow::Result<Wanted> {
    let wanted = Wanted {
        channels: args.channels,
        kv_heads: args.kv_heads,
        layers: args.layers,
        makes_up: !args.no_fit,
    };
    if [wanted.channels, wanted.kv_heads, wanted.layers].iter().all(|amount| amount.is_none()) {
        return Err(bad_input(
            "nothing is to leave: say how much with --channels 20%, --kv-heads 1 or --layers 2",
        ));
    }
    Ok(wanted)
}

/// What the file says of itself: the model's words, with smaller numbers.
fn metadata(model: &Model, config: &config::Config) -> Metadata {
    let mut metadata = model.metadata.clone();
    for (key, value) in model.arch.metadata(config).iter() {
        metadata.set(key, value.clone());
    }
    metadata
}

/// How a model is trained that is nearly what it should be: small steps, and the teacher's words
/// alone.
const GENTLY: [&str; 4] = [
    "schedule.learning_rate=0.00005",
    "schedule.weight_decay=0.0",
    "teacher.weight=1.0",
    "teacher.temperature=1.0",
];

/// How the pruned model is to be trained, with the original as its teacher.
fn training(args: &Args, steps: usize) -> anyhow::Result<Config> {
    let texts = serde_json::json!([args.calib.display().to_string()]);
    let mut settings = vec![
        format!("model.init={}", args.out.join(PRUNED).display()),
        format!("teacher.model={}", args.model.display()),
        format!("data.text={texts}"),
        format!("schedule.steps={steps}"),
        format!("run.seed={}", args.seed),
        format!("run.out={}", args.out.join("recovery").display()),
    ];
    settings.extend(GENTLY.map(str::to_owned));
    settings.extend(args.settings.iter().cloned());
    Ok(Config::read(Level::Balanced, None, &settings)?)
}

/// Trains; gives the result's file.
fn recover(training: Config) -> anyhow::Result<PathBuf> {
    let mut session = Session::open(training)?;
    let trainee = super::train::watched(&mut session)?;
    Ok(trainee.model)
}

/// Refuses a model whose layers see int8 codes only because it was quantized so.
fn refuse_int8(model: &Model) -> anyhow::Result<()> {
    let ranges = pipeline::inputs::ranges(model.arch, &model.config, &model.graph)?;
    if ranges.is_empty() {
        return Ok(());
    }
    Err(bad_input(format!(
        "{}: its layers see int8 codes, and a pruned model's would see floats; prune the model \
         that it was quantized from",
        model.path().display()
    )))
}
