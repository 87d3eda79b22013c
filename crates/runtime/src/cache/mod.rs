//! The program cache: packed weights in a file, so that the next process maps instead of packing.
//!
//! In: a folder and what identifies the source's bytes. Out: an image mapped read-only, its pages
//! shared by all processes of the model. The key covers the source, every section (so the graph,
//! the encodings and the shapes), and what each packed format makes of a fixed pattern: a changed
//! format never reads old files. Images are the same on every ISA, so processes share them whatever
//! they run on.
//!
//! Of concurrent starts one packs, under the entry's lock, and the others wait for it. What loading
//! checks is in [`file`]; a file that is not what it should be is packed again, and a note says so.
//! The least recently used entries make room under the size limit ([`shelf`]).

pub mod aside;
pub mod file;
pub mod shelf;

use crate::pack::{BLOCK_LINES, Layout, Packing};
use crate::{Lines, RuntimeError};
use blake3::{Hash, Hasher};
use file::{Found, Sums, add};
use shelf::Lock;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::JoinHandle;
use sterna_formats::{AtomicFile, FormatError, MappedFile};
use sterna_kernels::Line;
use sterna_kernels::dot::PANEL;

/// Samples of a model file that its identity rests on, beside path, size and time of change.
const CONTENT_SAMPLES: u64 = 64;
/// Bytes of each.
const CONTENT_SAMPLE: usize = 4096;

/// Where programs are kept, and what identifies the source of this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    folder: PathBuf,
    /// What the source is called: a later version of it replaces its file.
    name: Vec<u8>,
    /// What changes when its bytes do.
    content: Vec<u8>,
    /// Bytes that all programs of the folder may take together.
    limit: u64,
}

impl Cache {
    /// Programs of a source that has a name and a content hash (or whatever else changes with its
    /// bytes).
    pub fn new(folder: &Path, name: &[u8], content: &[u8]) -> Self {
        Self { folder: folder.into(), name: name.into(), content: content.into(), limit: u64::MAX }
    }

    /// With at most so many bytes for all programs of the folder.
    #[must_use]
    pub fn with_limit(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// Programs of model files, told apart by path, size, time of change and a hash of samples of
    /// their content: reading all of it would take as long as packing.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn of_files(folder: &Path, files: &[&Path]) -> Result<Self, RuntimeError> {
        let mut name = Hasher::new();
        for &file in files {
            let path = file.canonicalize().map_err(|e| FormatError::io(file, "read", &e))?;
            add(&mut name, path.as_os_str().as_encoded_bytes());
        }
        let content = content_of(files)?;
        Ok(Self::new(folder, name.finalize().as_bytes(), content.as_bytes()))
    }

    /// The file for a layout, whether it is there or not.
    pub fn file(&self, layout: &Layout) -> PathBuf {
        let mut hasher = Hasher::new();
        add(&mut hasher, &self.name);
        add_layout(&mut hasher, layout);
        let name = &hasher.finalize().to_hex()[..32];
        self.folder.join(format!("{name}.{}", shelf::EXTENSION))
    }

    /// What the file must say.
    fn key(&self, layout: &Layout) -> Hash {
        let mut hasher = Hasher::new();
        add(&mut hasher, &self.name);
        add(&mut hasher, &self.content);
        add_layout(&mut hasher, layout);
        add_formats(&mut hasher, layout);
        hasher.finalize()
    }
}

/// What changes when the bytes of model files do, wherever they are: a hash of size, time of change
/// and samples of their content.
///
/// # Errors
/// When a file cannot be read.
pub fn content_of(files: &[&Path]) -> Result<Hash, RuntimeError> {
    let mut content = Hasher::new();
    for &file in files {
        let failed = |e: std::io::Error| FormatError::io(file, "read", &e);
        let path = file.canonicalize().map_err(failed)?;
        let facts = path.metadata().map_err(failed)?;
        let changed = facts.modified().map_err(failed)?;
        let age = changed.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        add(&mut content, &facts.len().to_le_bytes());
        add(&mut content, &age.as_nanos().to_le_bytes());
        add_samples(&mut content, &path, facts.len()).map_err(failed)?;
    }
    Ok(content.finalize())
}

