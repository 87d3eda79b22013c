//! How large a GGUF file will be, before it is written.
//!
//! In: its metadata, and a draft. Out: bytes, exactly those the writer will write; a test holds the
//! two together.

use crate::fit;
use sterna_formats::{Array, Metadata, Value};
use sterna_model::{Graph, WeightSource};

/// Tensors begin at multiples of this, unless the metadata says otherwise.
const ALIGNMENT: usize = 32;
/// Magic, version, and two counts.
const FIXED_BYTES: usize = 4 + 4 + 8 + 8;
/// The length before a string.
const LENGTH_BYTES: usize = 8;

/// Bytes of the whole file, with the model's metadata and what the writer adds to it.
pub fn file_bytes(metadata: &Metadata, graph: &Graph, weights: &dyn WeightSource) -> u64 {
    let metadata = &as_written(metadata, graph, weights);
    let alignment = alignment(metadata);
    let tensors: usize = graph
        .weight_ids()
        .map(|id| {
            let (rows, cols) = graph.decl(id).matrix();
            (rows * weights.encoding(id).row_bytes(cols)).next_multiple_of(alignment)
        })
        .sum();
    (header_bytes(metadata, graph).next_multiple_of(alignment) + tensors) as u64
}

/// The metadata with the keys that the writer sets for every file, and without those of artifacts.
fn as_written(metadata: &Metadata, graph: &Graph, weights: &dyn WeightSource) -> Metadata {
    let mut written = Metadata::default();
    for (key, value) in metadata.iter().filter(|(key, _)| !key.starts_with("sterna.")) {
        written.set(key, value.clone());
    }
    written.set("general.file_type", Value::U32(0));
    let is_block = |id| weights.encoding(id).grid().is_some();
    if graph.weight_ids().any(|id| fit::is_matrix(graph.decl(id)) && is_block(id)) {
        written.set("general.quantization_version", Value::U32(0));
    }
    written
}

/// Where the file's tensors begin.
fn alignment(metadata: &Metadata) -> usize {
    metadata.u64("general.alignment").map_or(ALIGNMENT, |n| n as usize).max(1)
}

/// Bytes before the tensors, unpadded: metadata and the list of tensors.
fn header_bytes(metadata: &Metadata, graph: &Graph) -> usize {
    let entries = metadata.iter().map(|(key, value)| entry_bytes(key, value));
    let tensor = |w: &sterna_model::WeightDecl| {
        // Name, number of dimensions, dimensions, type, offset.
        LENGTH_BYTES + w.name.len() + 4 + 8 * w.shape.len() + 4 + 8
    };
    FIXED_BYTES + entries.sum::<usize>() + graph.weights.iter().map(tensor).sum::<usize>()
}

/// Bytes of a key with its value.
pub fn entry_bytes(key: &str, value: &Value) -> usize {
    LENGTH_BYTES + key.len() + 4 + value_bytes(value)
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::U8(_) | Value::I8(_) | Value::Bool(_) => 1,
        Value::U16(_) | Value::I16(_) => 2,
        Value::U32(_) | Value::I32(_) | Value::F32(_) => 4,
        Value::U64(_) | Value::I64(_) | Value::F64(_) => 8,
        Value::Str(text) => LENGTH_BYTES + text.len(),
        Value::Array(array) => array_bytes(array),
    }
}

/// Element type, count, elements.
fn array_bytes(array: &Array) -> usize {
    4 + 8
        + match array {
            Array::U8(v) => v.len(),
            Array::I8(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::U16(v) => v.len() * 2,
            Array::I16(v) => v.len() * 2,
            Array::U32(v) => v.len() * 4,
            Array::I32(v) => v.len() * 4,
            Array::F32(v) => v.len() * 4,
            Array::U64(v) => v.len() * 8,
            Array::I64(v) => v.len() * 8,
            Array::F64(v) => v.len() * 8,
            Array::Str(v) => v.iter().map(|text| LENGTH_BYTES + text.len()).sum(),
            Array::Nested(v) => v.iter().map(array_bytes).sum(),
        }
}
