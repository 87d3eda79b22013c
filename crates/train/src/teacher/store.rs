//! The cache's folder: one file per window, each with its own checksum.
//!
//! In: a key and its numbers. Out: the numbers again, or that they are missing or damaged. Entries
//! lie in a folder per teacher. The file `usage` holds the bytes of all entries together; whoever
//! changes the folder holds a lock on it meanwhile, so that runs at the same time stay below the
//! limit together. Readers take no lock: an entry appears whole, by renaming.
//!
//! An entry: magic, the key, the number of values, the values in half precision, then the blake3
//! hash of all that.
//!
//! When there is no room, entries of other teachers go, the oldest first. This teacher's own stay:
//! an epoch asks for each once, so that dropping the least recent would always drop the next.

use super::CacheSettings;
use blake3::{Hash, Hasher};
use half::f16;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use sterna_formats::{AtomicFile, FormatError};

const MAGIC: &[u8; 8] = b"STERNAt1";
const HEADER: usize = 8 + 32 + 8;
const CHECKSUM: usize = 32;

/// Bytes of an entry of so many values.
pub fn entry_bytes(n_values: usize) -> u64 {
    (HEADER + 2 * n_values + CHECKSUM) as u64
}

/// What is kept under a key.
pub enum Found {
    /// The values.
    Whole(Vec<f16>),
    /// Nothing.
    Missing,
    /// Something else, as a sentence.
    Damaged(String),
}

/// A folder of entries, of which one teacher's are read and written.
pub struct Store {
    folder: PathBuf,
    own: PathBuf,
    max_bytes: u64,
    /// Locked while anything changes; says how many bytes all entries take.
    usage: File,
}

impl Store {
    /// Opens or makes the folder, counts what is in it, and drops what is above the limit.
    pub fn open(settings: &CacheSettings, teacher: &Hash) -> Result<Self, FormatError> {
        let folder = settings.folder.clone();
        let own = folder.join(&teacher.to_hex()[..32]);
        fs::create_dir_all(&own).map_err(|e| FormatError::io(&own, "created", &e))?;
        let path = folder.join("usage");
        let usage = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let usage = usage.map_err(|e| FormatError::io(&path, "opened", &e))?;
        let mut store = Self { folder, own, max_bytes: settings.max_bytes, usage };
        store.locked(|store| {
            store.remove_leftovers();
            let total = store.entries().iter().map(|e| e.bytes).sum();
            let total = store.drop_others(total, store.max_bytes);
            Ok((store.drop_own(total), ()))
        })?;
        Ok(store)
    }

