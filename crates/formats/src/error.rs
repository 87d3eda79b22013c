//! What can be wrong with a file, as sentences a user can act on.

use std::path::{Path, PathBuf};

/// A file that cannot be read as it is: which, where in it, what is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}; {fix}", path.display())]
pub struct FormatError {
    /// The file.
    pub path: PathBuf,
    /// The place and what is wrong with it, e.g. `tensor blk.3.ffn_up.weight ends at byte 91 but the
    /// file has 80 bytes`.
    pub problem: String,
    /// What the user can do, e.g. `it is truncated, download it again`.
    pub fix: String,
}

impl FormatError {
    /// An error about `path`; the message reads `path: problem; fix`.
    pub fn new(path: &Path, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { path: path.to_owned(), problem: problem.into(), fix: fix.into() }
    }
}
