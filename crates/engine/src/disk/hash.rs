//! Addresses of pages: a chain of hashes over everything that decides their numbers.
//!
//! The beginning is the model's, then the salt's; each page adds its tokens. Two processes that
//! would compute the same bits have the same addresses, whatever their ISA and number of threads.

use blake3::Hasher;
use sterna_runtime::settings::PAGE_LEN;

/// Stands for a page and all that comes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageHash(pub [u8; 32]);

impl PageHash {
    /// Of a model, by what tells it apart.
    pub fn of_model(parts: &[&[u8]]) -> Self {
        let mut hasher = Hasher::new_derive_key("sterna keys and values: model");
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// Where chains of a salt begin. The salt itself cannot be told from it.
    pub fn with_salt(self, salt: Option<&str>) -> Self {
        let mut hasher = Hasher::new_derive_key("sterna keys and values: salt");
        hasher.update(&self.0);
        hasher.update(&[u8::from(salt.is_some())]);
        hasher.update(salt.unwrap_or_default().as_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// Of the page that follows, which holds these tokens.
    pub fn then(self, tokens: &[u32]) -> Self {
        assert_eq!(tokens.len(), PAGE_LEN, "only whole pages have an address");
        let mut hasher = Hasher::new_derive_key("sterna keys and values: page");
        hasher.update(&self.0);
        for token in tokens {
            hasher.update(&token.to_le_bytes());
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// As text, for names of files.
    pub fn hex(self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }
}

/// A segment: some pages that follow each other. Equal names have equal pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentId {
    /// Pages of the chain before it.
    pub depth: u32,
    /// Its last page.
    pub last: PageHash,
}

/// How names of segments end.
const ENDING: &str = ".kv";

impl SegmentId {
    /// The name of its file.
    pub fn file_name(self) -> String {
        format!("{:08x}-{}{ENDING}", self.depth, self.last.hex())
    }

    /// The segment of a file's name, if it is one.
    pub fn of_file_name(name: &str) -> Option<Self> {
        let (depth, last) = name.strip_suffix(ENDING)?.split_once('-')?;
        let depth = u32::from_str_radix(depth, 16).ok()?;
        let last = PageHash(*blake3::Hash::from_hex(last).ok()?.as_bytes());
        let id = Self { depth, last };
        (id.file_name() == name).then_some(id)
    }
}
