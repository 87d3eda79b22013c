//! What the server says while it runs, on standard error: lines for people, or JSON for programs.

use crate::show::bad_input;
use anyhow::Context;
use clap::ValueEnum;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The time, the level, and what happened.
    Text,
    /// An object per line.
    Json,
}

/// Begins to log what is at least as urgent as `level`, which may also say so for parts of the
/// program: `warn,sterna::access=info`.
///
/// # Errors
/// When `level` is not such a list.
pub fn start(format: Format, level: &str) -> anyhow::Result<()> {
    let level = if level.trim().is_empty() { "info" } else { level };
    let filter = filter(level).map_err(|error| {
        bad_input(format!(
            "--log-level (or RUST_LOG) is {level:?}: {error:#}; write off, error, warn, info, \
             debug or trace, or a list such as warn,sterna::access=info"
        ))
    })?;
    let lines = fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry();
    match format {
        Format::Text => registry.with(lines.with_target(false).with_filter(filter)).try_init()?,
        Format::Json => {
            registry.with(lines.json().flatten_event(true).with_filter(filter)).try_init()?;
            // A panic is a line of JSON too.
            std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a thread panicked")));
        }
    }
    Ok(())
}

/// The list that `level` is. A word alone must be a level: taken as a part of the program, as
/// [`Targets`] would, a misspelt one would silence everything.
fn filter(level: &str) -> anyhow::Result<Targets> {
    for word in level.split(',').map(str::trim).filter(|word| !word.contains('=')) {
        word.parse::<LevelFilter>().with_context(|| format!("{word:?} is no level"))?;
    }
    Ok(level.parse()?)
}
