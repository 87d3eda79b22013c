//! The folder: a subfolder per model, a file per segment, and a limit for all of them together.
//!
//! Files are written beside their place and renamed, without waiting for the disk: what a loss of
//! power tears is found by its sums. The least recently used make room, the deeper first among
//! those of one moment, since a page without those before it is of no use. Several processes may
//! share a folder: what one removes the others find missing, and compute.

use super::hash::{PageHash, SegmentId};
use super::segment::{self, Header, Refusal};
use super::thread::Counters;
use super::{Load, Log, Save};
use std::cmp::Reverse;
use std::fs::{DirBuilder, File};
use std::io::{BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use sterna_formats::atomic::remove_abandoned;
use sterna_formats::{AtomicFile, FormatError};

/// How much of the limit is written between two looks at what is there: others may write too.
const LOOK_SHARE: u64 = 16;

/// A segment that is there, with the addresses of its pages.
pub type Held = (SegmentId, Vec<PageHash>);

/// Bytes that may be written to a folder before the next look at what is there. The stores of a
/// process share it, so that together they keep to the limit; each other process may exceed it by
/// what it writes between two looks.
#[derive(Clone, Debug, Default)]
pub struct Room(Arc<Mutex<u64>>);

/// A model's part of the folder.
pub struct Store {
    base: PathBuf,
    folder: PathBuf,
    limit: u64,
    model: PageHash,
    page_bytes: usize,
    room: Room,
    /// Whether the last segment could not be written.
    is_failing: bool,
    counters: Arc<Counters>,
    log: Log,
}

impl Store {
    /// Opens a model's part, and reads the headers of what it has; files that are not what they
    /// should be are removed.
    ///
    /// # Errors
    /// When the folder cannot be written, or not even one page fits the limit.
    pub fn open(
        base: &Path,
        limit: u64,
        room: Room,
        model: PageHash,
        page_bytes: usize,
        counters: Arc<Counters>,
        log: Log,
    ) -> Result<(Self, Vec<Held>), FormatError> {
        let needed = segment::file_len(0, 1, page_bytes);
        if needed > limit {
            let problem = format!("a page of keys and values needs {needed} bytes of {limit}");
            return Err(FormatError::new(base, problem, "allow more bytes for it"));
        }
        let folder = base.join(&model.hex()[..32]);
        create_private(&folder).map_err(|error| FormatError::io(&folder, "created", &error))?;
        remove_abandoned(&folder);
        let (base, is_failing) = (base.to_owned(), false);
        let store =
            Self { base, folder, limit, model, page_bytes, room, is_failing, counters, log };
        let mut ids: Vec<SegmentId> = names(&store.folder).collect();
        ids.sort_unstable();
        let held = ids.into_iter().filter_map(|id| Some((id, store.look(id)?))).collect();
        Ok((store, held))
    }

    /// Writes a segment; which ones made room for it.
    ///
    /// # Errors
    /// When the system refuses, or it is larger than the limit.
    pub fn save(&mut self, save: &Save, pages: &[Vec<u8>]) -> Result<Vec<SegmentId>, FormatError> {
        let header = Header {
            model: self.model,
            start: save.start,
            depth: save.depth,
            tokens: save.tokens.clone(),
            page_bytes: self.page_bytes,
            sums: pages.iter().map(|page| segment::sum(page)).collect(),
        };
        let path = self.path(save.id);
        let bytes = segment::file_len(save.depth, pages.len(), self.page_bytes);
        if bytes > self.limit {
            let problem = format!("needs {bytes} bytes of {}", self.limit);
            return Err(FormatError::new(&path, problem, "allow more bytes for it"));
        }
        // Held until the file is there, since a look at the folder must find it.
        let room = self.room.clone();
        let mut room = room.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = self.make_room(&mut room, bytes);
        let mut file = AtomicFile::create(&path)?;
        file.write(&header.encode())?;
        for page in pages {
            file.write(page)?;
        }
        file.finish_unsynced()?;
        self.counters.written.fetch_add(bytes, Relaxed);
        self.is_failing = false;
        Ok(gone)
    }

    /// Reads pages of a segment, up to the first that is not good; and whether the segment is to be
    /// forgotten.
    pub fn load(&self, load: &Load) -> (Vec<Vec<u8>>, bool) {
        let mut pages = Vec::new();
        match self.read(load, &mut pages) {
            Ok(()) => (pages, false),
            Err(refusal) => {
                self.refuse(load.segment, &refusal);
                (pages, true)
            }
        }
    }

    /// Counts a segment that could not be written, and says why the first time since one was: a
    /// full disk would say it with every prompt.
    pub fn note_failure(&mut self, error: &FormatError) {
        self.counters.failed.fetch_add(1, Relaxed);
        if !std::mem::replace(&mut self.is_failing, true) {
            (self.log)(&format!("{error}; until then keys and values are not kept"));
        }
    }

    /// Says that segments were used, the last one most recently.
    pub fn touch(&self, segments: &[SegmentId]) {
        for &id in segments {
            // Writing a byte that is there already changes the time alone. What cannot be written,
            // or is gone, is not remembered as used.
            let file = File::options().write(true).open(self.path(id));
            let _ = file.and_then(|mut file| file.write_all(&segment::MAGIC[..1]));
        }
    }

    /// Removes all segments of this model.
    pub fn clear(&self) {
        for id in names(&self.folder) {
            // What stays is as good as before, and is found at the next start.
            let _ = std::fs::remove_file(self.path(id));
        }
    }

    fn path(&self, id: SegmentId) -> PathBuf {
        self.folder.join(id.file_name())
    }

    /// The pages of a segment, if it is what its name says.
    fn look(&self, id: SegmentId) -> Option<Vec<PageHash>> {
        match self.open_segment(id) {
            Ok((header, _)) => Some(header.hashes()),
            Err(refusal) => {
                self.refuse(id, &refusal);
                None
            }
        }
    }

    fn open_segment(&self, id: SegmentId) -> Result<(Header, BufReader<File>), Refusal> {
        let file = File::open(self.path(id))?;
        let len = file.metadata()?.len();
        let mut file = BufReader::new(file);
        let header = Header::read(&mut file, len)?;
        let is_ours = (header.model, header.page_bytes) == (self.model, self.page_bytes);
        let is_named =
            header.depth == id.depth as usize && header.hashes().last() == Some(&id.last);
        match is_ours && is_named {
            true => Ok((header, file)),
            false => Err(Refusal::Damaged("is of another model or name".into())),
        }
    }

    fn read(&self, load: &Load, pages: &mut Vec<Vec<u8>>) -> Result<(), Refusal> {
        let (header, mut file) = self.open_segment(load.segment)?;
        let is_same = header.start == load.start && header.tokens.starts_with(&load.tokens);
        if !is_same || header.depth > load.first {
            return Err(Refusal::Damaged("has other tokens than those asked for".into()));
        }
        for page in load.first..load.first + load.n_pages {
            pages.push(header.read_page(&mut file, page - header.depth)?);
            self.counters.read.fetch_add(self.page_bytes as u64, Relaxed);
        }
        Ok(())
    }

    /// Removes a file that is damaged. One that is gone made room for another.
    fn refuse(&self, id: SegmentId, refusal: &Refusal) {
        let path = self.path(id);
        let why = match refusal {
            Refusal::Unreadable(error) if error.kind() == ErrorKind::NotFound => return,
            Refusal::Unreadable(error) => format!("cannot be read ({error})"),
            Refusal::Damaged(why) => {
                // What stays is refused again.
                let _ = std::fs::remove_file(&path);
                format!("{why}; it is removed")
            }
        };
        self.counters.refused.fetch_add(1, Relaxed);
        (self.log)(&format!("{}: {why}, and what it held is computed again", path.display()));
    }

    /// Removes the least recently used files until so many bytes more fit; which of this model's.
    fn make_room(&self, room: &mut u64, bytes: u64) -> Vec<SegmentId> {
        if let Some(left) = room.checked_sub(bytes) {
            *room = left;
            return Vec::new();
        }
        let mut files = files(&self.base);
        files.sort_by_key(|file| (file.used, Reverse(file.id.depth)));
        let mut total: u64 = files.iter().map(|file| file.bytes).sum();
        let share = self.limit / LOOK_SHARE;
        let most = self.limit - bytes;
        // Some more than needed, so that there is room until the next look.
        let aim = if total > most { most.saturating_sub(share) } else { most };
        let mut gone = Vec::new();
        for file in files {
            if total <= aim {
                break;
            }
            if std::fs::remove_file(&file.path).is_ok() {
                total -= file.bytes;
                self.counters.evicted.fetch_add(file.bytes, Relaxed);
                gone.extend((file.path == self.path(file.id)).then_some(file.id));
            }
        }
        *room = most.saturating_sub(total).min(share);
        gone
    }
}

/// A segment's file, of any model.
struct Entry {
    path: PathBuf,
    id: SegmentId,
    bytes: u64,
    used: SystemTime,
}

/// The segments of all models of a folder.
fn files(base: &Path) -> Vec<Entry> {
    let Ok(folders) = std::fs::read_dir(base) else { return Vec::new() };
    let folders = folders.filter_map(|folder| Some(folder.ok()?.path()));
    let entry = |path: PathBuf, id: SegmentId| {
        let facts = path.metadata().ok()?;
        Some(Entry { id, bytes: facts.len(), used: facts.modified().ok()?, path })
    };
    let all = folders.flat_map(|folder| {
        let here = folder.clone();
        names(&folder).filter_map(move |id| entry(here.join(id.file_name()), id))
    });
    all.collect()
}

/// The segments of a model's folder, by their names.
fn names(folder: &Path) -> impl Iterator<Item = SegmentId> + use<> {
    let found = std::fs::read_dir(folder).into_iter().flatten();
    found.filter_map(|file| SegmentId::of_file_name(file.ok()?.file_name().to_str()?))
}

/// Creates a folder that only its owner can read: pages tell what was asked.
fn create_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
