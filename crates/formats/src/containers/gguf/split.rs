//! Joins the parts of a split GGUF set: `name-00001-of-00003.gguf` and its siblings.
//!
//! In: any one part. Out: one checkpoint with the tensors of all parts, in their order, and the
//! metadata of the first part (the others repeat only the `split.*` keys).

use super::read::{Part, read_part};
use crate::error::{bytes_text, grouped};
use crate::{Checkpoint, FormatError, MappedFile, Metadata};
use std::path::{Path, PathBuf};

/// The key for a part's number, from 0.
pub const KEY_NO: &str = "split.no";
/// The key for the number of parts.
pub const KEY_COUNT: &str = "split.count";
/// The key for the number of tensors in all parts together.
pub const KEY_TENSORS: &str = "split.tensors.count";

const KEEP_TOGETHER: &str = "put all parts of one download, with their names, into one directory";

/// Completes the set that `part` belongs to; a file that is not split is its own set.
pub(super) fn join(part: Part) -> Result<Checkpoint, FormatError> {
    let path = part.file.path().to_owned();
    let parts = match part.metadata.u64(KEY_COUNT) {
        None | Some(0 | 1) => vec![part],
        Some(count) => collect(part, count)?,
    };
    let mut checkpoint = Checkpoint { path, container: "gguf", ..Checkpoint::default() };
    for (index, mut part) in parts.into_iter().enumerate() {
        if index == 0 {
            checkpoint.metadata = part.metadata;
        }
        part.tensors.iter_mut().for_each(|tensor| tensor.file = index);
        checkpoint.tensors.append(&mut part.tensors);
        checkpoint.files.push(part.file);
    }
    if checkpoint.files.len() > 1 {
        check_total(&checkpoint)?;
    }
    for key in [KEY_NO, KEY_COUNT, KEY_TENSORS] {
        checkpoint.metadata.remove(key);
    }
    checkpoint.indexed()
}

/// All parts in order, each checked to be the part that its name says.
fn collect(given: Part, count: u64) -> Result<Vec<Part>, FormatError> {
    let path = given.file.path().to_owned();
    let stem = stem(&path, count)?;
    let given_no = given.metadata.u64(KEY_NO);
    let mut given = Some(given);
    let mut parts = Vec::new();
    for no in 0..count {
        let part_path = part_path(&path, &stem, no, count);
        let part = match given.take_if(|_| given_no == Some(no)) {
            Some(part) => part,
            None if part_path.exists() => open_sibling(&part_path)?,
            None => {
                let problem = format!("part {} of {} is missing", no + 1, grouped(count));
                return Err(FormatError::new(&part_path, problem, KEEP_TOGETHER));
            }
        };
        check_part(&part_path, &part.metadata, no, count)?;
        parts.push(part);
    }
    Ok(parts)
}

fn open_sibling(path: &Path) -> Result<Part, FormatError> {
    let file = MappedFile::open(path)?;
    if !file.bytes().starts_with(&super::MAGIC) {
        return Err(FormatError::new(path, "is no GGUF file", KEEP_TOGETHER));
    }
    read_part(file)
}

/// The name before `-00001-of-00003.gguf`.
fn stem(path: &Path, count: u64) -> Result<String, FormatError> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let tail_len = "-00001-of-00003.gguf".len();
    let stem = name.len().checked_sub(tail_len).and_then(|at| name.split_at_checked(at));
    match stem {
        Some((stem, tail)) if tail.ends_with(&format!("-of-{count:05}.gguf")) => Ok(stem.into()),
        _ => Err(FormatError::new(
            path,
            format!("is part of a set of {}, but its name does not say which", grouped(count)),
            format!("rename it to end in -00001-of-{count:05}.gguf, with its own number"),
        )),
    }
}

fn part_path(path: &Path, stem: &str, no: u64, count: u64) -> PathBuf {
    path.with_file_name(format!("{stem}-{:05}-of-{count:05}.gguf", no + 1))
}

/// A part must say of itself what its name says, or a copy could stand in for another part.
fn check_part(path: &Path, metadata: &Metadata, no: u64, count: u64) -> Result<(), FormatError> {
    let says = (metadata.u64(KEY_NO), metadata.u64(KEY_COUNT));
    if says == (Some(no), Some(count)) {
        return Ok(());
    }
    let says = match says {
        (Some(n), Some(of)) => format!("part {} of {}", grouped(n as u128 + 1), grouped(of)),
        _ => "no part of a set".to_owned(),
    };
    let problem = format!("is part {} of {count} by its name but {says} by its metadata", no + 1);
    Err(FormatError::new(path, problem, KEEP_TOGETHER))
}

fn check_total(checkpoint: &Checkpoint) -> Result<(), FormatError> {
    let found = checkpoint.tensors.len();
    match checkpoint.metadata.u64(KEY_TENSORS) {
        Some(total) if total != found as u64 => Err(FormatError::new(
            &checkpoint.path,
            format!("the set has {} tensors but promises {}", bytes_text(found), grouped(total)),
            KEEP_TOGETHER,
        )),
        _ => Ok(()),
    }
}
