//! A batch as far as its time depends on it, and how long it took.

use serde::{Deserialize, Serialize};

/// What a batch computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchShape {
    /// Rows of prompts.
    pub prompt_rows: usize,
    /// Rows of tokens being generated.
    pub decode_rows: usize,
    /// Positions that the rows of prompts read, their own included.
    pub prompt_positions: usize,
    /// The same for the rows being generated.
    pub decode_positions: usize,
    /// Different pages of keys and values that are read: those that sequences share count once,
    /// since a cache has them for all but the first.
    pub pages: usize,
    /// Rows whose logits are wanted, from which tokens are chosen.
    pub logit_rows: usize,
    /// Pages of keys and values copied.
    pub copies: usize,
}

/// A batch that was run several times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimedShape {
    /// For people: `generate 16 @ 64`.
    pub name: String,
    /// What it computes.
    pub shape: BatchShape,
    /// Whether it judges the fit and is no part of it.
    pub is_held_out: bool,
    /// Of each run.
    pub seconds: Vec<f64>,
}

impl BatchShape {
    /// Rows of both kinds.
    pub fn rows(&self) -> usize {
        self.prompt_rows + self.decode_rows
    }

    /// So many rows of a prompt behind `depth` positions, of which `logit_rows` are wanted.
    #[must_use]
    pub fn with_prompt(self, rows: usize, depth: usize, logit_rows: usize) -> Self {
        Self {
            prompt_rows: self.prompt_rows + rows,
            prompt_positions: self.prompt_positions + rows * depth + rows * (rows + 1) / 2,
            logit_rows: self.logit_rows + logit_rows,
            ..self
        }
    }

    /// So many tokens being generated, each behind `depth` positions.
    #[must_use]
    pub fn with_decodes(self, rows: usize, depth: usize) -> Self {
        Self {
            decode_rows: self.decode_rows + rows,
            decode_positions: self.decode_positions + rows * (depth + 1),
            logit_rows: self.logit_rows + rows,
            ..self
        }
    }
}
