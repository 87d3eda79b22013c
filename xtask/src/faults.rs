//! `cargo xtask faults`: the tests of `crates/cli/tests/cli/faults/` that take minutes: nonsense
//! sent for minutes, ten thousand idle connections, a server killed again and again under load.
//!
//! In: the working tree. Out: what each found, and whether all passed.

use crate::root;
use anyhow::{Context, Result};

/// Options of `cargo xtask faults`.
#[derive(clap::Args)]
pub struct Args {
    /// How long nonsense is sent
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Of the generator of nonsense; the same seed sends the same
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs them, one after another.
///
/// # Errors
/// When cargo cannot be started.
pub fn run(args: &Args) -> Result<bool> {
    let mut test = root::cargo();
    test.args(["test", "--package", "sterna-cli", "--test", "cli", "--", "--ignored"]);
    test.args(["faults::long", "--nocapture", "--test-threads", "1"]);
    test.env("STERNA_FAULTS_SECONDS", args.seconds.to_string());
    test.env("STERNA_FAULTS_SEED", args.seed.to_string());
    Ok(test.status().context("cannot start cargo test")?.success())
}
