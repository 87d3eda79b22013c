//! safetensors: a JSON header, then the tensors' bytes; alone, or as shards under an index.
//!
//! Layout: the header's length (u64), the header `{name: {dtype, shape, data_offsets}, ...,
//! "__metadata__": {..}}`, the data. The entries are parsed by the reference crate's own types; the
//! rules (no overlap, no gap, sizes that agree) are checked here, so that each break has its
//! sentence and no arithmetic can overflow. Source: huggingface/safetensors, README "Format".

use super::{Container, Source, layout};
use crate::encodings::by_name;
use crate::error::{DAMAGED, TRUNCATED, bytes_text, grouped, shown};
use crate::{Checkpoint, FormatError, MappedFile, OpenOptions, Stored, TensorInfo};
use safetensors::tensor::{Dtype, TensorInfo as Entry};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

/// The container.
pub struct Safetensors;

/// The name of the file that lists which shard has which tensor.
pub const INDEX_NAME: &str = "model.safetensors.index.json";

/// The reference implementation's own bound.
const MAX_HEADER_LEN: u64 = 100_000_000;
/// An index of 91,000 tensors (DeepSeek V3) has 9 MB.
const MAX_INDEX_LEN: usize = 64 << 20;

impl Container for Safetensors {
    fn name(&self) -> &'static str {
        "safetensors"
    }

    fn recognizes(&self, source: &Source) -> bool {
        has_header(source) || source.has_extension("safetensors") || is_index(source)
    }

    fn open(&self, source: Source, options: &OpenOptions) -> Result<Checkpoint, FormatError> {
        let mut checkpoint = Checkpoint {
            path: source.path().to_owned(),
            container: self.name(),
            tokenizer_json: options.tokenizer.clone(),
            ..Checkpoint::default()
        };
        if is_index(&source) {
            add_shards(&mut checkpoint, &source.into_file())?;
        } else {
            add_file(&mut checkpoint, source.into_file())?;
        }
        checkpoint.indexed()
    }
}

/// Whether a file begins like safetensors: a length that fits 32 bits, then an object.
pub(super) fn has_header(source: &Source) -> bool {
    matches!(source.bytes(), [_, _, _, _, 0, 0, 0, 0, b'{', ..])
}

/// Whether a file is a shard index, by its name.
pub(super) fn is_index(source: &Source) -> bool {
    let name = source.path().file_name().and_then(|name| name.to_str());
    matches!(source, Source::File(_))
        && name.is_some_and(|name| name.ends_with(".safetensors.index.json"))
}

/// Adds one file's tensors.
pub(super) fn add_file(to: &mut Checkpoint, file: MappedFile) -> Result<(), FormatError> {
    let (header, data_start) = read_header(&file)?;
    let mut tensors = Vec::with_capacity(header.entries.len());
    for (name, entry) in header.entries {
        let stored = stored(entry.dtype);
        let (start, end) = entry.data_offsets;
        let n_bytes = check_entry(&entry).map_err(|problem| {
            let problem = format!("tensor {} {problem}", shown(&name));
            FormatError::new(file.path(), problem, DAMAGED)
        })?;
        debug_assert_eq!(n_bytes, end - start);
        let offset = start.saturating_add(data_start);
        let shape = entry.shape;
        tensors.push(TensorInfo { name, shape, stored, file: to.files.len(), offset, n_bytes });
    }
    layout::check(&file, &tensors)?;
    tensors.sort_by(|a, b| (a.offset, &a.name).cmp(&(b.offset, &b.name)));
    check_no_gaps(&file, &tensors, data_start)?;
    if let Some(metadata) = header.metadata {
        let name = file.path().file_name().unwrap_or_default().to_string_lossy();
        to.side_json.insert(format!("{name}:__metadata__"), serde_json::json!(metadata));
    }
    to.tensors.append(&mut tensors);
    to.files.push(file);
    Ok(())
}

