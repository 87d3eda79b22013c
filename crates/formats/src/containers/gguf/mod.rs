//! GGUF, the container of llama.cpp: typed metadata, then tensors, in one file or split into parts.
//!
//! `read` parses a part, `split` joins parts, `values` codes metadata values, `write` makes files.
//! Layout: magic, version, counts, key-value pairs, tensor infos (dimensions innermost first),
//! padding to `general.alignment`, then the tensors' bytes at offsets relative to there.
//! Source: the GGUF specification of the ggml project (docs/gguf.md), versions 2 and 3.

pub mod read;
pub mod split;
mod values;
pub mod write;

use super::{Container, Source};
use crate::{Checkpoint, FormatError, OpenOptions};

/// The container.
pub struct Gguf;

/// The first four bytes.
pub const MAGIC: [u8; 4] = *b"GGUF";
/// Tensors start at multiples of this unless `general.alignment` says otherwise.
pub const DEFAULT_ALIGNMENT: usize = 32;
/// More than any page or device needs; beyond it the value is damage.
pub(crate) const MAX_ALIGNMENT: usize = 1 << 30;
/// ggml's own bound.
pub(crate) const MAX_DIMS: usize = 4;

impl Container for Gguf {
    fn name(&self) -> &'static str {
        "gguf"
    }

    fn recognizes(&self, source: &Source) -> bool {
        source.bytes().starts_with(&MAGIC)
    }

    fn open(&self, source: Source, options: &OpenOptions) -> Result<Checkpoint, FormatError> {
        if options.tokenizer.is_some() {
            let fix = "leave the tokenizer option out";
            return Err(FormatError::new(source.path(), "carries its own tokenizer", fix));
        }
        let part = read::read_part(source.into_file())?;
        split::join(part)
    }
}

#[cfg(test)]
mod tests;
