//! The folder of the cache: which programs there are, who may write one, and which make room.
//!
//! Beside each `x.program` lies `x.lock`. Whoever packs holds a lock on it, which the system ends
//! with the process; and its time of change says when the program was last used, because reading
//! through a mapping leaves no trace in the program itself.

use super::file;
use crate::RuntimeError;
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use sterna_formats::FormatError;

/// How the files end.
pub const EXTENSION: &str = "program";

/// The right to write one entry, until dropped.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until no other process writes the entry at `path`. Where the file system has no locks
    /// it goes on without: two that pack the same entry write the same bytes.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn wait(path: &Path) -> Result<Self, RuntimeError> {
        loop {
            let file = open_lock(path)?;
            match file.lock() {
                Ok(()) if is_at(&file, &lock_path(path)) => return Ok(Self { _file: file }),
                // Who made room removed this entry while we waited.
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    return Ok(Self { _file: file });
                }
                Err(error) => return Err(FormatError::io(path, "locked", &error).into()),
            }
        }
    }

    /// The right to remove an entry, if nobody writes it now.
    fn try_now(path: &Path) -> Option<Self> {
        let file = open_lock(path).ok()?;
        match file.try_lock() {
            Ok(()) => Some(Self { _file: file }),
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => None,
        }
    }
}

/// Whether a path still names this file.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let id = |facts: std::fs::Metadata| (facts.dev(), facts.ino());
        let (here, there) = (file.metadata().map(id), path.metadata().map(id));
        here.is_ok() && here.ok() == there.ok()
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

fn lock_path(path: &Path) -> PathBuf {
    path.with_extension("lock")
}

fn open_lock(path: &Path) -> Result<File, RuntimeError> {
    let lock = lock_path(path);
    let file = File::options().write(true).create(true).truncate(false).open(&lock);
    Ok(file.map_err(|e| FormatError::io(&lock, "opened", &e))?)
}

/// Says that the entry is used now. Where the folder cannot be written, nothing is removed either.
pub fn mark_used(path: &Path) {
    if let Ok(mut lock) = open_lock(path) {
        let _ = lock.write_all(b".");
    }
}

/// One program of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its file.
    pub path: PathBuf,
    /// The file's length.
    pub bytes: u64,
    /// When it was last used.
    pub used: SystemTime,
}

/// The programs of a folder, the least recently used first.
pub fn entries(folder: &Path) -> Vec<Entry> {
    let Ok(found) = std::fs::read_dir(folder) else { return Vec::new() };
    let entry = |path: PathBuf| {
        let facts = path.metadata().ok()?;
        let lock = lock_path(&path).metadata().ok();
        let used = lock.and_then(|lock| lock.modified().ok()).or(facts.modified().ok())?;
        (path.extension()? == EXTENSION).then_some(Entry { path, bytes: facts.len(), used })
    };
    let paths = found.filter_map(|item| Some(item.ok()?.path()));
    let mut entries: Vec<Entry> = paths.filter_map(entry).collect();
    entries.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
    entries
}

/// Removes least recently used entries until one of `bytes` at `path` fits under the limit. What
/// was at `path` is about to be replaced and does not count. Processes that have a removed program
/// mapped keep it.
///
/// # Errors
/// When it would not fit even alone.
pub fn make_room(folder: &Path, path: &Path, bytes: u64, limit: u64) -> Result<(), RuntimeError> {
    if bytes > limit {
        let problem = format!("needs {bytes} bytes and the cache may have {limit}");
        return Err(FormatError::new(path, problem, "raise --program-cache-size").into());
    }
    let others: Vec<Entry> = entries(folder).into_iter().filter(|e| e.path != path).collect();
    let mut total: u64 = bytes + others.iter().map(|e| e.bytes).sum::<u64>();
    for entry in others {
        if total <= limit {
            break;
        }
        if remove(&entry.path) {
            total -= entry.bytes;
        }
    }
    Ok(())
}

/// Removes an entry that nobody writes; whether it is gone.
pub fn remove(path: &Path) -> bool {
    let Some(_lock) = Lock::try_now(path) else { return false };
    let is_gone = std::fs::remove_file(path).is_ok();
    let _ = std::fs::remove_file(lock_path(path));
    is_gone
}

/// Removes what killed packers left: temporary files of entries that nobody writes. The caller
/// holds the lock of `mine`.
pub fn sweep(folder: &Path, mine: &Path) {
    let Ok(found) = std::fs::read_dir(folder) else { return };
    for path in found.filter_map(|item| Some(item.ok()?.path())) {
        let Some(entry) = entry_of_temporary(&path) else { continue };
        let lock = if entry == mine { None } else { Lock::try_now(&entry) };
        if entry == mine || lock.is_some() {
            // One that stays costs space only.
            let _ = std::fs::remove_file(&path);
        }
        if lock.is_some() && !entry.exists() {
            let _ = std::fs::remove_file(lock_path(&entry));
        }
    }
}

/// The entry that a temporary file `.x.program.PID.tmp` was to become.
fn entry_of_temporary(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_prefix('.')?.strip_suffix(".tmp")?;
    let (entry, pid) = name.rsplit_once('.')?;
    let is_ours = pid.parse::<u32>().is_ok() && Path::new(entry).extension()? == EXTENSION;
    is_ours.then(|| path.with_file_name(entry))
}

/// What reading all of an entry found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The entry.
    pub entry: Entry,
    /// What is wrong with it; `None` where every sum is right.
    pub problem: Option<String>,
}

/// Reads every program of a folder in full, and removes the damaged ones.
pub fn verify_all(folder: &Path) -> Vec<Checked> {
    let check = |entry: Entry| {
        let problem = file::verify(&entry.path).err();
        if problem.is_some() {
            remove(&entry.path);
        }
        Checked { entry, problem }
    };
    entries(folder).into_iter().map(check).collect()
}