/// Adds the shards that an index names.
pub(super) fn add_shards(to: &mut Checkpoint, index: &MappedFile) -> Result<(), FormatError> {
    let weight_map = read_index(index)?;
    let shards: BTreeSet<&str> = weight_map.values().map(String::as_str).collect();
    let mut file_of_shard = BTreeMap::new();
    for shard in shards {
        let plain = matches!(
            Path::new(shard).components().collect::<Vec<_>>().as_slice(),
            [Component::Normal(_)]
        );
        if !plain || shard.contains(['/', '\\']) {
            return Err(FormatError::new(
                index.path(),
                format!("names the shard {}, which is not in its own directory", shown(shard)),
                "do not use this download: an index has no reason to point elsewhere",
            ));
        }
        let path = index.path().with_file_name(shard);
        if !path.exists() {
            let problem = format!("is missing, but {} names it", index.path().display());
            return Err(FormatError::new(&path, problem, "download this shard too"));
        }
        file_of_shard.insert(shard, to.files.len());
        add_file(to, MappedFile::open(&path)?)?;
    }
    check_index(to, index, &weight_map, &file_of_shard)
}

/// Every tensor of the index is in the shard that it names.
fn check_index(
    to: &Checkpoint,
    index: &MappedFile,
    weight_map: &BTreeMap<String, String>,
    file_of_shard: &BTreeMap<&str, usize>,
) -> Result<(), FormatError> {
    let found: BTreeSet<(&str, usize)> =
        to.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.file)).collect();
    let lost = weight_map
        .iter()
        .find(|(name, shard)| !found.contains(&(name.as_str(), file_of_shard[shard.as_str()])));
    match lost {
        Some((name, shard)) => Err(FormatError::new(
            index.path(),
            format!("says that {} has tensor {}, but it does not", shown(shard), shown(name)),
            "download the index and its shards again, all from one place",
        )),
        None => Ok(()),
    }
}

fn read_index(index: &MappedFile) -> Result<BTreeMap<String, String>, FormatError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    check_json_len(index, MAX_INDEX_LEN)?;
    let parsed: Result<Index, _> = serde_json::from_slice(index.bytes());
    parsed.map(|index| index.weight_map).map_err(|e| {
        FormatError::new(index.path(), format!("is not an index of safetensors ({e})"), DAMAGED)
    })
}

/// Parses a JSON file of at most `max_len` bytes.
pub(super) fn read_json(
    file: &MappedFile,
    max_len: usize,
) -> Result<serde_json::Value, FormatError> {
    check_json_len(file, max_len)?;
    serde_json::from_slice(file.bytes())
        .map_err(|e| FormatError::new(file.path(), format!("is not valid JSON ({e})"), DAMAGED))
}

/// Parsed JSON takes up to a hundred times its text, so the text is bounded.
fn check_json_len(file: &MappedFile, max_len: usize) -> Result<(), FormatError> {
    let len = file.bytes().len();
    if len <= max_len {
        return Ok(());
    }
    let (len, max_len) = (bytes_text(len), bytes_text(max_len));
    let problem = format!("has {len} bytes, and no such file has more than {max_len}");
    Err(FormatError::new(file.path(), problem, "check that it is the right file"))
}

/// The header, and where the data starts.
fn read_header(file: &MappedFile) -> Result<(Header, usize), FormatError> {
    let bytes = file.bytes();
    let fail = |problem: String, fix: &str| Err(FormatError::new(file.path(), problem, fix));
    let Some((len, rest)) = bytes.split_first_chunk::<8>() else {
        return fail(format!("has {} bytes, too few for a header", bytes.len()), TRUNCATED);
    };
    let len = u64::from_le_bytes(*len);
    if len > MAX_HEADER_LEN {
        let problem = format!("the header claims {} bytes, and none has over 10^8", grouped(len));
        return fail(problem, DAMAGED);
    }
    let Some(text) = rest.get(..len as usize) else {
        let (needs, has) = (grouped(len + 8), bytes_text(bytes.len()));
        return fail(
            format!("the header ends at byte {needs} but the file has {has} bytes"),
            TRUNCATED,
        );
    };
    match serde_json::from_slice(text) {
        Ok(header) => Ok((header, 8 + len as usize)),
        Err(e) => fail(format!("the header is not what safetensors allows ({e})"), DAMAGED),
    }
}

