//! What a call leaves: logits of rows, and states before the head.

use super::Runner;
use crate::chunk::Tokens;
use crate::steps::Rows;
use crate::steps::hidden::Hidden;
use crate::{Lines, RuntimeError};
use sterna_model::WeightId;

impl Runner {
    /// The logits that the last call wanted, `[rows, n_outputs]`.
    pub fn logits(&self) -> &[f32] {
        let logits: &[f32] = bytemuck::cast_slice(self.logits.lines());
        &logits[..self.n_wanted.0 * self.program.n_outputs()]
    }

    /// The states before the head that it wanted, `[rows, hidden_len]`.
    pub fn hidden(&self) -> &[f32] {
        let hidden: &[f32] = bytemuck::cast_slice(self.hidden.lines());
        &hidden[..self.n_wanted.1 * self.program.hidden_len().unwrap_or(0)]
    }

    /// What the linear layers of the last batch of the last call read, in the order of the graph:
    /// each with its matrices, as `[rows, features]`. Layers after the last attention run on the
    /// rows that were wanted, the head on those whose logits were. Nothing where
    /// [`Settings::keeps_inputs`] does not hold.
    ///
    /// [`Settings::keeps_inputs`]: crate::Settings::keeps_inputs
    pub fn linear_inputs(&self) -> impl Iterator<Item = (&[WeightId], usize, &[f32])> {
        let arena: &[f32] = bytemuck::cast_slice(self.arena.lines());
        self.program.lowered.inputs.iter().map(|input| {
            let n_rows = self.batch.n_rows(input.rows);
            (&input.weights[..], input.len, &arena[input.start..][..n_rows * input.len])
        })
    }

    /// Makes room for the logits and states that a call wants.
    pub(super) fn grow_logits<C: Tokens>(&mut self, chunks: &[C]) -> Result<(), RuntimeError> {
        let n_wanted: usize = chunks.iter().map(|c| c.logits().count(c.tokens().len())).sum();
        if n_wanted > 0 && self.program.is_encoder() {
            return Err(RuntimeError::NoLogits);
        }
        let n_lines = (n_wanted * self.program.n_outputs()).div_ceil(16);
        if n_lines > self.logits.lines().len() {
            self.logits = Lines::zeroed(n_lines, "logits")?;
        }
        let n_hidden: usize =
            chunks.iter().map(|c| c.logits().count_hidden(c.tokens().len())).sum();
        if n_hidden > 0 {
            let len = self.program.hidden_len().ok_or(RuntimeError::NoHidden)?;
            let n_lines = (n_hidden * len).div_ceil(16);
            if n_lines > self.hidden.lines().len() {
                self.hidden = Lines::zeroed(n_lines, "states")?;
            }
        }
        Ok(())
    }

    /// Copies the states that the last batch left in the arena.
    pub(super) fn keep_hidden(&mut self) {
        let Some(Hidden { start, len }) = self.program.lowered.hidden else { return };
        let n_rows = self.batch.n_rows(Rows::Hidden);
        let from = &self.arena.floats_mut()[start..][..n_rows * len];
        self.hidden.floats_mut()[self.n_wanted.1 * len..][..n_rows * len].copy_from_slice(from);
        self.n_wanted.1 += n_rows;
    }
}
