//! Finds values that are no numbers: a NaN scale in one block spoils every output of a model.

use crate::error::{bytes_text, shown};
use crate::{Checkpoint, FormatError, TensorInfo};

/// Values decoded at once: a few blocks of every encoding, and small beside any tensor.
const PIECE_LEN: usize = 1 << 16;

impl Checkpoint {
    /// Reads the tensors and checks that each of their values is finite. Their pages are given back
    /// as it goes, so that the resident set stays small.
    ///
    /// # Errors
    /// With the first tensor that cannot be decoded, or the first block that holds an infinity or a
    /// NaN.
    pub fn validate<'a>(
        &self,
        tensors: impl IntoIterator<Item = &'a TensorInfo>,
    ) -> Result<(), FormatError> {
        let mut values = vec![0.0; PIECE_LEN];
        for tensor in tensors {
            self.validate_one(tensor, &mut values)?;
            self.drop_pages(tensor);
        }
        Ok(())
    }

    fn validate_one(&self, tensor: &TensorInfo, values: &mut [f32]) -> Result<(), FormatError> {
        let encoding = self.encoding(tensor)?;
        let n_blocks = PIECE_LEN / encoding.block_len();
        let pieces = self.bytes(tensor).chunks(n_blocks * encoding.block_bytes());
        for (piece_index, piece) in pieces.enumerate() {
            let n_values = piece.len() / encoding.block_bytes() * encoding.block_len();
            let values = &mut values[..n_values];
            encoding.decode(piece, values);
            let Some(at) = values.iter().position(|v| !v.is_finite()) else { continue };
            let index = piece_index * n_blocks * encoding.block_len() + at;
            let block = index / encoding.block_len();
            return Err(FormatError::new(
                self.file_of(tensor).path(),
                format!(
                    "tensor {} holds {} in row {}, column {} ({} block {}, at byte {})",
                    shown(&tensor.name),
                    if values[at].is_nan() { "a NaN" } else { "an infinity" },
                    bytes_text(index / tensor.cols()),
                    bytes_text(index % tensor.cols()),
                    encoding.name(),
                    bytes_text(block),
                    bytes_text(tensor.offset + block * encoding.block_bytes())
                ),
                "download the file again; if it stays, the model itself is broken",
            ));
        }
        Ok(())
    }
}
