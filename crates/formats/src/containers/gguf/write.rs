//! Writes GGUF version 3: the header at once, then the tensors' bytes as they come.
//!
//! In: metadata, declarations, then bytes in the order of the declarations, in pieces of any size.
//! Out: a file that appears whole or not at all. The same input gives the same bytes.

use super::values::{kind_of, write_string, write_value};
use super::{DEFAULT_ALIGNMENT, MAGIC, MAX_ALIGNMENT, MAX_DIMS};
use crate::atomic::AtomicFile;
use crate::containers::layout;
use crate::error::{bytes_text, shown};
use crate::{EncodingRef, FormatError, Metadata, Value};
use std::path::Path;

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct TensorDecl {
    /// Its name: unique, at most 63 bytes.
    pub name: String,
    /// Its shape, outermost dimension first, at most four.
    pub shape: Vec<usize>,
    /// How its bytes store its numbers.
    pub encoding: EncodingRef,
}

impl TensorDecl {
    /// The number of bytes to be written for it.
    ///
    /// # Errors
    /// What is wrong with the shape, e.g. that its rows do not divide into blocks.
    pub fn n_bytes(&self) -> Result<usize, String> {
        layout::n_bytes(&self.shape, self.encoding)
    }
}

/// A GGUF file being written.
#[derive(Debug)]
pub struct GgufWriter {
    file: AtomicFile,
    alignment: usize,
    /// Key, place and length of each string of the metadata.
    strings: Vec<(String, usize, usize)>,
    tensors: Vec<(String, usize)>,
    /// The tensor that takes the next bytes, and how many of its bytes are written.
    current: usize,
    written: usize,
}

/// ggml keeps names in 64 bytes, the last of them zero.
const MAX_NAME_LEN: usize = 63;

impl GgufWriter {
    /// Starts a file and writes its header. Tensors are aligned to `general.alignment` of the
    /// metadata, to 32 without it.
    ///
    /// # Errors
    /// When a declaration is impossible, or the system refuses the file.
    pub fn create(
        path: &Path,
        metadata: &Metadata,
        tensors: Vec<TensorDecl>,
    ) -> Result<Self, FormatError> {
        let alignment = alignment(path, metadata)?;
        let sizes = sizes(path, &tensors)?;
        let mut file = AtomicFile::create(path)?;
        let mut strings = Vec::new();
        file.write(&header(metadata, &tensors, &sizes, alignment, &mut strings))?;
        let tensors = tensors.into_iter().map(|t| t.name).zip(sizes).collect();
        Ok(Self { file, alignment, strings, tensors, current: 0, written: 0 })
    }

    /// The name of the tensor that the next bytes belong to; `None` when all are complete.
    pub fn next_tensor(&self) -> Option<&str> {
        self.tensors.get(self.current).map(|(name, _)| name.as_str())
    }

    /// Appends bytes to the current tensor; the next one becomes current when it is complete.
    ///
    /// # Errors
    /// When the system refuses, e.g. for a full disk.
    ///
    /// # Panics
    /// When the bytes go past the end of the current tensor: the caller's count is wrong.
    pub fn write_tensor(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        let (name, n_bytes) = self.tensors.get(self.current).expect("all tensors are complete");
        assert!(
            bytes.len() <= n_bytes - self.written,
            "tensor {name} takes {n_bytes} bytes, got {} more after {}",
            bytes.len(),
            self.written
        );
        self.file.write(bytes)?;
        self.written += bytes.len();
        if self.written == *n_bytes {
            self.file.write(&vec![0; n_bytes.next_multiple_of(self.alignment) - n_bytes])?;
            self.current += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// Replaces a string of the metadata by one of the same length: what is known only after the
    /// tensors are written, such as their hash.
    ///
    /// # Errors
    /// When the system refuses.
    ///
    /// # Panics
    /// When the metadata has no string of that key and length.
    pub fn replace_string(&mut self, key: &str, value: &str) -> Result<(), FormatError> {
        let of_key = |(k, _, len): &&(String, usize, usize)| k == key && *len == value.len();
        let (_, at, _) = self.strings.iter().find(of_key).expect("a string to replace");
        self.file.overwrite(*at as u64, value.as_bytes())
    }

    /// Makes the file durable and puts it in its place.
    ///
    /// # Errors
    /// When the system refuses; nothing is left behind then.
    ///
    /// # Panics
    /// When a tensor is not complete.
    pub fn finish(self) -> Result<(), FormatError> {
        if let Some((name, n_bytes)) = self.tensors.get(self.current) {
            panic!("tensor {name} takes {n_bytes} bytes, got {}", self.written);
        }
        self.file.finish()
    }
}

fn alignment(path: &Path, metadata: &Metadata) -> Result<usize, FormatError> {
    match (metadata.get("general.alignment"), metadata.u64("general.alignment")) {
        (None, _) => Ok(DEFAULT_ALIGNMENT),
        (_, Some(n)) if n.is_power_of_two() && n <= MAX_ALIGNMENT as u64 => Ok(n as usize),
        _ => Err(FormatError::new(
            path,
            "cannot be written with this general.alignment",
            "set it to a power of two up to 2^30",
        )),
    }
}

/// The bytes of each tensor, after checking what the format cannot hold.
fn sizes(path: &Path, tensors: &[TensorDecl]) -> Result<Vec<usize>, FormatError> {
    let mut names = std::collections::HashSet::new();
    let mut sizes = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let problem = match tensor.n_bytes() {
            Ok(0) => "has no values".to_owned(),
            Ok(_) if tensor.shape.len() > MAX_DIMS => {
                format!("has {} dimensions, and GGUF allows {MAX_DIMS}", tensor.shape.len())
            }
            Ok(_) if tensor.name.len() > MAX_NAME_LEN => format!(
                "has a name of {} bytes, and GGUF allows {MAX_NAME_LEN}",
                bytes_text(tensor.name.len())
            ),
            Ok(_) if !names.insert(tensor.name.as_str()) => "is declared twice".to_owned(),
            Ok(n_bytes) => {
                sizes.push(n_bytes);
                continue;
            }
            Err(problem) => problem,
        };
        let problem = format!("tensor {} {problem}", shown(&tensor.name));
        return Err(FormatError::new(path, problem, "change the tensor or leave it out"));
    }
    Ok(sizes)
}

fn header(
    metadata: &Metadata,
    tensors: &[TensorDecl],
    sizes: &[usize],
    alignment: usize,
    strings: &mut Vec<(String, usize, usize)>,
) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(MAGIC);
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        write_string(&mut out, key);
        out.extend(kind_of(value).to_le_bytes());
        write_value(&mut out, value);
        if let Value::Str(text) = value {
            strings.push((key.to_owned(), out.len() - text.len(), text.len()));
        }
    }
    let mut offset = 0usize;
    for (tensor, size) in tensors.iter().zip(sizes) {
        write_string(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|&dim| out.extend((dim as u64).to_le_bytes()));
        out.extend(tensor.encoding.ggml_type().to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset += size.next_multiple_of(alignment);
    }
    out.resize(out.len().next_multiple_of(alignment), 0);
    out
}
