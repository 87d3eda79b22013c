//! The chores of this repository, one module each.
//!
//! In: the working tree. Out: a verdict: an exit code, and sentences with file, line and fix.
#![forbid(unsafe_code)]

mod bench;
mod budgets;
mod clients;
mod experiment;
mod faults;
mod new;
mod peers;
mod readme;
mod root;
mod test;
mod tidy;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Sterna's chores: test, tidy, peers, bench, new")]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Check what the tests need, then tidy and run every test
    Test(test::Args),
    /// Check the rules of the house that a machine can check
    Tidy,
    /// Install what Sterna races and is compared with, from PyPI (15 minutes; opt-in)
    Peers(peers::Args),
    /// Race peers on files made for it, or measure every target (minutes to hours; opt-in)
    Bench(bench::Args),
    /// Optimize models within bits per weight, beside what llama.cpp makes of them (opt-in)
    Budgets(budgets::Args),
    /// Let clients that others wrote talk to the server (downloads 1 GB of them; opt-in)
    Clients(clients::Args),
    /// Kill, starve and confuse the server for some minutes, and see that it gets over it (opt-in)
    Faults(faults::Args),
    /// Put the results of races into README.md
    ReadmeTable(readme::Args),
    /// Train every arm of a file in models/experiments with every seed, and compare (opt-in)
    Experiment(experiment::Args),
    /// Start a new encoding, architecture, pass, ...: its file and its line in the list
    New(new::Args),
}

fn main() -> ExitCode {
    let done = match Args::parse().chore {
        Chore::Test(args) => test::run(&args),
        Chore::Tidy => tidy::run(),
        Chore::Peers(args) => peers::run(&args),
        Chore::Bench(args) => bench::run(&args),
        Chore::Budgets(args) => budgets::run(&args),
        Chore::Clients(args) => clients::run(&args),
        Chore::Faults(args) => faults::run(&args),
        Chore::ReadmeTable(args) => readme::run(&args),
        Chore::Experiment(args) => experiment::run(&args),
        Chore::New(args) => new::run(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
