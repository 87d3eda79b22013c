//! The file of a segment: a header, then the bytes of some pages that follow each other.
//!
//! The header has (little-endian) magic, version, pages, pages before them, tokens per page, bytes
//! per page, the model's hash, the beginning of the chain; then all tokens from the first on, since
//! a hash alone should never decide what a page holds; a sum of each page's bytes; and a sum of the
//! header. The length of the file follows from its first bytes, so that nothing is read or reserved
//! for a file that is too short.

use super::hash::PageHash;
use std::io::{Error, ErrorKind, Read, Seek, SeekFrom};
use sterna_runtime::settings::PAGE_LEN;

/// How files begin.
pub const MAGIC: &[u8; 8] = b"STERNAkv";
const VERSION: u32 = 1;
/// Bytes before the tokens.
const FIXED: usize = 96;
/// Bytes of a sum.
const SUM: usize = 32;
/// Pages of a file, at most.
pub const MOST_PAGES: usize = 64;
/// Pages of a chain, at most: 16 million tokens.
const MOST_DEPTH: usize = 1 << 19;

/// Why a file is not used.
#[derive(Debug)]
pub enum Refusal {
    /// It is not what it should be.
    Damaged(String),
    /// The system did not give it.
    Unreadable(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof => damaged("ends too early"),
            _ => Self::Unreadable(error),
        }
    }
}

fn damaged(what: &str) -> Refusal {
    Refusal::Damaged(what.to_owned())
}

/// What a file says of its pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The model that computed them.
    pub model: PageHash,
    /// Where the chain begins.
    pub start: PageHash,
    /// Pages of the chain before them.
    pub depth: usize,
    /// All tokens from the first to the end of the last page.
    pub tokens: Vec<u32>,
    /// Bytes of a page.
    pub page_bytes: usize,
    /// A sum of each page's bytes.
    pub sums: Vec<[u8; SUM]>,
}

/// The sum of a page's bytes.
pub fn sum(page: &[u8]) -> [u8; SUM] {
    *blake3::hash(page).as_bytes()
}

/// Bytes of a file with so many pages that follow so many others.
pub fn file_len(depth: usize, n_pages: usize, page_bytes: usize) -> u64 {
    header_len(depth, n_pages) as u64 + n_pages as u64 * page_bytes as u64
}

fn header_len(depth: usize, n_pages: usize) -> usize {
    FIXED + (depth + n_pages) * PAGE_LEN * 4 + (n_pages + 1) * SUM
}

impl Header {
    /// Its bytes.
    ///
    /// # Panics
    /// When tokens and sums are not those of `depth` and some pages more.
    pub fn encode(&self) -> Vec<u8> {
        let n_pages = self.sums.len();
        assert_eq!(self.tokens.len(), (self.depth + n_pages) * PAGE_LEN);
        let mut bytes = Vec::with_capacity(header_len(self.depth, n_pages));
        bytes.extend_from_slice(MAGIC);
        for number in [VERSION, n_pages as u32, self.depth as u32, PAGE_LEN as u32] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&(self.page_bytes as u64).to_le_bytes());
        bytes.extend_from_slice(&self.model.0);
        bytes.extend_from_slice(&self.start.0);
        assert_eq!(bytes.len(), FIXED);
        bytes.extend(self.tokens.iter().flat_map(|token| token.to_le_bytes()));
        bytes.extend(self.sums.iter().flatten());
        bytes.extend_from_slice(&sum(&bytes));
        bytes
    }

    /// Reads it from the beginning of a file of `file_len` bytes.
    ///
    /// # Errors
    /// When the file is none of ours, is damaged, or cannot be read.
    pub fn read(file: &mut impl Read, file_len: u64) -> Result<Self, Refusal> {
        let mut bytes = vec![0; FIXED];
        file.read_exact(&mut bytes)?;
        if &bytes[..8] != MAGIC {
            return Err(damaged("is no file of keys and values"));
        }
        let number = |at: usize| u32_at(&bytes, at) as usize;
        let (n_pages, depth) = (number(12), number(16));
        if (number(8), number(20)) != (VERSION as usize, PAGE_LEN) {
            return Err(damaged("is of another version"));
        }
        if n_pages == 0 || n_pages > MOST_PAGES || depth > MOST_DEPTH {
            return Err(damaged("has an impossible number of pages"));
        }
        let page_bytes = u64::from(u32_at(&bytes, 24)) | u64::from(u32_at(&bytes, 28)) << 32;
        let header_len = header_len(depth, n_pages);
        let whole = page_bytes.checked_mul(n_pages as u64);
        if whole.and_then(|pages| pages.checked_add(header_len as u64)) != Some(file_len) {
            return Err(damaged("is longer or shorter than its pages"));
        }
        bytes.resize(header_len, 0);
        file.read_exact(&mut bytes[FIXED..])?;
        let (body, own_sum) = bytes.split_at(header_len - SUM);
        if sum(body) != own_sum {
            return Err(damaged("has a header that does not match its sum"));
        }
        let (tokens, sums) = body[FIXED..].split_at((depth + n_pages) * PAGE_LEN * 4);
        let hash = |at: usize| PageHash(body[at..at + 32].try_into().expect("32 bytes"));
        Ok(Self {
            model: hash(32),
            start: hash(64),
            depth,
            tokens: tokens.chunks_exact(4).map(|token| u32_at(token, 0)).collect(),
            page_bytes: page_bytes as usize,
            sums: sums.as_chunks().0.to_vec(),
        })
    }

    /// The addresses of its pages.
    pub fn hashes(&self) -> Vec<PageHash> {
        let mut hash = self.start;
        let pages = self.tokens.chunks_exact(PAGE_LEN).map(|page| {
            hash = hash.then(page);
            hash
        });
        pages.skip(self.depth).collect()
    }

    /// Reads one of its pages from the file that it is of.
    ///
    /// # Errors
    /// When its bytes are not those that were written.
    ///
    /// # Panics
    /// When there is no such page.
    pub fn read_page(
        &self,
        file: &mut (impl Read + Seek),
        page: usize,
    ) -> Result<Vec<u8>, Refusal> {
        let before = file_len(self.depth, self.sums.len(), 0) + (page * self.page_bytes) as u64;
        file.seek(SeekFrom::Start(before))?;
        let mut bytes = vec![0; self.page_bytes];
        file.read_exact(&mut bytes)?;
        match sum(&bytes) == self.sums[page] {
            true => Ok(bytes),
            false => Err(damaged("has a page that does not match its sum")),
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
