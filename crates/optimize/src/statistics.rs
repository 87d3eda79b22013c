//! The file of calibration statistics: llama-imatrix's GGUF form, with more beside it that its
//! readers pass over.
//!
//! In: what was observed. Out: `NAME.in_sum2` and `NAME.counts` for each matrix, as llama.cpp reads
//! them; `NAME.in_max`, the largest magnitude per channel; and under `sterna.calibration.*` the
//! text's hash, its tokens and the ranges.

use crate::error::{OptimizeError, Result};
use crate::observe::{Input, Observed};
use crate::passes::int8::Ranges;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use sterna_formats::encodings::by_name;
use sterna_formats::{Array, Checkpoint, GgufWriter, Metadata, TensorDecl, Value};
use sterna_measure::quality::Passages;

/// The text that statistics are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Text {
    /// The file's name.
    pub name: String,
    /// Hash of its tokens.
    pub hash: String,
    /// Documents.
    pub n_documents: usize,
    /// Tokens, a BOS before each document among them.
    pub n_tokens: usize,
}

impl Text {
    /// Of passages.
    pub fn of(path: &Path, passages: &Passages) -> Self {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Self {
            name,
            hash: passages.workload().hash().to_owned(),
            n_documents: passages.len(),
            n_tokens: passages.iter().map(|passage| passage.tokens.len()).sum(),
        }
    }
}

/// Levels of one sign of an 8-bit integer.
const INT8_LEVELS: usize = 128;

/// What is told of an input, and kept in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The matrices that read it.
    pub matrices: Vec<String>,
    /// Rows seen.
    pub rows: u64,
    /// Channels.
    pub channels: usize,
    /// Channels that were always zero.
    pub dead_channels: usize,
    /// Numbers that were NaN or infinite.
    pub bad: u64,
    /// The largest magnitude.
    pub largest: f32,
    /// What 99.9% of magnitudes are no larger than.
    pub p99_9: f32,
    /// The range in which 8-bit integers tell most by KL divergence.
    pub entropy_int8: f32,
    /// Root mean square of the largest channel over the median's; null where that is zero.
    pub outlier: Option<f64>,
}

impl Line {
    /// Of an input.
    pub fn of(input: &Input) -> Self {
        let magnitudes = &input.magnitudes;
        Self {
            matrices: input.matrices.clone(),
            rows: input.n_rows,
            channels: input.sum2.len(),
            dead_channels: input.n_dead(),
            bad: magnitudes.n_bad(),
            largest: magnitudes.largest(),
            p99_9: magnitudes.percentile(0.999),
            entropy_int8: magnitudes.entropy_range(INT8_LEVELS),
            outlier: input.outlier(),
        }
    }
}

/// The key of the [`Line`]s, as JSON.
const RANGES_KEY: &str = "sterna.calibration.ranges";

/// The ranges that a file of statistics gives its matrices, chosen so.
///
/// # Errors
/// When it cannot be read, or is not Sterna's and has no ranges.
pub fn ranges(path: &Path, how: Ranges) -> Result<BTreeMap<String, f32>> {
    let checkpoint = Checkpoint::open(path)?;
    let text = checkpoint.metadata.str(RANGES_KEY).unwrap_or_default();
    let lines: Vec<Line> = serde_json::from_str(text).map_err(|_| {
        OptimizeError::Input(format!(
            "{}: it has no ranges of inputs; make it with `sterna calibrate`",
            path.display()
        ))
    })?;
    let of = |line: Line| {
        let range = match how {
            Ranges::MinMax => line.largest,
            Ranges::Percentile => line.p99_9,
            Ranges::Entropy => line.entropy_int8,
        };
        line.matrices.into_iter().map(move |name| (name, range))
    };
    Ok(lines.into_iter().flat_map(of).collect())
}

/// Writes the file, whole or not at all. The same statistics give the same bytes.
///
/// # Errors
/// When the system refuses it, or a name is too long for GGUF.
pub fn write(path: &Path, observed: &Observed, text: &Text, lines: &[Line]) -> Result<()> {
    let longest = text.n_tokens.div_ceil(text.n_documents.max(1));
    let lines = serde_json::to_string(lines)
        .map_err(|error| OptimizeError::failed("writing the ranges", error))?;
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut metadata = Metadata::default();
    for (key, value) in [
        ("general.type", Value::Str("imatrix".into())),
        ("imatrix.datasets", Value::Array(Array::Str(vec![text.name.clone()]))),
        ("imatrix.chunk_count", Value::U32(count(text.n_documents))),
        ("imatrix.chunk_size", Value::U32(count(longest))),
        ("sterna.calibration.hash", Value::Str(text.hash.clone())),
        ("sterna.calibration.n_tokens", Value::U64(text.n_tokens as u64)),
        (RANGES_KEY, Value::Str(lines)),
    ] {
        metadata.set(key, value);
    }
    let mut tensors: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for input in &observed.inputs {
        for name in &input.matrices {
            let sums = input.sum2.iter().map(|&sum| sum as f32).collect();
            tensors.insert(format!("{name}.in_sum2"), sums);
            tensors.insert(format!("{name}.counts"), vec![input.n_rows as f32]);
            tensors.insert(format!("{name}.in_max"), input.largest.clone());
        }
    }
    let encoding = by_name("F32").expect("it is one of them");
    let decls = tensors.iter().map(|(name, values)| TensorDecl {
        name: name.clone(),
        shape: vec![values.len()],
        encoding,
    });
    let mut writer = GgufWriter::create(path, &metadata, decls.collect())?;
    for values in tensors.values() {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        writer.write_tensor(&bytes)?;
    }
    Ok(writer.finish()?)
}
