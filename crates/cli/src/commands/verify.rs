//! `sterna verify`: do the numbers of a bundle follow from its samples?

use crate::bars::Bars;
use crate::compute::ComputeArgs;
use crate::interrupt;
use crate::show::{self, bad_input};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use sterna_measure::clock::RealClock;
use sterna_optimize::evidence::rerun::{Again, rerun};
use sterna_optimize::evidence::verify::Bundle;
use sterna_optimize::evidence::{Outcome, Verification, verify};
use sterna_optimize::progress::Watch;
use sterna_optimize::runner::RuntimeEngine;

/// Derive every number of an optimization again: that no byte of the bundle was changed, that the
/// report follows from the raw samples beside it, and that artifact, plan and report are of one
/// piece. With --rerun, run the models again: what they say must come out the same, bit for bit.
///
/// The exit code is 1 where a check fails.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  sterna verify sterna-out
  sterna verify sterna-out --rerun --baseline model.gguf
  sterna verify sterna-out --rerun --speed    on the machine it was made on, with nothing beside")]
pub struct Args {
    /// The folder that `sterna optimize` wrote, or the artifact in it.
    bundle: PathBuf,
    /// Run the baseline, the artifact and the uniform encodings again.
    #[arg(long)]
    rerun: bool,
    /// The model that was optimized [default: where it was then].
    #[arg(long, value_name = "MODEL", requires = "rerun")]
    baseline: Option<PathBuf>,
    /// Time them again too: the intervals must meet.
    #[arg(long, requires = "rerun")]
    speed: bool,
    /// Print the checks as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Runs the command.
///
/// # Errors
/// When there is no bundle, a model cannot be run, or the user stops it.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let folder = folder(&args.bundle)?;
    let (mut found, bundle) = verify(folder)?;
    named(&args.bundle, bundle.as_ref())?;
    // What does not follow from its own samples is not worth running.
    if let (true, true, Some(bundle)) = (args.rerun, found.holds(), &bundle) {
        again(&args, bundle, &mut found)?;
    }
    let holds = found.holds();
    if args.json {
        show::json(&serde_json::json!({ "holds": holds, "checks": found.checks }))?;
    } else {
        print(&found);
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The bundle's folder, of an artifact too.
fn folder(path: &Path) -> anyhow::Result<&Path> {
    if path.is_dir() {
        return Ok(path);
    }
    if !path.exists() {
        return Err(bad_input(format!(
            "{}: there is no such folder or file; give what `sterna optimize --out` was given",
            path.display()
        )));
    }
    Ok(path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new(".")))
}

/// An artifact that was named must be the one that the bundle is about.
fn named(path: &Path, bundle: Option<&Bundle>) -> anyhow::Result<()> {
    let Some((bundle, name)) = bundle.zip(path.file_name().filter(|_| !path.is_dir())) else {
        return Ok(());
    };
    if bundle.manifest.artifact.as_str() == name {
        return Ok(());
    }
    let (path, own) = (path.display(), &bundle.manifest.artifact);
    Err(bad_input(format!("{path}: the bundle beside it is about {own}; give the folder, or that")))
}

fn again(args: &Args, bundle: &Bundle, found: &mut Verification) -> anyhow::Result<()> {
    interrupt::listen()?;
    let model = &bundle.artifact.model;
    let mut settings = args.compute.settings(model.config.context_len)?;
    let passages = bundle.evidence.text.iter().map(|passage| passage.tokens.len());
    let questions = bundle.evidence.tasks.iter().flat_map(|task| &task.questions);
    let choices = questions.flat_map(|question| &question.choices);
    let longest = passages.chain(choices.map(|choice| choice.tokens.len())).max();
    settings.context_len = settings.context_len.min(longest.unwrap_or(0) + 8);
    let engine = RuntimeEngine::new(settings)?.stopped_by(&interrupt::STOP);
    let bars = Bars::new();
    let clock = RealClock::new();
    let outcome = rerun(
        bundle,
        &Again {
            baseline: args.baseline.clone(),
            speed: args.speed,
            engine: &engine,
            clock: &clock,
            watch: Watch { progress: &bars, stop: &interrupt::STOP },
        },
        found,
    );
    bars.finish();
    Ok(outcome?)
}

fn print(found: &Verification) {
    let mut table = show::table(&["outcome", "of", "in words"]);
    for check in &found.checks {
        let word = match check.outcome {
            Outcome::Holds => "ok",
            Outcome::Fails => "FAILS",
            Outcome::NotChecked => "not checked",
        };
        table.add_row([word, &check.what, &check.words]);
    }
    println!("{table}");
    let count = |outcome| found.checks.iter().filter(|check| check.outcome == outcome).count();
    let (n_holds, n_fails) = (count(Outcome::Holds), count(Outcome::Fails));
    let n_left = count(Outcome::NotChecked);
    match n_fails {
        0 => println!("verified: {n_holds} checks hold, {n_left} cannot be made from the bundle"),
        n => println!("NOT verified: {n} checks fail, {n_holds} hold"),
    }
}
