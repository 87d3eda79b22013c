//! `sterna train`: a model from text, its checkpoints and its curve.

use crate::{curve, interrupt, show};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::process::ExitCode;
use sterna_measure::clock::RealClock;
use sterna_measure::level::Level;
use sterna_train::distill::Tutor;
use sterna_train::session::Trainee;
use sterna_train::trainer::{End, Event, Point};
use sterna_train::{Config, Session, TrainError};

/// Train a model on text: from random weights (a preset or a shape) or from a model file (--init),
/// in full precision or in the numbers of an encoding (--qat), alone or from a --teacher.
///
/// The result is OUT/model.gguf; OUT also keeps the config, the loss curve and the last two
/// checkpoints. The same command goes on from the last checkpoint of OUT. Ctrl-C saves first.
///
/// A config has the sections [model], [data], [schedule], [quantize], [teacher] and [run]; `--set`
/// lays any key over it. `sterna train --print-config` shows every key with its value.
#[derive(clap::Args)]
#[group(skip)]
#[command(after_help = "Examples:
  sterna train small.toml -o run1
  sterna train --preset llama-4m --text book.txt --set data.tokenizer=tokenizer.json -o run1
  sterna train small.toml --init run1/model.gguf --qat TQ2_0 --steps 500 -o ternary")]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Folder of the result (run.out).
    #[arg(short, long)]
    out: Option<PathBuf>,
    /// Print the config with every default, and stop.
    #[arg(long)]
    print_config: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// What a config is made from: defaults of a level, a file over them, flags over it.
#[derive(clap::Args)]
pub struct ConfigArgs {
    /// The config (TOML); without it, flags and --set say everything.
    config: Option<PathBuf>,
    /// Defaults to start from: development, balanced or production (their synonyms work too).
    #[arg(long, default_value = "balanced")]
    level: Level,
    /// A named shape (model.preset).
    #[arg(long)]
    preset: Option<String>,
    /// A model to start from (model.init).
    #[arg(long, value_name = "MODEL")]
    init: Option<PathBuf>,
    /// Train in the numbers of this encoding (quantize.encoding), e.g. Q4_0 or TQ2_0.
    #[arg(long, value_name = "TYPE")]
    qat: Option<String>,
    /// Text to train on (data.text); may be repeated.
    #[arg(long, value_name = "FILE")]
    text: Vec<PathBuf>,
    /// Optimizer steps (schedule.steps).
    #[arg(long)]
    steps: Option<usize>,
    /// Seed of weights and data order (run.seed).
    #[arg(long)]
    seed: Option<u64>,
    /// CPU threads (run.threads).
    #[arg(short, long)]
    threads: Option<usize>,
    /// Lay one key over the config; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    settings: Vec<String>,
}

impl ConfigArgs {
    /// The config, with `settings` between its file and the flags.
    ///
    /// # Errors
    /// When a key or a value is wrong.
    pub fn read(&self, settings: &[String]) -> anyhow::Result<Config> {
        let settings = [settings, &self.settings()].concat();
        Ok(Config::read(self.level, self.config.as_deref(), &settings)?)
    }

    /// Every flag as the key it stands for, and `--set` over them.
    fn settings(&self) -> Vec<String> {
        let mut settings = Vec::new();
        settings.extend(self.init.iter().map(|path| format!("model.init={}", path.display())));
        settings.extend(self.preset.iter().map(|name| format!("model.preset={name}")));
        settings.extend(self.qat.iter().map(|name| format!("quantize.encoding={name}")));
        if !self.text.is_empty() {
            // A JSON list of strings is a TOML one too; names may have commas.
            let texts: Vec<String> = self.text.iter().map(|p| p.display().to_string()).collect();
            settings.push(format!("data.text={}", serde_json::json!(texts)));
        }
        settings.extend(self.steps.map(|n| format!("schedule.steps={n}")));
        settings.extend(self.seed.map(|n| format!("run.seed={n}")));
        settings.extend(self.threads.map(|n| format!("run.threads={n}")));
        settings.extend(self.settings.iter().cloned());
        settings
    }
}

