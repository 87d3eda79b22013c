//! One file of the cache: a header of 4096 bytes (magic, version, lines, key, checksum), the lines
//! of the image, and a trailer of two lines (the sum of a sample of lines, the sum of all).
//!
//! Loading checks the header, the trailer and the sample, in a fraction of a millisecond whatever
//! the size: it notices other versions, other sources, cut and overwritten files, but not every
//! single flipped bit. [`verify`] reads everything; `sterna doctor --program-cache` calls it.

use crate::pack::Layout;
use blake3::{Hash, Hasher};
use std::path::Path;
use sterna_formats::MappedFile;
use sterna_kernels::Line;

const MAGIC: &[u8; 8] = b"STERNApc";
const VERSION: u32 = 2;
/// Bytes before the lines.
pub const HEADER: usize = 4096;
const TRAILER: usize = 2 * size_of::<Line>();
/// Bytes of the header that its checksum covers; the checksum follows.
const SUMMED: usize = 56;

/// Lines of the sample that is checked at load.
const SAMPLE: usize = 256;

/// What is at a path.
pub enum Found {
    /// The program, mapped.
    Good(MappedFile),
    /// Nothing.
    Missing,
    /// Something else, and what is wrong with it.
    Bad(String),
}

/// The length of a layout's file.
pub fn len(layout: &Layout) -> u64 {
    (HEADER + layout.bytes() + TRAILER) as u64
}

/// The lines of a mapped file that was loaded or written here.
pub fn lines(file: &MappedFile) -> &[Line] {
    let bytes = file.bytes();
    bytemuck::cast_slice(&bytes[HEADER..bytes.len() - TRAILER])
}

/// Maps the file if it is there and what it must be, as far as samples tell.
pub fn load(path: &Path, key: &Hash, layout: &Layout) -> Found {
    if !path.exists() {
        return Found::Missing;
    }
    let file = match MappedFile::open(path) {
        Ok(file) => file,
        Err(error) => return Found::Bad(format!("cannot be used ({error})")),
    };
    match check(&file, Some((key, layout)), false) {
        Ok(()) => {
            file.advise_huge_pages(HEADER..file.bytes().len());
            Found::Good(file)
        }
        Err(why) => Found::Bad(why),
    }
}

/// Reads a whole file and compares every sum.
///
/// # Errors
/// What is wrong with it, as the rest of a sentence.
pub fn verify(path: &Path) -> Result<(), String> {
    let file = MappedFile::open(path).map_err(|error| format!("cannot be used ({error})"))?;
    file.advise_sequential(0..file.bytes().len());
    check(&file, None, true)
}

/// Checks a file against what is wanted, and against itself.
fn check(file: &MappedFile, wanted: Option<(&Hash, &Layout)>, whole: bool) -> Result<(), String> {
    let bytes = file.bytes();
    let damaged = |what: &str| Err(format!("was damaged ({what})"));
    if bytes.len() < HEADER + TRAILER {
        return damaged("it is cut");
    }
    let (head, rest) = bytes.split_at(HEADER);
    let (body, trailer) = rest.split_at(rest.len() - TRAILER);
    if head[SUMMED..SUMMED + 32] != *blake3::hash(&head[..SUMMED]).as_bytes()
        || head[SUMMED + 32..].iter().any(|&b| b != 0)
        || head[..8] != *MAGIC
    {
        return damaged("its header");
    }
    if head[8..12] != VERSION.to_le_bytes() {
        return Err("is of another version of sterna".into());
    }
    if let Some((key, _)) = wanted
        && head[24..56] != *key.as_bytes()
    {
        return Err("was of an older state of the model, or of other kernels".into());
    }
    let n_lines = body.len() / size_of::<Line>();
    let is_whole = body.len() % size_of::<Line>() == 0
        && head[16..24] == (n_lines as u64).to_le_bytes()
        && wanted.is_none_or(|(_, layout)| layout.n_lines == n_lines);
    if !is_whole {
        return damaged("its length");
    }
    let lines: &[Line] = bytemuck::cast_slice(body);
    let mut sums = Sums::of(n_lines);
    sums.sample(0, lines);
    if whole {
        sums.whole(lines);
    } else {
        sums.believe(trailer);
    }
    if trailer == sums.trailer() { Ok(()) } else { damaged("its content") }
}

/// What stands before the lines.
pub fn header(key: &Hash, n_lines: usize) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&(HEADER as u32).to_le_bytes());
    header.extend_from_slice(&(n_lines as u64).to_le_bytes());
    header.extend_from_slice(key.as_bytes());
    assert_eq!(header.len(), SUMMED);
    let checksum = blake3::hash(&header);
    header.extend_from_slice(checksum.as_bytes());
    header.resize(HEADER, 0);
    header
}

/// The sums of an image: of lines spread over it, and of all.
pub struct Sums {
    sample: Hasher,
    all: Hasher,
    believed: Option<[u8; 32]>,
    step: usize,
    next: usize,
}

impl Sums {
    /// For an image of so many lines.
    pub fn of(n_lines: usize) -> Self {
        let step = (n_lines / SAMPLE).max(1);
        Self { sample: Hasher::new(), all: Hasher::new(), believed: None, step, next: 0 }
    }

    /// Adds lines `start..`, which follow those added before.
    pub fn add(&mut self, start: usize, lines: &[Line]) {
        self.sample(start, lines);
        self.whole(lines);
    }

    fn sample(&mut self, start: usize, lines: &[Line]) {
        while let Some(line) = lines.get(self.next - start) {
            self.sample.update(&line.0);
            self.next += self.step;
        }
    }

    fn whole(&mut self, lines: &[Line]) {
        self.all.update(bytemuck::cast_slice(lines));
    }

    /// Takes the sum of all from a trailer, unread.
    fn believe(&mut self, trailer: &[u8]) {
        self.believed = trailer[size_of::<Line>()..][..32].try_into().ok();
    }

    /// What stands after the lines.
    pub fn trailer(&self) -> [u8; TRAILER] {
        let mut trailer = [0; TRAILER];
        trailer[..32].copy_from_slice(self.sample.finalize().as_bytes());
        trailer[32..40].copy_from_slice(MAGIC);
        let all = self.believed.unwrap_or_else(|| *self.all.finalize().as_bytes());
        trailer[size_of::<Line>()..][..32].copy_from_slice(&all);
        trailer
    }
}

/// Adds bytes with their length, so that neighbours cannot run together.
pub fn add(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}
