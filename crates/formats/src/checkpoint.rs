//! A checkpoint: named tensors in mapped files, with metadata. Nothing is copied until it is used.

use crate::{EncodingRef, FormatError, Metadata};
use std::path::{Path, PathBuf};

/// What the bytes of a tensor mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stored {
    /// An encoding Sterna knows.
    Known(EncodingRef),
    /// A GGUF type number it does not; the bytes are kept raw and named in errors.
    Unknown(u32),
}

/// Where a tensor is and what shape it has.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    /// The tensor's name in its file.
    pub name: String,
    /// Shape with the outermost dimension first (`[rows, cols]`; GGUF files store the reverse).
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub stored: Stored,
    /// Index of the mapped file it lies in.
    pub file: usize,
    /// Byte range in that file.
    pub offset: usize,
    /// Length in bytes.
    pub n_bytes: usize,
}

/// A model as found on disk.
pub struct Checkpoint {
    /// The path it was opened from.
    pub path: PathBuf,
    /// Its container: `gguf`, `safetensors`, `huggingface` or `llama2c`.
    pub container: &'static str,
    /// GGUF metadata (llama2.c files are described in the same keys; empty for safetensors).
    pub metadata: Metadata,
    /// `config.json` of a Hugging Face directory.
    pub config: Option<serde_json::Value>,
    /// `tokenizer.json` (or the directory it would be in) of a Hugging Face directory.
    pub tokenizer_json: Option<PathBuf>,
    /// The tensors in file order.
    pub tensors: Vec<TensorInfo>,
}

impl Checkpoint {
    /// Opens a GGUF file (or the first of a split set), a safetensors file, a Hugging Face directory
    /// or a llama2.c `.bin`, told apart by content.
    ///
    /// # Errors
    /// When the path is none of these, or is damaged: the message names file, place and fix.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        Err(FormatError::new(path, "not yet readable", "wait for the containers"))
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|t| t.name == name)
    }

    /// The mapped bytes of a tensor of this checkpoint.
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        let _ = tensor;
        unimplemented!("the containers land with their files")
    }
}
