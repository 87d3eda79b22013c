//! Bytes to named tensors and back.
//!
//! In: a path to a model file or directory. Out: a [`Checkpoint`], metadata and tensors by name,
//! each with the [`Encoding`](encodings::Encoding) of its numbers. Encodings are one file each
//! under `encodings/`, containers one file each under `containers/`. What a model *is* belongs to
//! `model`.
#![deny(unsafe_code)]

pub mod atomic;
pub mod checkpoint;
pub mod containers;
pub mod encodings;
pub mod error;
pub mod metadata;
pub mod summary;
pub mod ternary;
mod validate;
// The one address of unsafe code in this crate.
#[allow(unsafe_code)]
pub mod mmap;

pub use atomic::AtomicFile;
pub use checkpoint::{Checkpoint, OpenOptions, Stored, TensorInfo};
pub use containers::gguf::write::{GgufWriter, TensorDecl};
pub use encodings::{Encoding, EncodingRef};
pub use error::FormatError;
pub use metadata::{Array, Metadata, Value};
pub use mmap::MappedFile;
pub use summary::Summary;
pub use ternary::{binarize, ternarize};