    /// The values under a key.
    pub fn get(&self, key: &Hash, n_values: usize) -> Found {
        let path = self.path(key);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Found::Missing,
            Err(e) => {
                return Found::Damaged(format!("{}: it cannot be read ({e})", path.display()));
            }
        };
        match decode(&bytes, key, n_values) {
            Some(values) => Found::Whole(values),
            None => Found::Damaged(format!(
                "{}: this entry of the teacher's cache is damaged",
                path.display()
            )),
        }
    }

    /// Keeps values under a key, over what is there; whether there was room.
    pub fn put(&mut self, key: &Hash, values: &[f16]) -> Result<bool, FormatError> {
        let new = entry_bytes(values.len());
        if new > self.max_bytes {
            return Ok(false);
        }
        let path = self.path(key);
        self.locked(|store| {
            let old = fs::metadata(&path).map_or(0, |m| m.len());
            let others = store.read_usage().saturating_sub(old);
            let others = store.drop_others(others, store.max_bytes - new);
            if others + new > store.max_bytes {
                return Ok((others + old, false));
            }
            write(&path, key, values)?;
            Ok((others + new, true))
        })
    }

    /// Keeps nothing from now on.
    pub fn stop_writing(&mut self) {
        self.max_bytes = 0;
    }

    fn path(&self, key: &Hash) -> PathBuf {
        self.own.join(format!("{}.logits", key.to_hex()))
    }

    /// Changes the folder alone; `change` says how many bytes there are then.
    fn locked<T>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<(u64, T), FormatError>,
    ) -> Result<T, FormatError> {
        let path = self.folder.join("usage");
        self.usage.lock().map_err(|e| FormatError::io(&path, "locked", &e))?;
        let outcome = change(self).and_then(|(total, result)| {
            self.write_usage(total).map_err(|e| FormatError::io(&path, "written", &e))?;
            Ok(result)
        });
        self.usage.unlock().map_err(|e| FormatError::io(&path, "unlocked", &e))?;
        outcome
    }

    /// The bytes of all entries; counted where the file does not say.
    fn read_usage(&mut self) -> u64 {
        let mut text = String::new();
        let read = self.usage.seek(SeekFrom::Start(0));
        let read = read.and_then(|_| (&self.usage).take(64).read_to_string(&mut text));
        match (read, text.trim().parse()) {
            (Ok(_), Ok(total)) => total,
            _ => self.entries().iter().map(|e| e.bytes).sum(),
        }
    }

    fn write_usage(&mut self, total: u64) -> std::io::Result<()> {
        self.usage.seek(SeekFrom::Start(0))?;
        // One length, so that nothing of a longer number before stays behind.
        self.usage.write_all(format!("{total:020}\n").as_bytes())
    }

    /// Drops other teachers' entries, the oldest first, until `total` is at most `limit`.
    fn drop_others(&self, total: u64, limit: u64) -> u64 {
        if total <= limit {
            return total;
        }
        let others = self.entries().into_iter().filter(|e| !e.path.starts_with(&self.own));
        drop_oldest(others.collect(), total, limit)
    }

    /// Drops own entries, the oldest first, where the limit was lowered.
    fn drop_own(&self, total: u64) -> u64 {
        if total <= self.max_bytes {
            return total;
        }
        drop_oldest(entries_of(&self.own), total, self.max_bytes)
    }

    fn entries(&self) -> Vec<Entry> {
        folders(&self.folder).iter().flat_map(|folder| entries_of(folder)).collect()
    }

    /// Removes what an interrupted run left half-written: under the lock, nobody is writing.
    fn remove_leftovers(&self) {
        for file in folders(&self.folder).iter().flat_map(|folder| files_of(folder)) {
            if file.extension().is_some_and(|e| e == "tmp") {
                // If it cannot be removed it is only in the way of the disk.
                let _ = fs::remove_file(file);
            }
        }
    }
}

/// A file of the cache.
struct Entry {
    path: PathBuf,
    bytes: u64,
    changed: SystemTime,
}

fn drop_oldest(mut entries: Vec<Entry>, mut total: u64, limit: u64) -> u64 {
    entries.sort_by(|a, b| (a.changed, &a.path).cmp(&(b.changed, &b.path)));
    for entry in entries {
        if total <= limit {
            break;
        }
        if fs::remove_file(&entry.path).is_ok() {
            total = total.saturating_sub(entry.bytes);
        }
    }
    total
}

fn entries_of(folder: &Path) -> Vec<Entry> {
    let entry = |path: PathBuf| {
        let facts = fs::metadata(&path).ok()?;
        Some(Entry { path, bytes: facts.len(), changed: facts.modified().ok()? })
    };
    let is_entry = |path: &PathBuf| path.extension().is_some_and(|e| e == "logits");
    files_of(folder).into_iter().filter(is_entry).filter_map(entry).collect()
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect()
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    files_of(folder).into_iter().filter(|path| path.is_dir()).collect()
}

fn header(key: &Hash, n_values: usize) -> Vec<u8> {
    [&MAGIC[..], key.as_bytes(), &(n_values as u64).to_le_bytes()].concat()
}

fn write(path: &Path, key: &Hash, values: &[f16]) -> Result<(), FormatError> {
    let header = header(key, values.len());
    let values: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let mut hasher = Hasher::new();
    hasher.update(&header).update(&values);
    let mut file = AtomicFile::create(path)?;
    file.write(&header)?;
    file.write(&values)?;
    file.write(hasher.finalize().as_bytes())?;
    file.finish()
}

/// The values of an entry, if it is whole and the one asked for.
fn decode(bytes: &[u8], key: &Hash, n_values: usize) -> Option<Vec<f16>> {
    if bytes.len() as u64 != entry_bytes(n_values) {
        return None;
    }
    let (content, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
    let (head, values) = content.split_at(HEADER);
    if head != header(key, n_values) || blake3::hash(content).as_bytes() != checksum {
        return None;
    }
    let half = |pair: &[u8]| f16::from_le_bytes([pair[0], pair[1]]);
    Some(values.chunks_exact(2).map(half).collect())
}
