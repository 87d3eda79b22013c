//! Scratch: bytes that are too many for memory, in a file without a name that goes with its owner.
//!
//! In: a folder with room. Out: places to write to and read from, by any thread. What is read comes
//! from the system's cache where that has it, and takes no memory of the process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of a folder's free bytes, the part that a scratch file may take: others write there too.
const SHARE: u64 = 2;

/// A file that nobody else sees.
#[derive(Debug)]
pub struct Scratch {
    file: File,
    max_bytes: u64,
    n_bytes: AtomicU64,
}

/// Where some bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    at: u64,
    len: usize,
}

impl Scratch {
    /// A file in `folder` for so many bytes, or for half of what is free there if that is less.
    ///
    /// # Errors
    /// When the folder takes no file.
    pub fn new(folder: &Path, max_bytes: u64) -> io::Result<Self> {
        // A bare file name has an empty parent.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let file = tempfile::tempfile_in(folder)?;
        let system = rustix::fs::fstatvfs(&file)?;
        let free = system.f_bavail.saturating_mul(system.f_frsize);
        Ok(Self { file, max_bytes: max_bytes.min(free / SHARE), n_bytes: AtomicU64::new(0) })
    }

    /// A file in `folder`, if it has room for so many bytes.
    pub fn with_room(folder: &Path, n_bytes: u64) -> Option<Self> {
        Self::new(folder, n_bytes).ok().filter(|scratch| scratch.max_bytes >= n_bytes)
    }

    /// A place for `len` bytes; `None` when the file is full.
    pub fn reserve(&self, len: usize) -> Option<Slot> {
        let grown = |at: u64| at.checked_add(len as u64).filter(|end| *end <= self.max_bytes);
        let at = self.n_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).ok()?;
        Some(Slot { at, len })
    }

    /// Writes bytes to a place, from `offset` on.
    ///
    /// # Errors
    /// When the disk is full after all.
    ///
    /// # Panics
    /// When the place is too small.
    pub fn write(&self, slot: Slot, offset: usize, bytes: &[u8]) -> io::Result<()> {
        assert!(offset + bytes.len() <= slot.len, "written past the end of a slot");
        self.file.write_all_at(bytes, slot.at + offset as u64)
    }

    /// Reads bytes from a place, from `offset` on.
    ///
    /// # Errors
    /// When the disk fails, or nothing was written there.
    ///
    /// # Panics
    /// When the place is too small.
    pub fn read(&self, slot: Slot, offset: usize, bytes: &mut [u8]) -> io::Result<()> {
        assert!(offset + bytes.len() <= slot.len, "read past the end of a slot");
        self.file.read_exact_at(bytes, slot.at + offset as u64)
    }
}

impl Slot {
    /// Bytes of the place.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_a_full_file_takes_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(folder.path(), 10).unwrap();
        let (first, second) = (scratch.reserve(4).unwrap(), scratch.reserve(6).unwrap());
        assert_eq!(scratch.reserve(1), None);
        scratch.write(second, 0, b"second").unwrap();
        scratch.write(first, 0, b"fir").unwrap();
        scratch.write(first, 3, b"s").unwrap();
        let mut bytes = [0; 3];
        scratch.read(first, 1, &mut bytes).unwrap();
        assert_eq!(&bytes, b"irs");
        scratch.read(second, 0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"sec");
        let names = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 0, "the file has no name");
        assert!(Scratch::with_room(folder.path(), u64::MAX).is_none());
        assert!(Scratch::with_room(&folder.path().join("missing"), 1).is_none());
    }
}