/// The bytes that an entry's type and shape take, which must be what its offsets span.
fn check_entry(entry: &Entry) -> Result<usize, String> {
    let n_values = layout::n_values(&entry.shape)?;
    let n_bits = n_values as u128 * entry.dtype.bitsize() as u128;
    let (start, end) = entry.data_offsets;
    if end < start {
        return Err(format!("ends at offset {}, before its start", bytes_text(end)));
    }
    if n_bits != (end - start) as u128 * 8 {
        return Err(format!(
            "takes {} bytes as {} of shape {:?} but its offsets span {}",
            grouped(n_bits.div_ceil(8)),
            dtype_name(entry.dtype),
            entry.shape,
            bytes_text(end - start)
        ));
    }
    Ok(end - start)
}

/// The format forbids bytes that belong to no tensor: they could hide anything.
fn check_no_gaps(
    file: &MappedFile,
    tensors: &[TensorInfo],
    data_start: usize,
) -> Result<(), FormatError> {
    let mut at = data_start;
    for tensor in tensors {
        if tensor.offset > at {
            let problem = format!(
                "bytes {} to {}, before tensor {}, belong to no tensor",
                bytes_text(at),
                bytes_text(tensor.offset),
                shown(&tensor.name)
            );
            return Err(FormatError::new(file.path(), problem, DAMAGED));
        }
        at = at.max(tensor.offset + tensor.n_bytes);
    }
    let len = file.bytes().len();
    if at != len {
        let problem = format!("the tensors end at byte {} of {}", bytes_text(at), bytes_text(len));
        return Err(FormatError::new(file.path(), problem, DAMAGED));
    }
    Ok(())
}

fn stored(dtype: Dtype) -> Stored {
    let name = dtype_name(dtype);
    match dtype {
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => {
            Stored::Known(by_name(name).expect("the float encodings are registered"))
        }
        _ => Stored::Other(name),
    }
}

fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::BOOL => "BOOL",
        Dtype::F4 => "F4",
        Dtype::F6_E2M3 => "F6_E2M3",
        Dtype::F6_E3M2 => "F6_E3M2",
        Dtype::U8 => "U8",
        Dtype::I8 => "I8",
        Dtype::F8_E5M2 => "F8_E5M2",
        Dtype::F8_E4M3 => "F8_E4M3",
        Dtype::F8_E8M0 => "F8_E8M0",
        Dtype::F8_E4M3FNUZ => "F8_E4M3FNUZ",
        Dtype::F8_E5M2FNUZ => "F8_E5M2FNUZ",
        Dtype::I16 => "I16",
        Dtype::U16 => "U16",
        Dtype::F16 => "F16",
        Dtype::BF16 => "BF16",
        Dtype::I32 => "I32",
        Dtype::U32 => "U32",
        Dtype::F32 => "F32",
        Dtype::C64 => "C64",
        Dtype::F64 => "F64",
        Dtype::I64 => "I64",
        Dtype::U64 => "U64",
        _ => "a newer type",
    }
}

/// The header's entries in their order.
struct Header {
    entries: Vec<(String, Entry)>,
    metadata: Option<BTreeMap<String, String>>,
}

impl<'de> serde::Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> serde::de::Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header { entries: Vec::new(), metadata: None };
        while let Some(key) = map.next_key::<String>()? {
            if key == "__metadata__" {
                header.metadata = Some(map.next_value()?);
            } else {
                let entry = map.next_value().map_err(|e: A::Error| {
                    // Of a list of all known types, the unknown one is what helps.
                    let problem = e.to_string();
                    let problem = problem.split(", expected one of").next().unwrap_or_default();
                    serde::de::Error::custom(format!("tensor {}: {problem}", shown(&key)))
                })?;
                header.entries.push((key, entry));
            }
        }
        Ok(header)
    }
}
