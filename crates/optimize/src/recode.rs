//! From one encoding to another, a block of rows at a time, rows in parallel.
//!
//! In: a weight as it is stored. Out: the encoded rows. Only some rows per thread exist as floats
//! at a time, so that memory stays near the encoded bytes whatever the tensor's size (B10).

use crate::draft::scaling::Factors;
use rayon::prelude::*;
use sterna_formats::EncodingRef;
use sterna_model::WeightView;

/// Values decoded at a time by one thread: 256 KiB of floats, inside every second-level cache.
const BLOCK_VALUES: usize = 64 * 1024;

/// What to make of a weight.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The encoding; rows of `cols` fit it, and it can encode.
    pub encoding: EncodingRef,
    /// Rows wanted; those the source lacks are zero.
    pub rows: usize,
    /// Values per row wanted; those the source lacks are zero.
    pub cols: usize,
    /// What the source's values are multiplied by.
    pub factors: Option<&'a Factors>,
    /// Weight of each value's squared error within a row.
    pub importance: Option<&'a [f32]>,
}

/// The encoded rows.
pub fn recode(source: &WeightView<'_>, target: &Target<'_>) -> Vec<u8> {
    let Target { encoding, rows, cols, importance, .. } = *target;
    assert!(rows >= source.rows && cols >= source.cols, "rows and values are only ever added");
    let row_bytes = encoding.row_bytes(cols);
    let mut bytes = vec![0; rows * row_bytes];
    let rows_per_block = (BLOCK_VALUES / cols).max(1);
    bytes.par_chunks_mut(rows_per_block * row_bytes).enumerate().for_each_init(
        || (Vec::new(), Vec::new()),
        |(values, padded), (block, out)| {
            let first = block * rows_per_block;
            for (i, out) in out.chunks_exact_mut(row_bytes).enumerate() {
                decode_row(source, first + i, target, values, padded);
                encoding.encode(padded, importance, out);
            }
        },
    );
    bytes
}

/// Row `row` of the source in `padded`, zeros after its end; all zeros past the last row.
fn decode_row(
    source: &WeightView<'_>,
    row: usize,
    target: &Target<'_>,
    values: &mut Vec<f32>,
    padded: &mut Vec<f32>,
) {
    values.resize(source.cols, 0.0);
    padded.clear();
    if row < source.rows {
        source.encoding.decode(source.row_bytes(row..row + 1), values);
        if let Some(factors) = target.factors {
            factors.apply(row, values);
        }
        padded.extend_from_slice(values);
    }
    padded.resize(target.cols, 0.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;
    use sterna_formats::encodings::{ENCODINGS, by_name};

    fn source(rows: usize, cols: usize) -> (Vec<f32>, Vec<u8>) {
        let values: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * 0.37).sin()).collect();
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        (values, bytes)
    }

    #[test]
    fn blocks_of_rows_give_the_bytes_of_whole_tensors() {
        let (rows, cols) = (700, 256);
        let (values, bytes) = source(rows, cols);
        let f32 = by_name("F32").unwrap();
        let view = WeightView { encoding: f32, rows, cols, bytes: Cow::Borrowed(&bytes) };
        for &encoding in ENCODINGS.iter().filter(|e| e.can_encode()) {
            let target = Target { encoding, rows, cols, factors: None, importance: None };
            let mut whole = vec![0; rows * encoding.row_bytes(cols)];
            encoding.encode(&values, None, &mut whole);
            assert_eq!(recode(&view, &target), whole, "{}", encoding.name());
        }
    }

    #[test]
    fn added_rows_and_values_are_zero() {
        let (values, bytes) = source(3, 5);
        let f32 = by_name("F32").unwrap();
        let view = WeightView { encoding: f32, rows: 3, cols: 5, bytes: Cow::Borrowed(&bytes) };
        let target = Target { encoding: f32, rows: 4, cols: 8, factors: None, importance: None };
        let padded = WeightView {
            encoding: f32,
            rows: 4,
            cols: 8,
            bytes: Cow::Owned(recode(&view, &target)),
        };
        for (row, got) in padded.to_f32().chunks(8).enumerate() {
            let mut wanted = [0.0; 8];
            if row < 3 {
                wanted[..5].copy_from_slice(&values[row * 5..][..5]);
            }
            assert_eq!(got, wanted);
        }
    }
}