/// Packed weights: an image of one's own, or a mapped file.
pub enum Image {
    /// In memory of this process.
    Own(Lines),
    /// In a file of the cache.
    Mapped(Shared),
    /// In a file without a name ([`aside`]).
    Passing(MappedFile),
}

impl Image {
    /// The same lines in memory of this process, in huge pages where the system gives them: files
    /// are mapped in small ones, whose translation costs bandwidth.
    ///
    /// # Errors
    /// When memory is short.
    pub fn into_own(self) -> Result<Self, RuntimeError> {
        if !self.is_shared() {
            return Ok(self);
        }
        let mut own = Lines::zeroed(self.lines().len(), "weights of its own")?;
        own.advise_huge_pages();
        own.lines_mut().copy_from_slice(self.lines());
        Ok(Self::Own(own))
    }
}

/// A mapped file of the cache.
pub struct Shared {
    file: MappedFile,
    /// The thread that makes a new file durable and puts it in its place.
    finishing: Option<JoinHandle<()>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(thread) = self.finishing.take() {
            // It does not panic; what it could not write is packed again the next time.
            let _ = thread.join();
        }
    }
}

impl Image {
    /// The lines.
    pub fn lines(&self) -> &[Line] {
        match self {
            Self::Own(lines) => lines.lines(),
            Self::Mapped(shared) => file::lines(&shared.file),
            Self::Passing(map) => file::lines(map),
        }
    }

    /// Whether other processes share it.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Mapped(_))
    }

    /// The file that it is mapped from; none while it is being put in its place.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Mapped(Shared { file, finishing: None }) => Some(file.path()),
            Self::Mapped(_) | Self::Own(_) | Self::Passing(_) => None,
        }
    }

    /// Asks for lines that will be read soon; nothing where they are in memory anyway.
    pub fn will_need(&self, lines: std::ops::Range<usize>) {
        let map = match self {
            Self::Mapped(shared) => &shared.file,
            Self::Passing(map) => map,
            Self::Own(_) => return,
        };
        map.advise_will_need(file::at(lines.start)..file::at(lines.end));
    }
}

/// Packed weights, and what there is to say about how they came.
pub struct Packed {
    /// The weights.
    pub image: Image,
    /// Why they are not in the cache, if they should be.
    pub warning: Option<String>,
    /// What was found and mended.
    pub note: Option<String>,
}

/// The packed weights from the cache, where they are put first if they are not there. When the
/// cache cannot be written they are packed in memory, and the warning says why.
///
/// # Errors
/// When a weight is not what was declared, or memory is short.
pub fn load_or_pack(cache: Option<&Cache>, job: &Packing<'_>) -> Result<Packed, RuntimeError> {
    let Some(cache) = cache else {
        return Ok(Packed { image: Image::Own(job.in_memory()?), warning: None, note: None });
    };
    let path = cache.file(job.layout);
    if let Found::Good(file) = file::load(&path, &cache.key(job.layout), job.layout) {
        return Ok(loaded(file, None));
    }
    match load_or_store(cache, &path, job) {
        Err(RuntimeError::File(problem)) => {
            let warning = Some(format!("the program is not cached: {problem}"));
            Ok(Packed { image: Image::Own(job.in_memory()?), warning, note: None })
        }
        other => other,
    }
}

/// The same under the entry's lock: another process may have packed while this one waited for it.
fn load_or_store(cache: &Cache, path: &Path, job: &Packing<'_>) -> Result<Packed, RuntimeError> {
    let folder = &cache.folder;
    std::fs::create_dir_all(folder).map_err(|e| FormatError::io(folder, "created", &e))?;
    let lock = Lock::wait(path)?;
    let note = match file::load(path, &cache.key(job.layout), job.layout) {
        Found::Good(file) => return Ok(loaded(file, None)),
        Found::Missing => None,
        Found::Bad(why) => Some(format!("{} {why}; the weights were packed again", path.display())),
    };
    shelf::sweep(folder, path);
    shelf::make_room(folder, path, file::len(job.layout), cache.limit)?;
    let file = store(cache, path, job)?;
    let shared = settle(file, lock, path)?;
    Ok(Packed { image: Image::Mapped(shared), warning: None, note })
}

fn loaded(file: MappedFile, note: Option<String>) -> Packed {
    shelf::mark_used(file.path());
    let image = Image::Mapped(Shared { file, finishing: None });
    Packed { image, warning: None, note }
}

