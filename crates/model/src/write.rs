//! A model becomes a file: the only way in which one does.
//!
//! In: a model, the source of its weights' bytes, and metadata to add. Out: a GGUF file that other
//! engines load, written tensor by tensor and put in place whole. Same input, same bytes.

use crate::artifact::no_hash;
use crate::plan::{ContentHasher, inputs};
use crate::{Graph, Model, WeightSource};
use std::collections::BTreeMap;
use std::path::Path;
use sterna_formats::{FormatError, GgufWriter, Metadata, TensorDecl, Value};

/// `general.file_type` of a file most of whose weights have an encoding. Readers only display it.
const FILE_TYPES: &[(&str, u32)] = &[
    ("F32", 0),
    ("F16", 1),
    ("Q4_0", 2),
    ("Q4_1", 3),
    ("Q8_0", 7),
    ("Q5_0", 8),
    ("Q5_1", 9),
    ("Q2_K", 10),
    ("Q3_K", 12),
    ("Q4_K", 15),
    ("Q5_K", 17),
    ("Q6_K", 18),
    ("IQ4_NL", 25),
    ("IQ4_XS", 30),
    ("BF16", 32),
    ("TQ1_0", 36),
    ("TQ2_0", 37),
];

/// `general.quantization_version`: the layout of block encodings, 2 since 2023.
const QUANTIZATION_VERSION: u32 = 2;

/// Writes `model` with the bytes of `source` to `path`; of `graph` is how its layers see their
/// inputs ([`inputs`]). `progress` is told the bytes written so far and in all.
///
/// # Errors
/// When a weight's rows do not divide into its encoding's blocks, or the system refuses the file.
pub fn write_gguf(
    path: &Path,
    model: &Model,
    graph: &Graph,
    source: &dyn WeightSource,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), FormatError> {
    let native = model.arch.graph(&model.config).expect("the model was opened with it");
    let ranges = inputs::of(graph, &native);
    let mut extra = Metadata::default();
    if !ranges.is_empty() {
        extra.set(inputs::KEY, Value::Str(inputs::print(&ranges)));
    }
    let sealed = Sealed { extra: &extra, hash_key: None };
    write_sealed(path, Subject::of(model), source, &sealed, progress).map(|_| ())
}

/// Writes a model that was never on disk: a graph, and the metadata that describes it.
///
/// # Errors
/// As [`write_gguf`].
pub fn write_new_gguf(
    path: &Path,
    graph: &Graph,
    metadata: &Metadata,
    source: &dyn WeightSource,
) -> Result<(), FormatError> {
    let sealed = Sealed { extra: &Metadata::default(), hash_key: None };
    write_sealed(path, Subject { graph, metadata }, source, &sealed, &mut |_, _| ()).map(|_| ())
}

/// What is written: a graph, and the metadata that describes it.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub graph: &'a Graph,
    pub metadata: &'a Metadata,
}

impl<'a> Subject<'a> {
    pub fn of(model: &'a Model) -> Self {
        Self { graph: &model.graph, metadata: &model.metadata }
    }
}

/// Metadata to add, and where the content hash goes.
pub(crate) struct Sealed<'a> {
    /// Keys that replace the model's.
    pub extra: &'a Metadata,
    /// The key that gets the content hash, which is known after the last tensor.
    pub hash_key: Option<&'static str>,
}

/// [`write_gguf`], giving the content hash of what was written.
pub(crate) fn write_sealed(
    path: &Path,
    model: Subject<'_>,
    source: &dyn WeightSource,
    sealed: &Sealed<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<String, FormatError> {
    let graph = model.graph;
    let declare = |id| {
        let decl = graph.decl(id);
        let (name, shape) = (decl.name.clone(), decl.shape.clone());
        TensorDecl { name, shape, encoding: source.encoding(id) }
    };
    let decls: Vec<TensorDecl> = graph.weight_ids().map(declare).collect();
    let mut writer = GgufWriter::create(path, &metadata(model, source, sealed), decls)?;
    let mut hasher = ContentHasher::default();
    let total = graph.memory(source).total();
    let mut done = 0;
    for id in graph.weight_ids() {
        let weight = source.weight(id);
        writer.write_tensor(&weight.bytes)?;
        hasher.add(graph.decl(id), &weight);
        done += weight.bytes.len() as u64;
        drop(weight);
        source.release(id);
        progress(done, total);
    }
    let hash = hasher.finish();
    if let Some(key) = sealed.hash_key {
        writer.replace_string(key, &hash)?;
    }
    writer.finish()?;
    Ok(hash)
}

fn metadata(model: Subject<'_>, source: &dyn WeightSource, sealed: &Sealed<'_>) -> Metadata {
    let mut metadata = Metadata::default();
    // What another artifact said of itself does not hold of this file.
    for (key, value) in model.metadata.iter().filter(|(key, _)| !key.starts_with("sterna.")) {
        metadata.set(key, value.clone());
    }
    let mut bytes_by_encoding: BTreeMap<&str, usize> = BTreeMap::new();
    let mut has_blocks = false;
    for id in model.graph.weight_ids() {
        let (rows, cols) = model.graph.decl(id).matrix();
        let encoding = source.encoding(id);
        if model.graph.decl(id).role.is_matrix() && encoding.fits(cols) {
            *bytes_by_encoding.entry(encoding.name()).or_default() += rows * cols;
            has_blocks |= encoding.grid().is_some();
        }
    }
    let most = bytes_by_encoding.iter().max_by_key(|(_, n)| **n).map(|(name, _)| *name);
    let file_type = FILE_TYPES.iter().find(|(name, _)| Some(*name) == most);
    match file_type {
        Some((_, number)) => metadata.set("general.file_type", Value::U32(*number)),
        None => metadata.remove("general.file_type"),
    }
    if has_blocks {
        metadata.set("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
    }
    for (key, value) in sealed.extra.iter() {
        metadata.set(key, value.clone());
    }
    if let Some(key) = sealed.hash_key {
        metadata.set(key, Value::Str(no_hash()));
    }
    metadata
}
