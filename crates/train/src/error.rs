//! What can go wrong in training.

use crate::teacher::TeacherError;
use sterna_formats::FormatError;

/// Why training did not start or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The configuration, the data or the model is wrong: the message says what and what to do.
    #[error("{0}")]
    Input(String),
    /// A file is damaged or cannot be read or written.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The teacher is wrong for this student, or cannot be run.
    #[error(transparent)]
    Teacher(#[from] TeacherError),
    /// Numbers stopped being numbers.
    #[error("{0}")]
    NotFinite(String),
}
