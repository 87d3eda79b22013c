//! The one binary: arguments in, a command run, an exit code out.
//!
//! Exit codes: 0 done; 1 the world failed (disk full, no permission, a budget missed); 2 the input
//! is wrong (a damaged file, an unknown flag): the message says which and what to do.
#![forbid(unsafe_code)]

mod ablation;
mod activations;
mod bars;
mod commands;
mod compute;
mod curve;
mod distiller;
mod embedded;
mod embedder;
mod footprint;
mod interrupt;
mod levels;
mod probes;
mod sample;
mod scoring;
mod sequences;
mod show;
mod validation;

use clap::Parser;
use std::process::ExitCode;

/// Fits a neural model to the machine you have, proves that it still works, and runs it.
///
/// Without a command it shows all of that on a small model of its own, as `sterna demo` does.
#[derive(Parser)]
#[command(name = "sterna", version, max_term_width = 100)]
#[command(after_help = "Examples:
  sterna                                    the main job on the embedded model, about a minute
  sterna inspect model.gguf                 what is in the file
  sterna run model.gguf \"Once upon a time\"  text from a model
  sterna serve model.gguf                   an OpenAI-compatible API for many agents
  sterna quantize in.gguf out.gguf Q4_K_M   direct encoding, no search
  sterna optimize ./model-dir --calib text.txt --max-drop 1%
                                            search, build, prove; writes report.html
  sterna verify sterna-out                  does every number of that report still follow?
  sterna profile model.gguf                 where the time goes
  sterna doctor                             why is it slow on this machine?

STERNA_ISA=scalar|avx2|avx512|amx and STERNA_THREADS=N choose how to compute; results never depend
on either.")]
struct Cli {
    #[command(subcommand)]
    command: Option<commands::Command>,
}

impl Cli {
    /// The command asked for; without one, the main job as it is by default.
    fn command(self) -> commands::Command {
        let main_job = || Cli::parse_from(["sterna", "demo"]).command;
        self.command.or_else(main_job).expect("demo is a command")
    }
}

fn main() -> ExitCode {
    end_quietly_on_closed_pipes();
    match commands::run(Cli::parse().command()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(show::exit_code(&error))
        }
    }
}

/// `sterna inspect .. | head` closes our output early, which `println!` takes for a panic.
fn end_quietly_on_closed_pipes() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload_as_str().is_some_and(|text| text.contains("Broken pipe")) {
            std::process::exit(0);
        }
        usual(info);
    }));
}
