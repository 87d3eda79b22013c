//! `sterna bench`: speed, in llama-bench's terms ([`speed`]); beside other engines' ([`against`]);
//! with and without each optimization ([`ablate`]); of starting ([`start`]), training ([`train`])
//! and single kernels ([`kernels`]); of servers under load ([`serve`]).

mod ablate;
mod against;
mod ceiling;
mod cold;
mod kernels;
pub(super) mod serve;
mod speed;
mod start;
mod train;

use std::process::ExitCode;

/// Measure prompt processing (-p) and generation (-n), with random tokens, as llama-bench does.
///
/// Beside each rate stands its share of this machine's ceiling, which is probed right before each
/// run: generation against read bandwidth (weights and cached keys and values per token), prompt
/// processing against the int8 (or f32) peak, many sequences against whichever is nearer. The
/// share is the median over the runs.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Examples:
  sterna bench model.gguf -p 512 -n 128
  sterna bench model.gguf -p 0 -n 64 -d 0,4096 --kv-cache-dtype f32
  sterna bench model.gguf -n 64 --sequences 1,4,8,16
  sterna bench start model.gguf
  sterna bench kernels --encodings Q4_0,Q4_K --rows 1,16,512
  sterna bench --ablate model.gguf          what each optimization brings, and costs
  sterna bench model.gguf --against llama.cpp,openvino --html race.html
  sterna bench train --preset llama-4m --set schedule.batch=8
  sterna bench serve --url http://127.0.0.1:8000 --agents 16")]
pub struct Args {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    speed: speed::SpeedArgs,
}

/// What else can be measured.
#[derive(clap::Subcommand)]
enum Other {
    /// Measure the kernels of linear layers, each against its ceiling.
    Kernels(kernels::Args),
    /// Measure servers under the load of many agents: tokens/s, time to first token, goodput.
    Serve(Box<serve::Args>),
    /// Measure fresh processes: time to first token, cold and warm, and memory of two at once.
    Start(start::Args),
    /// Measure training: tokens/s, CPU time and peak memory, with and without checkpointing.
    Train(train::Args),
}

/// Runs the command.
///
/// # Errors
/// When a model cannot be run.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.other {
        Some(Other::Kernels(args)) => kernels::run(&args),
        Some(Other::Serve(args)) => serve::run(&args),
        Some(Other::Start(args)) => start::run(args),
        Some(Other::Train(args)) => train::run(args),
        None => speed::run(&args.speed),
    }
}
