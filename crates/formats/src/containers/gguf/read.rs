//! Reads one GGUF file: its header into memory, its tensors not at all.

use super::values::{Cursor, Fault, read_value};
use super::{DEFAULT_ALIGNMENT, MAX_ALIGNMENT, MAX_DIMS};
use crate::containers::layout;
use crate::encodings::by_ggml_type;
use crate::error::{DAMAGED, bytes_text, grouped, shown};
use crate::{FormatError, MappedFile, Metadata, Stored, TensorInfo, Value};
use std::path::Path;

/// One file of a checkpoint. Tensors have `file: 0`.
pub(super) struct Part {
    pub(super) file: MappedFile,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorInfo>,
}

/// The smallest key-value pair: an empty key, a type, one byte.
const MIN_PAIR_BYTES: usize = 8 + 4 + 1;
/// The smallest tensor info: an empty name, no dimensions, a type, an offset.
const MIN_INFO_BYTES: usize = 8 + 4 + 4 + 8;

/// Parses and checks the header.
pub(super) fn read_part(file: MappedFile) -> Result<Part, FormatError> {
    let path = file.path();
    let mut c = Cursor::new(file.bytes());
    let (n_tensors, n_pairs) = read_start(&mut c, path)?;
    let metadata = read_metadata(&mut c, path, n_pairs)?;
    let alignment = read_alignment(&metadata, path)?;
    let mut infos = Vec::with_capacity(n_tensors);
    for index in 0..n_tensors {
        infos.push(read_info(&mut c, path, index)?);
    }
    // The last tensor's end was checked against the file's length only after this sum.
    let data_start = c.at.next_multiple_of(alignment);
    let tensors = place(infos, data_start, alignment, &file)?;
    layout::check(&file, &tensors)?;
    Ok(Part { metadata, tensors, file })
}

/// Magic, version and the two counts.
fn read_start(c: &mut Cursor, path: &Path) -> Result<(usize, usize), FormatError> {
    let header = |fault: Fault| fault.of(path, "the header");
    c.take(4).map_err(header)?;
    let version = c.u32().map_err(header)?;
    match version {
        2 | 3 => {}
        1 => {
            return Err(FormatError::new(
                path,
                "is GGUF version 1, a layout of August 2023 that was soon replaced",
                "get a newer file of this model, or convert it anew with llama.cpp",
            ));
        }
        // A big-endian version shows its small number in the other end.
        _ if version & 0xffff == 0 => {
            return Err(FormatError::new(
                path,
                "is a big-endian GGUF file",
                "convert it to little-endian with gguf_convert_endian.py of llama.cpp",
            ));
        }
        _ => {
            return Err(FormatError::new(
                path,
                format!("is GGUF version {}, and Sterna reads 2 and 3", grouped(version)),
                "get a newer Sterna, or download the file again if it should be older",
            ));
        }
    }
    let n_tensors = c.count(MIN_INFO_BYTES).map_err(|f| f.of(path, "the tensor count"))?;
    let n_pairs = c.count(MIN_PAIR_BYTES).map_err(|f| f.of(path, "the metadata count"))?;
    Ok((n_tensors, n_pairs))
}

fn read_metadata(c: &mut Cursor, path: &Path, n_pairs: usize) -> Result<Metadata, FormatError> {
    let mut entries: Vec<(String, Value)> = Vec::with_capacity(n_pairs);
    for index in 0..n_pairs {
        let key = c.string().map_err(|f| f.of(path, &format!("metadata key number {index}")))?;
        let value = c.u32().and_then(|kind| read_value(c, kind));
        let value = value.map_err(|f| f.of(path, &format!("metadata key {}", shown(key))))?;
        entries.push((key.to_owned(), value));
    }
    Metadata::from_entries(entries).map_err(|key| {
        FormatError::new(path, format!("has the metadata key {} twice", shown(&key)), DAMAGED)
    })
}

