//! `sterna {{kebab}}`: what it is for, in a sentence.

use std::process::ExitCode;

/// What it does, as `--help` says it.
#[derive(clap::Args)]
pub struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When its input is wrong, or the world fails it.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    println!("{}", if args.json { "{}" } else { "nothing to show" });
    Ok(ExitCode::SUCCESS)
}