/// Runs the command.
///
/// # Errors
/// When the config or the data is wrong, or numbers stop being finite.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    run_with(&args, &[])
}

/// Runs the command with settings between the config and the flags.
///
/// # Errors
/// As [`run`].
pub fn run_with(args: &Args, settings: &[String]) -> anyhow::Result<ExitCode> {
    let mut settings = settings.to_vec();
    settings.extend(args.out.iter().map(|path| format!("run.out={}", path.display())));
    let config = args.config.read(&settings)?;
    if args.print_config {
        print!("{}", config.to_toml());
        return Ok(ExitCode::SUCCESS);
    }
    let mut session = Session::open(config)?;
    interrupt::listen()?;
    let trainee = watched(&mut session)?;
    let outcome = &trainee.outcome;
    let asked = session.tutor().map(Tutor::statistics);
    if args.json {
        show::json(&serde_json::json!({
            "model": trainee.model,
            "bytes": trainee.model_bytes,
            "end": outcome.end,
            "steps": outcome.steps,
            "held_out_nats_per_token": outcome.held_out,
            "held_out_tokens": outcome.held_out_tokens,
            "parameters": session.n_parameters(),
            "training_tokens": session.corpus.train.len(),
            "teacher_windows_computed": asked.map(|a| a.n_misses),
            "teacher_windows_cached": asked.map(|a| a.n_hits),
        }))?;
    } else {
        println!(
            "{}: {}, {} parameters; held-out loss {:.4} nats/token over {} tokens",
            trainee.model.display(),
            show::bytes(trainee.model_bytes),
            session.n_parameters(),
            outcome.held_out,
            outcome.held_out_tokens,
        );
    }
    if outcome.end == End::Interrupted {
        eprintln!("stopped at step {}; the same command goes on from there", outcome.steps);
        return Ok(ExitCode::from(130));
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a session behind a bar, until Ctrl-C.
///
/// # Errors
/// As [`Session::run`].
pub fn watched(session: &mut Session) -> Result<Trainee, TrainError> {
    let (bar, mut losses) = (bar(session), Vec::new());
    let trainee = session.run(&RealClock::new(), &mut |event| {
        tell(&bar, &mut losses, &event);
        !interrupt::stopped()
    })?;
    bar.finish_and_clear();
    Ok(trainee)
}

fn bar(session: &Session) -> ProgressBar {
    let bar = ProgressBar::new(session.config.schedule.steps as u64);
    let style = "{bar:24} step {pos}/{len} {msg} {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a constant template"));
    bar
}

/// Shows an event; `losses` are those of this start, for the curve beside the bar.
fn tell(bar: &ProgressBar, losses: &mut Vec<f64>, event: &Event<'_>) {
    match event {
        Event::Note(note) => say(bar, &format!("note: {note}")),
        Event::Resumed(step) => {
            say(bar, &format!("going on from step {step}"));
            bar.set_position(*step as u64);
            bar.reset_eta();
        }
        Event::Step(point) => {
            bar.set_position(point.step as u64);
            losses.push(point.loss);
            bar.set_message(format!("loss {} {:.3}", curve::line(losses), point.loss));
            if let Some(line) = evaluated(point) {
                say(bar, &line);
            }
        }
        Event::Saved(_) => {}
    }
}

/// A line above the bar; where no terminal shows a bar, just a line.
fn say(bar: &ProgressBar, line: &str) {
    if bar.is_hidden() {
        eprintln!("{line}");
    } else {
        bar.println(line);
    }
}

fn evaluated(point: &Point) -> Option<String> {
    let held_out = point.held_out?;
    Some(format!(
        "step {:>6}  loss {:.4}  held-out {held_out:.4}  rate {:.2e}  norm {:.2}  {:.0} s",
        point.step, point.loss, point.rate, point.norm, point.seconds
    ))
}