fn read_alignment(metadata: &Metadata, path: &Path) -> Result<usize, FormatError> {
    let Some(value) = metadata.get("general.alignment") else { return Ok(DEFAULT_ALIGNMENT) };
    match metadata.u64("general.alignment") {
        Some(n) if n.is_power_of_two() && n <= MAX_ALIGNMENT as u64 => Ok(n as usize),
        found => {
            let what = found.map_or_else(|| format!("{:.40}", format!("{value:?}")), grouped);
            Err(FormatError::new(
                path,
                format!("general.alignment is {what}, not a power of two up to 2^30"),
                DAMAGED,
            ))
        }
    }
}

/// A tensor info as it stands in the file, but for the order of its dimensions.
struct Info {
    name: String,
    shape: Vec<usize>,
    ggml_type: u32,
    /// From the start of the data.
    offset: u64,
}

fn read_info(c: &mut Cursor, path: &Path, index: usize) -> Result<Info, FormatError> {
    let name = c.string().map_err(|f| f.of(path, &format!("the name of tensor number {index}")))?;
    read_rest(c, name).map_err(|f| f.of(path, &format!("tensor {}", shown(name))))
}

fn read_rest(c: &mut Cursor, name: &str) -> Result<Info, Fault> {
    let n_dims = c.u32()?;
    if n_dims as usize > MAX_DIMS {
        let problem = format!("has {} dimensions, and GGUF allows {MAX_DIMS}", grouped(n_dims));
        return Err(Fault::new(problem, DAMAGED));
    }
    let mut shape = Vec::with_capacity(n_dims as usize);
    for _ in 0..n_dims {
        let dim = c.u64()?;
        if dim == 0 || dim > i64::MAX as u64 {
            return Err(Fault::new(format!("has a dimension of {}", grouped(dim)), DAMAGED));
        }
        shape.push(dim as usize);
    }
    shape.reverse();
    Ok(Info { name: name.to_owned(), shape, ggml_type: c.u32()?, offset: c.u64()? })
}

/// Turns offsets into byte ranges of the file. The size of an unknown type is not known, so such a
/// tensor gets all bytes up to the next one.
fn place(
    infos: Vec<Info>,
    data_start: usize,
    alignment: usize,
    file: &MappedFile,
) -> Result<Vec<TensorInfo>, FormatError> {
    let len = file.bytes().len();
    let mut starts: Vec<u64> = infos.iter().map(|info| info.offset).collect();
    starts.sort_unstable();
    let mut tensors = Vec::with_capacity(infos.len());
    for Info { name, shape, ggml_type, offset } in infos {
        let bad = |problem: String| {
            FormatError::new(file.path(), format!("tensor {} {problem}", shown(&name)), DAMAGED)
        };
        if !offset.is_multiple_of(alignment as u64) {
            let at = grouped(offset);
            return Err(bad(format!("has the offset {at}, not a multiple of {alignment}")));
        }
        // Saturation keeps a hostile offset past the end, where layout::check names it.
        let start = usize::try_from(offset).unwrap_or(usize::MAX).saturating_add(data_start);
        let (stored, n_bytes) = match by_ggml_type(ggml_type) {
            Some(encoding) => {
                (Stored::Known(encoding), layout::n_bytes(&shape, encoding).map_err(bad)?)
            }
            None => {
                layout::n_values(&shape).map_err(bad)?;
                let next = starts.get(starts.partition_point(|&s| s <= offset));
                let end = next.map_or(len, |&s| (s as usize).saturating_add(data_start)).min(len);
                (Stored::Unknown(ggml_type), unknown_len(start, end, &bad)?)
            }
        };
        tensors.push(TensorInfo { name, shape, stored, file: 0, offset: start, n_bytes });
    }
    Ok(tensors)
}

fn unknown_len(
    start: usize,
    end: usize,
    bad: &dyn Fn(String) -> FormatError,
) -> Result<usize, FormatError> {
    end.checked_sub(start).filter(|&n| n > 0).ok_or_else(|| {
        bad(format!(
            "starts at byte {} but the file ends at {}",
            bytes_text(start),
            bytes_text(end)
        ))
    })
}
