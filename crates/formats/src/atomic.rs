//! A file that appears whole or not at all: written beside its place, synced, then renamed.

use crate::FormatError;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A file being written. Dropped without [`AtomicFile::finish`], it leaves nothing behind and what
/// was at the path before stays.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    temporary: PathBuf,
    /// `None` once finished.
    out: Option<BufWriter<File>>,
}

impl AtomicFile {
    /// Starts a file that is to stand at `path`.
    ///
    /// # Errors
    /// When the directory is missing or not writable.
    pub fn create(path: &Path) -> Result<Self, FormatError> {
        let Some(name) = path.file_name() else {
            return Err(FormatError::new(path, "names no file", "give a path that ends in a name"));
        };
        // The process id keeps two processes that write the same path from sharing a temporary.
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(hidden);
        let file = File::create(&temporary).map_err(|e| FormatError::io(path, "created", &e))?;
        let out = Some(BufWriter::with_capacity(1 << 20, file));
        Ok(Self { path: path.to_owned(), temporary, out })
    }

    /// A file of these bytes, whole or not at all.
    ///
    /// # Errors
    /// When the system refuses; nothing is left behind then.
    pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), FormatError> {
        let mut file = Self::create(path)?;
        file.write(bytes)?;
        file.finish()
    }

    /// Where the file will stand.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the bytes are until the file is finished.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// When the system refuses, e.g. for a full disk.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        let out = self.out.as_mut().expect("a finished file is consumed");
        out.write_all(bytes).map_err(|e| FormatError::io(&self.path, "written", &e))
    }

    /// Writes over bytes that were written before, then goes on at the end.
    ///
    /// # Errors
    /// As [`AtomicFile::write`].
    pub fn overwrite(&mut self, at: u64, bytes: &[u8]) -> Result<(), FormatError> {
        let out = self.out.as_mut().expect("a finished file is consumed");
        out.seek(SeekFrom::Start(at))
            .and_then(|_| out.write_all(bytes))
            .and_then(|()| out.seek(SeekFrom::End(0)))
            .map(|_| ())
            .map_err(|e| FormatError::io(&self.path, "written", &e))
    }

    /// Gives a file that is not appended to its length, and the room for it where the system can
    /// promise that: what is written later does not fail for a full disk. What is not written is
    /// zero.
    ///
    /// # Errors
    /// As [`AtomicFile::write`].
    pub fn reserve(&self, len: u64) -> Result<(), FormatError> {
        reserve(self.file(), len).map_err(|e| FormatError::io(&self.path, "written", &e))
    }

    /// Hands bytes of a file that is not appended to over to the system, in any order, from any
    /// thread. They can be read at [`AtomicFile::temporary`] then; they are not durable yet.
    ///
    /// # Errors
    /// As [`AtomicFile::write`].
    pub fn write_at(&self, at: u64, bytes: &[u8]) -> Result<(), FormatError> {
        let written = write_all_at(self.file(), bytes, at);
        written.map_err(|e| FormatError::io(&self.path, "written", &e))
    }

    fn file(&self) -> &File {
        self.out.as_ref().expect("a finished file is consumed").get_ref()
    }

    /// Makes the bytes durable and puts the file in its place, in one step for every reader.
    ///
    /// # Errors
    /// When the system refuses; nothing is left behind then.
    pub fn finish(mut self) -> Result<(), FormatError> {
        self.put(File::sync_all)?;
        // The rename itself is durable once the directory is. Some file systems cannot sync a
        // directory; the file is whole even so.
        let directory = self.path.parent().filter(|p| !p.as_os_str().is_empty());
        if let Ok(directory) = File::open(directory.unwrap_or(Path::new("."))) {
            let _ = directory.sync_all();
        }
        Ok(())
    }

    /// Puts the file in its place without waiting for the disk: readers see all of it or nothing,
    /// but a loss of power may leave any part. For files that tell whether they are whole.
    ///
    /// # Errors
    /// As [`AtomicFile::finish`].
    pub fn finish_unsynced(mut self) -> Result<(), FormatError> {
        self.put(|_| Ok(()))
    }

    fn put(&mut self, settle: fn(&File) -> std::io::Result<()>) -> Result<(), FormatError> {
        let out = self.out.take().expect("a finished file is consumed");
        let done = out
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .and_then(|file| settle(&file))
            .and_then(|()| std::fs::rename(&self.temporary, &self.path));
        if done.is_err() {
            let _ = std::fs::remove_file(&self.temporary);
        }
        done.map_err(|e| FormatError::io(&self.path, "written", &e))
    }
}

#[cfg(target_os = "linux")]
fn reserve(file: &File, len: u64) -> std::io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(file, FallocateFlags::empty(), 0, len) {
        // The file system cannot promise room; most network file systems cannot.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(len),
        other => other.map_err(Into::into),
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(file: &File, len: u64) -> std::io::Result<()> {
    file.set_len(len)
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut at: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, bytes, at)? {
            0 => return Err(std::io::ErrorKind::WriteZero.into()),
            n => (bytes, at) = (&bytes[n..], at + n as u64),
        }
    }
    Ok(())
}

/// Removes what writers left in a folder that were killed: temporary files whose process is gone.
/// Where the system does not say which processes there are, nothing is removed.
pub fn remove_abandoned(folder: &Path) {
    let is_gone =
        |pid: &str| Path::new("/proc/self").exists() && !Path::new("/proc").join(pid).exists();
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().and_then(|name| name.to_str());
        let hidden = name.and_then(|name| name.strip_prefix('.')?.strip_suffix(".tmp"));
        let pid = hidden.and_then(|name| Some(name.rsplit_once('.')?.1));
        if pid.is_some_and(|pid| pid.parse::<u32>().is_ok() && is_gone(pid)) {
            // One that stays costs space only.
            let _ = std::fs::remove_file(&path);
        }
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if self.out.take().is_some() {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}
