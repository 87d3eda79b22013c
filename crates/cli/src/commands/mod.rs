//! The commands, one file each: a `struct Args` with its help, and a `run`.

mod bench;
mod calibrate;
mod capacity;
mod convert;
mod demo;
mod distill;
mod doctor;
mod eval;
mod inspect;
mod integrate;
mod optimize;
mod profile;
mod prune;
mod quantize;
mod report;
mod run;
mod serve;
mod tokenizer;
mod train;
mod tune;
mod validate;
mod verify;

use std::process::ExitCode;

/// Every command, in the order of `--help`.
#[derive(clap::Subcommand)]
pub enum Command {
    /// The main job on the model inside this program; what `sterna` without a command runs.
    Demo(demo::Args),
    /// Show what a model file holds: architecture, tensors, encodings, metadata.
    #[command(alias = "show")]
    Inspect(inspect::Args),
    /// Convert a model to a GGUF file, keeping its numbers or rounding them to F16.
    Convert(convert::Args),
    /// Encode a model's weights directly, without a search.
    Quantize(quantize::Args),
    /// Run text through a model and write down what its weights meet: an importance matrix.
    #[command(visible_alias = "imatrix")]
    Calibrate(calibrate::Args),
    /// Generate text.
    Run(run::Args),
    /// Serve models to many agents at once: an OpenAI-compatible API, a dashboard, a playground.
    Serve(Box<serve::Args>),
    /// Score a text: perplexity, nats per token and byte, divergence from a baseline.
    Eval(eval::Args),
    /// Measure speed: prompt processing and generation, as llama-bench does.
    Bench(Box<bench::Args>),
    /// Say how many agents this machine serves in time, and what the bottleneck is.
    Capacity(Box<capacity::Args>),
    /// Show where the time goes, per op and per layer, against the roofline.
    Profile(profile::Args),
    /// Search for the best plan within a budget, build it, and prove it.
    Optimize(Box<optimize::Args>),
    /// Optimize by a profile, and grade what was measured.
    Integrate(Box<integrate::Args>),
    /// Take channels, heads or layers out of a model, and measure what that is worth.
    Prune(prune::Args),
    /// Train tokenizers.
    Tokenizer(tokenizer::Args),
    /// Train a model, from nothing or from a file; also in the numbers of an encoding (QAT).
    Train(train::Args),
    /// Train a student to answer as a teacher does.
    Distill(distill::Args),
    /// Compare a ternary model with its f32 twin, against targets.
    Validate(validate::Args),
    /// One model's own process, for `validate`.
    #[command(hide = true)]
    ValidateWorker(validate::WorkerArgs),
    /// Show the plan and the evidence an artifact carries.
    Report(report::Args),
    /// Derive every number of an optimization again, from the raw samples beside it.
    Verify(verify::Args),
    /// Measure how to cut the work on this machine, for --opt-level aggressive.
    Tune(tune::Args),
    /// Say what this machine can do, and what makes it slow.
    Doctor(doctor::Args),
}

/// Runs a command.
///
/// # Errors
/// A sentence for the user.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(args) => demo::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Quantize(args) => quantize::run(args),
        Command::Calibrate(args) => calibrate::run(args),
        Command::Run(args) => run::run(args),
        Command::Serve(args) => serve::run(*args),
        Command::Eval(args) => eval::run(args),
        Command::Bench(args) => bench::run(*args),
        Command::Capacity(args) => capacity::run(&args),
        Command::Profile(args) => profile::run(args),
        Command::Optimize(args) => optimize::run(*args),
        Command::Integrate(args) => integrate::run(*args),
        Command::Prune(args) => prune::run(args),
        Command::Tokenizer(args) => tokenizer::run(args),
        Command::Train(args) => train::run(args),
        Command::Distill(args) => distill::run(args),
        Command::Validate(args) => validate::run(args),
        Command::ValidateWorker(args) => validate::run_worker(args),
        Command::Report(args) => report::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Tune(args) => tune::run(args),
        Command::Doctor(args) => doctor::run(args),
    }
}
