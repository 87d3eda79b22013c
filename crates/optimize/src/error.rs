//! What can go wrong in an optimization, as sentences a user can act on.

use sterna_formats::FormatError;
use sterna_measure::MeasureError;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum OptimizeError {
    /// Something the user gave cannot be used; the sentence says what to give instead.
    #[error("{0}")]
    Input(String),
    /// A model file.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A measurement.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// The world.
    #[error("{what}: {why}")]
    Failed {
        /// What was being done, e.g. `writing report.json`.
        what: String,
        /// The cause in its own words.
        why: String,
    },
    /// The user stopped it.
    #[error("stopped; no artifact was written, and --resume goes on from the measurements made")]
    Cancelled,
}

impl OptimizeError {
    /// A failure of the world, with what was being done.
    pub fn failed(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Failed { what: what.into(), why: why.to_string() }
    }
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, OptimizeError>;
