//! What can be wrong with a file, as sentences a user can act on.
//!
//! In: a path, a problem, a fix. Out: one line that names all three. Names found inside files are
//! shown through [`shown`], since a hostile file may call a tensor anything, in any length.

use std::path::{Path, PathBuf};

/// A file that cannot be read as it is: which, where in it, what is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}; {fix}", path.display())]
pub struct FormatError {
    /// The file.
    pub path: PathBuf,
    /// The place and what is wrong with it, e.g. `tensor blk.3.ffn_up.weight ends at byte 91 but
    /// the file has 80 bytes`.
    pub problem: String,
    /// What the user can do, e.g. `it is truncated, download it again`.
    pub fix: String,
}

/// The fix for files whose bytes contradict themselves.
pub(crate) const DAMAGED: &str = "the file is damaged, download it again or convert it anew";

/// The fix for files that end too early.
pub(crate) const TRUNCATED: &str = "it is truncated, download it again";

impl FormatError {
    /// An error about `path`; the message reads `path: problem; fix`.
    pub fn new(path: &Path, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { path: path.to_owned(), problem: problem.into(), fix: fix.into() }
    }

    /// The system refused an operation on `path`; `doing` completes "cannot be ...".
    pub fn io(path: &Path, doing: &str, error: &std::io::Error) -> Self {
        let fix = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path",
            std::io::ErrorKind::PermissionDenied => "give this user the right to it",
            std::io::ErrorKind::StorageFull => "make room on the disk and try again",
            _ => "check the disk and the path",
        };
        Self::new(path, format!("cannot be {doing} ({error})"), fix)
    }
}

/// A number with its thousands set apart, as in `91 226 112`.
pub(crate) fn grouped(number: impl Into<u128>) -> String {
    let digits = number.into().to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// [`grouped`] for lengths and offsets.
pub(crate) fn bytes_text(n: usize) -> String {
    grouped(n as u128)
}

/// A name from a file, fit for a terminal: control characters escaped, cut after 64 characters.
pub(crate) fn shown(name: &str) -> String {
    let mut out: String = name.chars().take(64).flat_map(char::escape_debug).collect();
    if name.chars().nth(64).is_some() {
        out.push_str("...");
    }
    if out.is_empty() { "(no name)".into() } else { out }
}
