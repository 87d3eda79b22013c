//! The containers: how tensors lie in files.
//!
//! A container is one file (or folder) that implements [`Container`], plus one line in
//! [`CONTAINERS`]. [`open`] tells them apart by content. What strangers hand over instead of a
//! model (a git-lfs pointer, an HTML page, a pickle) is named by `refuse`.

pub mod gguf;
pub mod huggingface;
mod layout;
pub mod llama2c;
mod refuse;
pub mod safetensors;

use crate::{Checkpoint, FormatError, MappedFile, OpenOptions};
use std::path::Path;

/// One way to lay out a checkpoint.
pub trait Container: Sync {
    /// The name users see: `gguf`, `safetensors`, ...
    fn name(&self) -> &'static str;
    /// Whether this is the container of `source`, judged by its first bytes or its name; it may
    /// still turn out to be damaged.
    fn recognizes(&self, source: &Source) -> bool;
    /// Reads everything but the tensors' bytes.
    ///
    /// # Errors
    /// A sentence that names file, place and fix.
    fn open(&self, source: Source, options: &OpenOptions) -> Result<Checkpoint, FormatError>;
}

/// Every container, in the order they are tried.
pub const CONTAINERS: &[&dyn Container] =
    &[&huggingface::HuggingFace, &gguf::Gguf, &safetensors::Safetensors, &llama2c::Llama2c];

/// What a path leads to.
pub enum Source {
    /// A directory.
    Directory(std::path::PathBuf),
    /// A mapped file.
    File(MappedFile),
}

impl Source {
    /// The file's bytes, or none for a directory.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Source::Directory(_) => &[],
            Source::File(file) => file.bytes(),
        }
    }

    /// The path it was opened from.
    pub fn path(&self) -> &Path {
        match self {
            Source::Directory(path) => path,
            Source::File(file) => file.path(),
        }
    }

    /// Whether it is a file of that extension, ignoring case.
    pub fn has_extension(&self, extension: &str) -> bool {
        matches!(self, Source::File(_))
            && self.path().extension().is_some_and(|e| e.eq_ignore_ascii_case(extension))
    }

    /// The mapped file.
    ///
    /// # Panics
    /// For a directory: only the container that recognized one opens it.
    fn into_file(self) -> MappedFile {
        match self {
            Source::File(file) => file,
            Source::Directory(path) => panic!("{} is a directory", path.display()),
        }
    }
}

/// Opens whatever `path` is.
pub(crate) fn open(path: &Path, options: &OpenOptions) -> Result<Checkpoint, FormatError> {
    let source = if path.is_dir() {
        Source::Directory(path.to_owned())
    } else {
        Source::File(MappedFile::open(path)?)
    };
    refuse::check(&source)?;
    match CONTAINERS.iter().find(|container| container.recognizes(&source)) {
        Some(container) => container.open(source, options),
        None => Err(refuse::unrecognized(&source)),
    }
}
