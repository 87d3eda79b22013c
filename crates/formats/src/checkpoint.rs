//! A checkpoint: named tensors in mapped files, with metadata. Nothing is copied until it is used.
//!
//! In: a path. Out: a [`Checkpoint`], whose every tensor was checked to lie inside its file and
//! apart from the others, so that [`Checkpoint::bytes`] cannot fail.

use crate::error::{DAMAGED, shown};
use crate::{EncodingRef, FormatError, MappedFile, Metadata, containers};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the bytes of a tensor mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stored {
    /// An encoding Sterna knows.
    Known(EncodingRef),
    /// A GGUF type number it does not; the bytes are kept raw and named in errors.
    Unknown(u32),
    /// A safetensors type that is no encoding of weights (`I64`, `BOOL`, `F8_E4M3`, ...), kept raw.
    Other(&'static str),
}

impl std::fmt::Display for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stored::Known(encoding) => f.write_str(encoding.name()),
            Stored::Unknown(number) => write!(f, "GGUF type {number}"),
            Stored::Other(name) => f.write_str(name),
        }
    }
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

impl TensorInfo {
    /// The number of values.
    pub fn n_values(&self) -> usize {
        self.shape.iter().product()
    }

    /// The innermost dimension: values per row. A scalar is a row of one.
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }
}

/// What [`Checkpoint::open_with`] may be told beside the path.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The tokenizer file, for containers that keep it apart: llama2.c's `tokenizer.bin`, or the
    /// `tokenizer.json` of safetensors. An error for GGUF, which carries its own.
    pub tokenizer: Option<PathBuf>,
}

/// A model as found on disk.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// The path it was opened from.
    pub path: PathBuf,
    /// Its container: `gguf`, `safetensors`, `huggingface` or `llama2c`.
    pub container: &'static str,
    /// GGUF metadata (llama2.c files are described in the same keys; empty for safetensors). The
    /// `split.*` keys of a split set are gone: the parts are one checkpoint.
    pub metadata: Metadata,
    /// `config.json` of a Hugging Face directory.
    pub config: Option<serde_json::Value>,
    /// Other JSON by file name: `tokenizer_config.json`, `generation_config.json`, and the
    /// `__metadata__` of safetensors headers.
    pub side_json: BTreeMap<String, serde_json::Value>,
    /// `tokenizer.json` of a Hugging Face directory.
    pub tokenizer_json: Option<PathBuf>,
    /// The tensors in file order (of llama2.c files: layer by layer).
    pub tensors: Vec<TensorInfo>,
    /// Indices into `tensors`, sorted by name.
    pub(crate) by_name: Vec<u32>,
    pub(crate) files: Vec<MappedFile>,
}

impl Checkpoint {
    /// Opens a GGUF file (or any part of a split set), a safetensors file or index, a Hugging Face
    /// directory or a llama2.c `.bin`, told apart by content. Tensor bytes are not read.
    ///
    /// # Errors
    /// When the path is none of these, or is damaged: the message names file, place and fix.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        Self::open_with(path, &OpenOptions::default())
    }

    /// [`Checkpoint::open`] with options.
    ///
    /// # Errors
    /// As [`Checkpoint::open`], and when an option does not apply to the container.
    pub fn open_with(path: &Path, options: &OpenOptions) -> Result<Self, FormatError> {
        containers::open(path, options)
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let slot = self
            .by_name
            .binary_search_by(|&index| self.tensors[index as usize].name.as_str().cmp(name))
            .ok()?;
        Some(&self.tensors[self.by_name[slot] as usize])
    }

    /// The mapped bytes of a tensor of this checkpoint.
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        &self.files[tensor.file].bytes()[tensor.offset..tensor.offset + tensor.n_bytes]
    }

    /// The mapped files; [`TensorInfo::file`] counts in them.
    pub fn files(&self) -> &[MappedFile] {
        &self.files
    }

    /// The file a tensor lies in.
    pub fn file_of(&self, tensor: &TensorInfo) -> &MappedFile {
        &self.files[tensor.file]
    }

    /// Gives a tensor's pages back to the system; they are read again when touched again. Streaming
    /// work calls this behind itself, so that its resident set stays near one tensor.
    pub fn drop_pages(&self, tensor: &TensorInfo) {
        self.file_of(tensor).drop_pages(tensor.offset..tensor.offset + tensor.n_bytes);
    }

    /// The encoding of a tensor's numbers.
    ///
    /// # Errors
    /// When it is stored in a type that Sterna cannot compute with.
    pub fn encoding(&self, tensor: &TensorInfo) -> Result<EncodingRef, FormatError> {
        match tensor.stored {
            Stored::Known(encoding) => Ok(encoding),
            Stored::Unknown(_) | Stored::Other(_) => Err(FormatError::new(
                self.file_of(tensor).path(),
                format!(
                    "tensor {} is stored as {}, which Sterna cannot compute with",
                    shown(&tensor.name),
                    tensor.stored
                ),
                "use a file with a known encoding, e.g. F16 or Q8_0",
            )),
        }
    }

    /// Sorts the names and so finds doubles; the last step of every container.
    pub(crate) fn indexed(mut self) -> Result<Self, FormatError> {
        let tensors = &self.tensors;
        let name = |index: u32| tensors[index as usize].name.as_str();
        let mut by_name: Vec<u32> = (0..tensors.len() as u32).collect();
        by_name.sort_by(|&a, &b| name(a).cmp(name(b)));
        let double = by_name.windows(2).find(|pair| name(pair[0]) == name(pair[1]));
        if let Some(pair) = double {
            let (a, b) = (&tensors[pair[0] as usize], &tensors[pair[1] as usize]);
            let place = if a.file == b.file {
                String::new()
            } else {
                format!(" (the other is in {})", self.files[a.file].path().display())
            };
            return Err(FormatError::new(
                self.files[b.file].path(),
                format!("two tensors are named {}{place}", shown(&a.name)),
                DAMAGED,
            ));
        }
        self.by_name = by_name;
        Ok(self)
    }
}
