//! A file mapped read-only into memory: the one place of this crate with `unsafe`.
//!
//! In: a path. Out: its bytes, of which the kernel reads a page when it is first touched. Opening
//! costs the same for any size; what is resident is what was read, and can be given back.

use crate::error::FormatError;
use memmap2::{Advice, Mmap, MmapOptions, UncheckedAdvice};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A non-empty regular file, mapped read-only.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    /// Maps the whole file; no page of it is read.
    ///
    /// # Errors
    /// When it is missing, empty, not a regular file, or the system refuses.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let facts = std::fs::metadata(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                FormatError::new(path, "there is no such file", "check the path")
            }
            _ => FormatError::io(path, "opened", &e),
        })?;
        // A FIFO would block in open() and a device has no length: both are refused before.
        if !facts.is_file() {
            let kind = if facts.is_dir() { "a directory" } else { "no regular file" };
            return Err(FormatError::new(path, format!("is {kind}"), "give a file"));
        }
        if facts.len() == 0 {
            return Err(FormatError::new(path, "is empty (0 bytes)", "download it again"));
        }
        let file = File::open(path).map_err(|e| FormatError::io(path, "opened", &e))?;
        // SAFETY: the mapping is read-only and lives as long as `Mmap`. Its bytes are plain data:
        // any value is valid. What remains is the caveat of every mapped file, that another process
        // may change or cut it meanwhile: parsed facts are copied out and bounds were checked
        // against the mapped length, so a change can give wrong numbers, and a cut file a SIGBUS,
        // but no access outside of the mapping.
        let map = unsafe { MmapOptions::new().map(&file) }
            .map_err(|e| FormatError::io(path, "mapped into memory", &e))?;
        Ok(Self { path: path.to_owned(), map })
    }

    /// The file's path, as it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// The range will be read once from start to end: the kernel reads ahead generously.
    pub fn advise_sequential(&self, range: Range<usize>) -> bool {
        self.advise(Advice::Sequential, range)
    }

    /// The range will be needed soon: the kernel starts to read it now.
    pub fn advise_will_need(&self, range: Range<usize>) -> bool {
        self.advise(Advice::WillNeed, range)
    }

    /// The range is worth huge pages, where the kernel and file system have them for files.
    pub fn advise_huge_pages(&self, range: Range<usize>) -> bool {
        #[cfg(target_os = "linux")]
        return self.advise(Advice::HugePage, range);
        #[cfg(not(target_os = "linux"))]
        return self.advise(Advice::Normal, range.start..range.start);
    }

    /// Takes the range's pages out of this process's resident set. Its bytes stay valid: reading
    /// one again maps its page again, from the page cache or the disk. Pages at the edges go too,
    /// which costs a neighbour that still needs them one page fault.
    pub fn drop_pages(&self, range: Range<usize>) -> bool {
        let (start, end) = self.clamped(range);
        // SAFETY: MADV_DONTNEED on a read-only mapping of a file only forgets clean pages, which
        // the next read brings back with the same bytes; existing slices stay valid.
        start == end
            || unsafe {
                self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start)
            }
            .is_ok()
    }

    /// Passes advice on; whether the kernel took it. Advice never changes what is read.
    fn advise(&self, advice: Advice, range: Range<usize>) -> bool {
        let (start, end) = self.clamped(range);
        start == end || self.map.advise_range(advice, start, end - start).is_ok()
    }

    /// The part of a range that the file has.
    fn clamped(&self, range: Range<usize>) -> (usize, usize) {
        let start = range.start.min(self.map.len());
        (start, range.end.clamp(start, self.map.len()))
    }
}

/// Takes a file out of the system's page cache, so that its next reader waits for the disk: cold
/// starts are measured with it. Pages that a process has mapped stay. Whether the system took the
/// advice.
///
/// # Errors
/// When the file cannot be opened or synced.
pub fn evict(path: &Path) -> Result<bool, FormatError> {
    let file = File::open(path).map_err(|e| FormatError::io(path, "opened", &e))?;
    // Pages that are not on the disk yet cannot go.
    file.sync_all().map_err(|e| FormatError::io(path, "synced", &e))?;
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        // SAFETY: the descriptor is open for the call, which changes no memory of this process.
        let code =
            unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        Ok(code == 0)
    }
    #[cfg(not(target_os = "linux"))]
    Ok(false)
}
