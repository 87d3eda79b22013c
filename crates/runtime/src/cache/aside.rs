//! Packed weights in a file whose name goes once it is packed, for programs that are to take little
//! memory: a step's weights are in memory while it reads them, and the file goes with the program.

use super::{Cache, Image, file, store};
use crate::RuntimeError;
use crate::pack::Packing;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use sterna_formats::{FormatError, MappedFile, atomic};

/// Files that this process made so far, which tells their names apart while they have them.
static N_MADE: AtomicU64 = AtomicU64::new(0);

/// Packs into such a file in a folder.
///
/// # Errors
/// When a weight is not what was declared, or the disk has no room.
pub fn pack(folder: &Path, job: &Packing<'_>) -> Result<Image, RuntimeError> {
    std::fs::create_dir_all(folder).map_err(|e| FormatError::io(folder, "created", &e))?;
    // Those of processes that were killed while they packed.
    atomic::remove_abandoned(folder);
    let n = N_MADE.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("weights-{n}"));
    // It is never found again, so nothing has to be told apart by its key.
    let written = store(&Cache::new(folder, &[], &[]), &path, job)?;
    let map = MappedFile::open(written.temporary())?;
    // What is mapped stays, and its name is gone before anything can go wrong.
    drop(written);
    Ok(Image::Passing(map))
}

impl Image {
    /// Whether its lines are to be in memory only while they are read.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Passing(_))
    }

    /// Takes lines out of memory that are not needed for a while, where they are to pass.
    pub fn let_go(&self, lines: std::ops::Range<usize>) {
        if let Self::Passing(map) = self {
            map.drop_pages(file::at(lines.start)..file::at(lines.end));
        }
    }
}
