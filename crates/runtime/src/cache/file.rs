//! One file of the cache: a header of 4096 bytes (magic, version, lines, key, checksum), the lines
//! of the image, and a trailer of two lines (the sum of a sample of lines, the sum of all). It is
//! written in blocks that lie as huge pages do, so that the system may keep and map it in them.
//!
//! Loading checks the header, the trailer and the sample, in a fraction of a millisecond whatever
//! the size: it notices other versions, other sources, cut and overwritten files, but not every
//! single flipped bit. [`verify`] reads everything; `sterna doctor --program-cache` calls it.

use crate::pack::{BLOCK_LINES, Layout};
use blake3::{Hash, Hasher};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use sterna_formats::MappedFile;
use sterna_kernels::Line;

const MAGIC: &[u8; 8] = b"STERNApc";
const VERSION: u32 = 3;
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

/// Where a line begins.
pub fn at(line: usize) -> usize {
    HEADER + line * size_of::<Line>()
}

/// The lines of an image, cut where the file has multiples of a block.
pub fn blocks(n_lines: usize) -> Vec<Range<usize>> {
    let header = HEADER / size_of::<Line>();
    let cuts = (0..header + n_lines).step_by(BLOCK_LINES);
    let block = |cut: usize| cut.saturating_sub(header)..(cut + BLOCK_LINES - header).min(n_lines);
    cuts.map(block).collect()
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
    let sums = Sums::of(n_lines);
    if whole {
        sums.add(0, lines);
    } else {
        sums.add_sample(0, lines);
        // The sum of all is taken as it stands there, unread.
        let all = trailer[ALL..].first_chunk().expect("a line has 8 bytes");
        sums.all.store(u64::from_le_bytes(*all), Relaxed);
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

/// The sums of an image: of lines spread over it, and of all. A line adds the same whoever adds it
/// when, so that each worker adds what it packed.
pub struct Sums {
    sample: AtomicU64,
    all: AtomicU64,
    step: usize,
}

/// Where the trailer has the sum of all; that of the sample stands at its beginning.
const ALL: usize = size_of::<Line>();

impl Sums {
    /// For an image of so many lines.
    pub fn of(n_lines: usize) -> Self {
        let step = (n_lines / SAMPLE).max(1);
        Self { sample: AtomicU64::new(0), all: AtomicU64::new(0), step }
    }

    /// Adds lines `start..`.
    pub fn add(&self, start: usize, lines: &[Line]) {
        let sum =
            (start..).zip(lines).fold(0, |sum: u64, (at, line)| sum.wrapping_add(mix(at, line)));
        self.all.fetch_add(sum, Relaxed);
        self.add_sample(start, lines);
    }

    /// Adds those of lines `start..` that belong to the sample.
    fn add_sample(&self, start: usize, lines: &[Line]) {
        let first = start.next_multiple_of(self.step);
        for at in (first..start + lines.len()).step_by(self.step) {
            self.sample.fetch_add(mix(at, &lines[at - start]), Relaxed);
        }
    }

    /// What stands after the lines.
    pub fn trailer(&self) -> [u8; TRAILER] {
        let mut trailer = [0; TRAILER];
        trailer[..8].copy_from_slice(&self.sample.load(Relaxed).to_le_bytes());
        trailer[8..16].copy_from_slice(MAGIC);
        trailer[ALL..ALL + 8].copy_from_slice(&self.all.load(Relaxed).to_le_bytes());
        trailer
    }
}

/// What a line adds to a sum, 64 bits of which each depends on all of the line and on its place.
/// It finds damage, at the speed of memory; against forgery the cache has its owner's permissions.
fn mix(at: usize, line: &Line) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let words: &[u64; 8] = bytemuck::cast_ref(line);
    // Each round is one-to-one in the word it adds, so no single change is lost.
    let round = |sum: u64, word: &u64| {
        let product = (sum ^ word).wrapping_mul(ODD);
        product ^ product >> 32
    };
    round(words.iter().fold(at as u64, round), &ODD)
}

/// Adds bytes with their length, so that neighbours cannot run together.
pub fn add(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_who_adds_what_when() {
        let n_lines = 3 * BLOCK_LINES + 5;
        let lines: Vec<Line> = (0..n_lines).map(|i| Line([(i * 37 % 251) as u8; 64])).collect();
        let whole = Sums::of(n_lines);
        whole.add(0, &lines);
        let parts = Sums::of(n_lines);
        let blocks = blocks(n_lines);
        assert!(blocks.iter().skip(1).all(|block| at(block.start).is_multiple_of(2 << 20)));
        assert_eq!(blocks.iter().map(Range::len).sum::<usize>(), n_lines);
        for block in blocks.into_iter().rev() {
            parts.add(block.start, &lines[block]);
        }
        assert_eq!(parts.trailer(), whole.trailer());
        let mut swapped = lines;
        swapped.swap(1, 2);
        let other = Sums::of(n_lines);
        other.add(0, &swapped);
        assert_ne!(other.trailer(), whole.trailer(), "a line's place counts");
    }
}
