//! What a call of a runner computes: the next tokens of sequences, and whose logits, or states
//! before the head, are wanted.

use crate::settings::PAGE_LEN;
use crate::{RuntimeError, SequenceId};

/// What the caller wants of a chunk's rows: logits, or the states before the head, which a program
/// keeps that was compiled with [`crate::Settings::hidden`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// None: the tokens only fill the cache.
    None,
    /// Those after the last token.
    Last,
    /// Those after every token.
    All,
    /// None, but the last token's state before the head.
    LastHidden,
    /// None, but every token's state before the head.
    AllHidden,
}

/// The next tokens of a sequence.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// The sequence they belong to.
    pub sequence: SequenceId,
    /// The tokens.
    pub tokens: &'a [u32],
    /// Whose logits are wanted.
    pub logits: Logits,
}

/// The next tokens of a sequence whose pages the caller hands out itself.
#[derive(Clone, Copy, Debug)]
pub struct PagedChunk<'a> {
    /// The pages of the sequence, in order of position; enough for the tokens too.
    pub pages: &'a [u32],
    /// Positions that are in the pages already.
    pub position: usize,
    /// The tokens.
    pub tokens: &'a [u32],
    /// Whose logits are wanted.
    pub logits: Logits,
}

/// What both kinds of chunks have.
pub(crate) trait Tokens {
    /// The tokens.
    fn tokens(&self) -> &[u32];
    /// Whose logits are wanted.
    fn logits(&self) -> Logits;
}

impl Tokens for Chunk<'_> {
    fn tokens(&self) -> &[u32] {
        self.tokens
    }

    fn logits(&self) -> Logits {
        self.logits
    }
}

impl Tokens for PagedChunk<'_> {
    fn tokens(&self) -> &[u32] {
        self.tokens
    }

    fn logits(&self) -> Logits {
        self.logits
    }
}

impl PagedChunk<'_> {
    /// Checks that its positions fit the context and its pages.
    pub(crate) fn check(&self, context_len: usize, n_pages: usize) -> Result<(), RuntimeError> {
        let (len, more) = (self.position, self.tokens.len());
        if len + more > context_len {
            return Err(RuntimeError::ContextFull { sequence: 0, len, more, context_len });
        }
        let (wanted, free) = ((len + more).div_ceil(PAGE_LEN), self.pages.len());
        if wanted > free || self.pages.iter().any(|&page| page as usize >= n_pages) {
            return Err(RuntimeError::CacheFull { wanted, free, total: n_pages });
        }
        Ok(())
    }
}

impl Logits {
    /// How many of so many tokens' logits are wanted.
    pub fn count(self, n_tokens: usize) -> usize {
        match self {
            Logits::None | Logits::LastHidden | Logits::AllHidden => 0,
            Logits::Last => n_tokens.min(1),
            Logits::All => n_tokens,
        }
    }

    /// How many of so many tokens' states are wanted.
    pub fn count_hidden(self, n_tokens: usize) -> usize {
        match self {
            Logits::None | Logits::Last | Logits::All => 0,
            Logits::LastHidden => n_tokens.min(1),
            Logits::AllHidden => n_tokens,
        }
    }

    /// Whether those of one of them are.
    pub(crate) fn wants(self, token: usize, n_tokens: usize) -> bool {
        match self {
            Logits::None | Logits::LastHidden | Logits::AllHidden => false,
            Logits::Last => token + 1 == n_tokens,
            Logits::All => true,
        }
    }

    /// Whether the state of one of them is.
    pub(crate) fn wants_hidden(self, token: usize, n_tokens: usize) -> bool {
        match self {
            Logits::None | Logits::Last | Logits::All => false,
            Logits::LastHidden => token + 1 == n_tokens,
            Logits::AllHidden => true,
        }
    }
}
