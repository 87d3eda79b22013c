//! The shelf: encoded weights kept within a run, so that a search encodes each tensor once per
//! encoding however many plans it is part of.
//!
//! In: what a draft encoded. Out: the same bytes again. They are in a file, since a large model in
//! every encoding is many times its size; what does not fit, or cannot be written, is encoded anew
//! each time, as without a shelf.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use sterna_formats::EncodingRef;
use sterna_measure::scratch::{Scratch, Slot};
use sterna_model::WeightId;

/// A weight in an encoding. Rows, importance and factors need no place here: a shelf is of one
/// graph, rounded in one way.
type Key = (WeightId, &'static str);

/// Encoded weights of one source under one graph.
#[derive(Debug)]
pub struct Shelf {
    kept: Mutex<HashMap<Key, Slot>>,
    /// Made when there is something to keep; `None` where the folder takes no file.
    scratch: OnceLock<Option<Scratch>>,
    folder: PathBuf,
    max_bytes: u64,
}

impl Shelf {
    /// An empty shelf in a folder that takes `max_bytes` at most, and not all of the disk.
    pub fn new(folder: &Path, max_bytes: u64) -> Self {
        let (kept, scratch) = (Mutex::default(), OnceLock::new());
        Self { kept, scratch, folder: folder.to_owned(), max_bytes }
    }

    /// An empty shelf in the same folder, for weights that are rounded otherwise.
    pub fn another(&self) -> Self {
        Self::new(&self.folder, self.max_bytes)
    }

    /// The weight's bytes in that encoding: kept ones, else those that `encode` makes.
    pub fn get(
        &self,
        id: WeightId,
        encoding: EncodingRef,
        encode: impl FnOnce() -> Vec<u8>,
    ) -> Vec<u8> {
        let key = (id, encoding.name());
        let lock = || self.kept.lock().expect("no holder panics");
        let found = lock().get(&key).copied();
        if let Some(bytes) = found.and_then(|slot| self.read(slot)) {
            return bytes;
        }
        // Encoded outside of the lock, which takes long.
        let bytes = encode();
        let mut kept = lock();
        if !kept.contains_key(&key)
            && let Some(scratch) = self.scratch()
            && let Some(slot) = scratch.reserve(bytes.len())
            && scratch.write(slot, 0, &bytes).is_ok()
        {
            kept.insert(key, slot);
        }
        bytes
    }

    fn read(&self, slot: Slot) -> Option<Vec<u8>> {
        let mut bytes = vec![0; slot.len()];
        self.scratch()?.read(slot, 0, &mut bytes).ok()?;
        Some(bytes)
    }

    fn scratch(&self) -> Option<&Scratch> {
        self.scratch.get_or_init(|| Scratch::new(&self.folder, self.max_bytes).ok()).as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use sterna_formats::encodings::by_name;

    #[test]
    fn what_fits_is_encoded_once_and_the_rest_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(folder.path(), 10);
        let (q8, q4) = (by_name("Q8_0").unwrap(), by_name("Q4_0").unwrap());
        let n_encoded = Cell::new(0);
        let get = |id, encoding, bytes: &[u8]| {
            let encode = || {
                n_encoded.set(n_encoded.get() + 1);
                bytes.to_vec()
            };
            assert_eq!(shelf.get(WeightId(id), encoding, encode), bytes);
        };
        for _ in 0..3 {
            get(0, q8, b"eight 8");
            get(0, q4, b"iv!");
            get(1, q8, b"no room");
        }
        assert_eq!(n_encoded.get(), 1 + 1 + 3);
    }
}
