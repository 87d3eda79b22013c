//! The program cache: packed weights in a file, so that the next process maps instead of packing.
//!
//! In: a folder and what identifies the source's bytes. Out: an image mapped read-only, its pages
//! shared by all processes of the model. Loading reads the header, the trailer and a sample, never
//! the whole. A file that is not what it should be is packed again.
//!
//! The file: a header of 4096 bytes (magic, version, lines, key, checksum), the lines of the image,
//! a trailer line with the checksum of a sample of lines. The key covers the source, every section,
//! and what each packed format makes of a fixed pattern: a changed format never reads old files.

use crate::RuntimeError;
use crate::pack::{Form, Layout, pack_each};
use crate::team::Team;
use crate::{Lines, pack};
use blake3::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use sterna_formats::{AtomicFile, FormatError, MappedFile};
use sterna_kernels::dot::PANEL;
use sterna_kernels::{Line, PackedShape};
use sterna_model::WeightSource;

const MAGIC: &[u8; 8] = b"STERNApc";
const VERSION: u32 = 1;
const HEADER: usize = 4096;

/// Lines of the sample that is checked at load.
const SAMPLE: usize = 256;

/// Where programs are kept, and what identifies the source of this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    folder: PathBuf,
    /// What the source is called: a later version of it replaces its file.
    name: Vec<u8>,
    /// What changes when its bytes do.
    content: Vec<u8>,
}

impl Cache {
    /// Programs of a source that has a name and a content hash (or whatever else changes with its
    /// bytes).
    pub fn new(folder: &Path, name: &[u8], content: &[u8]) -> Self {
        Self { folder: folder.into(), name: name.into(), content: content.into() }
    }

    /// Programs of model files, told apart by path, size and time of change.
    ///
    /// # Errors
    /// When a file cannot be looked at.
    pub fn of_files(folder: &Path, files: &[&Path]) -> Result<Self, RuntimeError> {
        let (mut name, mut content) = (Hasher::new(), Hasher::new());
        for &file in files {
            let failed = |e: std::io::Error| FormatError::io(file, "looked at", &e);
            let path = file.canonicalize().map_err(failed)?;
            let facts = path.metadata().map_err(failed)?;
            let changed = facts.modified().map_err(failed)?;
            let age = changed.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            add(&mut name, path.as_os_str().as_encoded_bytes());
            add(&mut content, &facts.len().to_le_bytes());
            add(&mut content, &age.as_nanos().to_le_bytes());
        }
        Ok(Self::new(folder, name.finalize().as_bytes(), content.finalize().as_bytes()))
    }

