//! What a step of the engine computes: a part of each of some sequences.

use sterna_runtime::Logits;

/// What to compute next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Pages to copy first, in this order: from, to.
    pub copies: Vec<(u32, u32)>,
    /// The parts, each of another sequence.
    pub parts: Vec<Part>,
}

/// The next tokens of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The sequence.
    pub key: u64,
    /// Tokens, those of a guess too.
    pub n_tokens: usize,
    /// Tokens that are a guess of what follows: the last ones.
    pub n_drafted: usize,
    /// Whose logits are wanted.
    pub logits: Logits,
    /// Whether it is the last token generated, with a guess perhaps, and not tokens of a prompt.
    pub is_decode: bool,
}

impl Batch {
    /// Rows of all parts.
    pub fn n_rows(&self) -> usize {
        self.parts.iter().map(|part| part.n_tokens).sum()
    }

    /// Whether a sequence has a part in it.
    pub fn has(&self, key: u64) -> bool {
        self.parts.iter().any(|part| part.key == key)
    }
}