/// Maps what was written. Making it durable takes as long as the disk takes, so a thread does that
/// and then renames; until then the entry stays locked.
fn settle(file: AtomicFile, lock: Lock, path: &Path) -> Result<Shared, RuntimeError> {
    let map = MappedFile::open(file.temporary())?;
    map.advise_huge_pages(file::HEADER..map.bytes().len());
    let target = path.to_owned();
    let finish = move || {
        // What cannot be written is packed again the next time; this process has its mapping.
        if file.finish().is_ok() {
            shelf::mark_used(&target);
        }
        drop(lock);
    };
    let thread = std::thread::Builder::new().name("sterna-cache".into()).spawn(finish);
    let thread = thread.map_err(|e| RuntimeError::Threads { wanted: 1, reason: e.to_string() })?;
    Ok(Shared { file: map, finishing: Some(thread) })
}

/// Room for a block.
fn new_buffer() -> Result<Lines, RuntimeError> {
    let buffer = Lines::zeroed(BLOCK_LINES, "packing weights")?;
    buffer.advise_huge_pages();
    Ok(buffer)
}

/// Packs into a file: each worker sums and writes the blocks that it packed, from its own buffer.
fn store(cache: &Cache, path: &Path, job: &Packing<'_>) -> Result<AtomicFile, RuntimeError> {
    let n_lines = job.layout.n_lines;
    let file = AtomicFile::create(path)?;
    file.reserve(file::len(job.layout))?;
    let sums = Sums::of(n_lines);
    let buffers = Mutex::new(Vec::<Lines>::new());
    job.each(&file::blocks(n_lines), &|lines, fill| {
        let used = buffers.lock().expect("no holder panics").pop();
        let mut buffer = used.map_or_else(new_buffer, Ok)?;
        let packed = &mut buffer.lines_mut()[..lines.len()];
        fill(packed)?;
        sums.add(lines.start, packed);
        file.write_at(file::at(lines.start) as u64, bytemuck::cast_slice(packed))?;
        buffers.lock().expect("no holder panics").push(buffer);
        Ok(())
    })?;
    file.write_at(file::at(n_lines) as u64, &sums.trailer())?;
    file.write_at(0, &file::header(&cache.key(job.layout), n_lines))?;
    Ok(file)
}

/// Adds the beginning of a file and samples spread over it.
fn add_samples(hasher: &mut Hasher, path: &Path, len: u64) -> std::io::Result<()> {
    let mut file = std::fs::File::open(path)?;
    let mut sample = [0; CONTENT_SAMPLE];
    for i in 0..CONTENT_SAMPLES {
        file.seek(SeekFrom::Start(len / CONTENT_SAMPLES * i))?;
        let n = file.by_ref().take(CONTENT_SAMPLE as u64).read(&mut sample)?;
        add(hasher, &sample[..n]);
    }
    Ok(())
}

fn add_layout(hasher: &mut Hasher, layout: &Layout) {
    for section in &layout.sections {
        add(hasher, section.name.as_bytes());
        add(hasher, section.encoding.name().as_bytes());
        let (rows, cols) = section.shape;
        let numbers = [section.form as usize, rows, cols, section.lines.start, section.lines.end];
        for number in numbers {
            hasher.update(&(number as u64).to_le_bytes());
        }
    }
}

/// What the packed formats in use make of a fixed pattern.
fn add_formats(hasher: &mut Hasher, layout: &Layout) {
    let mut seen = Vec::new();
    for section in &layout.sections {
        let (encoding, form) = (section.encoding, section.form);
        let cols = encoding.block_len() * 256usize.div_ceil(encoding.block_len());
        let Some(shape) = form.panels(encoding, PANEL, cols) else { continue };
        if seen.contains(&(encoding.name(), form)) {
            continue;
        }
        seen.push((encoding.name(), form));
        let n_bytes = PANEL * encoding.row_bytes(cols);
        let pattern: Vec<u8> = (0..n_bytes).map(|i| (i * 37 % 61) as u8).collect();
        let mut panel = vec![Line::ZERO; shape.panel_lines];
        shape.pack(0..1, &pattern, &mut panel);
        add(hasher, shape.format.name().as_bytes());
        add(hasher, bytemuck::cast_slice(&panel));
    }
}