    /// The file for a layout, whether it is there or not.
    pub fn file(&self, layout: &Layout) -> PathBuf {
        let mut hasher = Hasher::new();
        add(&mut hasher, &self.name);
        add_layout(&mut hasher, layout);
        self.folder.join(format!("{}.program", &hasher.finalize().to_hex()[..32]))
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

/// Packed weights: an image of one's own, or a mapped file.
pub enum Image {
    /// In memory of this process.
    Own(Lines),
    /// In a file of the cache.
    Mapped(MappedFile),
}

impl Image {
    /// The lines.
    pub fn lines(&self) -> &[Line] {
        match self {
            Self::Own(lines) => lines.lines(),
            Self::Mapped(file) => {
                let bytes = file.bytes();
                bytemuck::cast_slice(&bytes[HEADER..bytes.len() - size_of::<Line>()])
            }
        }
    }

    /// Whether other processes share it.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Mapped(_))
    }
}

/// The packed weights from the cache, where they are put first if they are not there. When the
/// cache cannot be written they are packed in memory, and the sentence says why.
///
/// # Errors
/// When a weight is not what was declared, or memory is short.
pub fn load_or_pack(
    cache: Option<&Cache>,
    layout: &Layout,
    source: &dyn WeightSource,
    team: impl FnOnce() -> Result<Team, RuntimeError>,
) -> Result<(Image, Option<String>), RuntimeError> {
    let Some(cache) = cache else {
        return Ok((Image::Own(pack::pack_in_memory(layout, source, &mut team()?)?), None));
    };
    // One writer at a time: two would share the temporary file of this process.
    static WRITER: Mutex<()> = Mutex::new(());
    let _one = WRITER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(file) = load(cache, layout) {
        return Ok((Image::Mapped(file), None));
    }
    let mut team = team()?;
    match store(cache, layout, source, &mut team) {
        Ok(()) => {}
        Err(RuntimeError::File(problem)) => {
            let image = pack::pack_in_memory(layout, source, &mut team)?;
            return Ok((Image::Own(image), Some(format!("the program is not cached: {problem}"))));
        }
        Err(other) => return Err(other),
    }
    match load(cache, layout) {
        Some(file) => Ok((Image::Mapped(file), None)),
        None => {
            let image = pack::pack_in_memory(layout, source, &mut team)?;
            let file = cache.file(layout);
            let warning =
                format!("the program is not cached: {} changed meanwhile", file.display());
            Ok((Image::Own(image), Some(warning)))
        }
    }
}

/// The mapped file, if it is there and what it must be.
fn load(cache: &Cache, layout: &Layout) -> Option<MappedFile> {
    let file = MappedFile::open(&cache.file(layout)).ok()?;
    let bytes = file.bytes();
    if bytes.len() != HEADER + layout.bytes() + size_of::<Line>() {
        return None;
    }
    let (header, rest) = bytes.split_at(HEADER);
    let (body, trailer) = rest.split_at(layout.bytes());
    let lines: &[Line] = bytemuck::try_cast_slice(body).ok()?;
    let mut sample = Sample::of(layout);
    sample.add(0, lines);
    let whole =
        header == encode_header(&cache.key(layout), layout.n_lines) && trailer == sample.trailer();
    if !whole {
        return None;
    }
    file.advise_huge_pages(HEADER..bytes.len());
    Some(file)
}

/// Packs into the cache, one section at a time.
fn store(
    cache: &Cache,
    layout: &Layout,
    source: &dyn WeightSource,
    team: &mut Team,
) -> Result<(), RuntimeError> {
    let path = cache.file(layout);
    std::fs::create_dir_all(&cache.folder)
        .map_err(|e| FormatError::io(&cache.folder, "created", &e))?;
    let mut file = AtomicFile::create(&path)?;
    file.write(&encode_header(&cache.key(layout), layout.n_lines))?;
    let mut sample = Sample::of(layout);
    pack_each(layout, source, team, |section, fill| {
        let mut part = Lines::zeroed(section.lines.len(), "packing a weight")?;
        fill(part.lines_mut());
        sample.add(section.lines.start, part.lines());
        Ok(file.write(bytemuck::cast_slice(part.lines()))?)
    })?;
    file.write(&sample.trailer())?;
    Ok(file.finish()?)
}

fn encode_header(key: &Hash, n_lines: usize) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&(HEADER as u32).to_le_bytes());
    header.extend_from_slice(&(n_lines as u64).to_le_bytes());
    header.extend_from_slice(key.as_bytes());
    let checksum = blake3::hash(&header);
    header.extend_from_slice(checksum.as_bytes());
    header.resize(HEADER, 0);
    header
}

/// The checksum of lines spread over the image.
struct Sample {
    hasher: Hasher,
    step: usize,
    next: usize,
}

impl Sample {
    fn of(layout: &Layout) -> Self {
        Self { hasher: Hasher::new(), step: (layout.n_lines / SAMPLE).max(1), next: 0 }
    }

    /// Adds the sampled ones among lines `start..`, which follow those added before.
    fn add(&mut self, start: usize, lines: &[Line]) {
        while let Some(line) = lines.get(self.next - start) {
            self.hasher.update(&line.0);
            self.next += self.step;
        }
    }

    fn trailer(&self) -> [u8; size_of::<Line>()] {
        let mut trailer = [0; size_of::<Line>()];
        trailer[..32].copy_from_slice(self.hasher.finalize().as_bytes());
        trailer[32..40].copy_from_slice(MAGIC);
        trailer
    }
}

/// Adds bytes with their length, so that neighbours cannot run together.
fn add(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
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
    for section in layout.sections.iter().filter(|s| s.form == Form::Packed) {
        let encoding = section.encoding;
        if seen.contains(&encoding.name()) {
            continue;
        }
        seen.push(encoding.name());
        let cols = encoding.block_len() * 256usize.div_ceil(encoding.block_len());
        let shape = PackedShape::new(encoding, PANEL, cols);
        let n_bytes = PANEL * encoding.row_bytes(cols);
        let pattern: Vec<u8> = (0..n_bytes).map(|i| (i * 37 % 61) as u8).collect();
        let mut panel = vec![Line::ZERO; shape.panel_lines];
        shape.pack(0..1, &pattern, &mut panel);
        add(hasher, shape.format.name().as_bytes());
        add(hasher, bytemuck::cast_slice(&panel));
    }
}
