//! Encoders: their texts are read as a whole, and have states but no logits.

use super::{Lowered, Lowering};
use crate::{RuntimeError, Settings};

impl Lowered {
    /// Whether texts are read as a whole, and have states but no logits.
    pub fn is_encoder(&self) -> bool {
        self.n_logits == 0
    }
}

/// Checks that the longest text fits a batch, where it must.
///
/// # Errors
/// When it does not.
pub fn check_batch(l: &Lowering<'_>) -> Result<(), RuntimeError> {
    let Settings { context_len, max_batch_rows: value, .. } = *l.settings;
    if !l.is_encoder || context_len <= value {
        return Ok(());
    }
    let reason = format!(
        "an encoder reads a text at once, whose tokens may be {context_len}: raise it, or lower \
         the context"
    );
    Err(RuntimeError::Setting { field: "max_batch_rows", value, reason })
}
