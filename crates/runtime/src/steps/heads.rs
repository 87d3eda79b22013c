//! What happens to queries and keys between their linear layer and attention: norm and rotation.

use super::Run;
use super::norm::Norm;
use super::rope::Turn;
use crate::RuntimeError;
use crate::fuse::HeadChain;
use crate::lower::Lowering;

/// The norm and rotation that attention computes itself.
#[derive(Default)]
pub struct HeadPrep {
    norm: Option<Norm>,
    turn: Option<Turn>,
}

impl HeadPrep {
    /// The steps of a chain.
    ///
    /// # Errors
    /// When a weight cannot be used.
    pub fn of(l: &mut Lowering<'_>, chain: HeadChain) -> Result<Self, RuntimeError> {
        let norm = chain.norm.map(|n| Norm::of(l, n)).transpose()?;
        let turn = chain.rope.map(|n| Turn::of(l, n));
        Ok(Self { norm, turn })
    }

    /// Whether it leaves heads as they are.
    pub fn is_empty(&self) -> bool {
        self.norm.is_none() && self.turn.is_none()
    }

    /// Writes the heads of one row at a position to `out`.
    pub fn apply(&self, run: &Run<'_>, position: usize, heads: &[f32], out: &mut [f32]) {
        match &self.norm {
            Some(norm) => norm.apply(run, heads, out),
            None => out.copy_from_slice(heads),
        }
        if let Some(turn) = &self.turn {
            turn.apply(run, position, out);
        }
    }
}
