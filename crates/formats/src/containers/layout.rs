//! The checks every container makes of where its tensors lie: inside the file, and apart.

use crate::error::{DAMAGED, TRUNCATED, bytes_text, shown};
use crate::{FormatError, MappedFile, TensorInfo};

/// Checks that each tensor ends inside of `file` and that no two overlap.
pub(super) fn check(file: &MappedFile, tensors: &[TensorInfo]) -> Result<(), FormatError> {
    let len = file.bytes().len();
    let past = tensors.iter().find(|t| t.offset.checked_add(t.n_bytes).is_none_or(|e| e > len));
    if let Some(t) = past {
        let end = t.offset as u128 + t.n_bytes as u128;
        let problem = format!(
            "tensor {} ends at byte {} but the file has {} bytes",
            shown(&t.name),
            crate::error::grouped(end),
            bytes_text(len)
        );
        return Err(FormatError::new(file.path(), problem, TRUNCATED));
    }
    let mut by_offset: Vec<&TensorInfo> = tensors.iter().filter(|t| t.n_bytes > 0).collect();
    by_offset.sort_by_key(|t| t.offset);
    let overlap =
        by_offset.windows(2).find(|pair| pair[0].offset + pair[0].n_bytes > pair[1].offset);
    match overlap {
        Some(pair) => Err(FormatError::new(
            file.path(),
            format!(
                "tensor {} starts at byte {}, inside tensor {}, which ends at byte {}",
                shown(&pair[1].name),
                bytes_text(pair[1].offset),
                shown(&pair[0].name),
                bytes_text(pair[0].offset + pair[0].n_bytes)
            ),
            DAMAGED,
        )),
        None => Ok(()),
    }
}

/// Bytes of a tensor of this shape in an encoding; what is wrong with the shape otherwise.
pub(super) fn n_bytes(shape: &[usize], encoding: crate::EncodingRef) -> Result<usize, String> {
    let cols = shape.last().copied().unwrap_or(1);
    if cols > 0 && !encoding.fits(cols) {
        return Err(format!(
            "has rows of {} values, which do not divide into {}'s blocks of {}",
            bytes_text(cols),
            encoding.name(),
            encoding.block_len()
        ));
    }
    n_values(shape)?
        .checked_div(encoding.block_len())
        .and_then(|blocks| blocks.checked_mul(encoding.block_bytes()))
        .ok_or_else(|| too_many(shape))
}

/// The number of values of this shape, if a machine word can count them.
pub(super) fn n_values(shape: &[usize]) -> Result<usize, String> {
    shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim)).ok_or_else(|| too_many(shape))
}

fn too_many(shape: &[usize]) -> String {
    format!("has the shape {shape:?}, more values than any file can hold")
}
