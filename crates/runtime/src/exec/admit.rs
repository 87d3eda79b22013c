//! What a call must keep before anything is computed.

use super::Runner;
use crate::RuntimeError;
use crate::chunk::Chunk;

impl Runner {
    /// Checks that a call can be done, and finds its sequences.
    pub(super) fn admit(&mut self, chunks: &[Chunk<'_>]) -> Result<(), RuntimeError> {
        self.places.clear();
        for chunk in chunks {
            let at = self.kv.find(chunk.sequence)?;
            if self.places.contains(&at) {
                return Err(RuntimeError::SequenceTwice(chunk.sequence.0));
            }
            self.places.push(at);
            self.check_tokens(chunk.tokens)?;
            self.check_whole(self.kv.len_at(at), chunk.tokens.len())?;
        }
        let lens = chunks.iter().map(|chunk| chunk.tokens.len());
        self.kv.check_growth(self.places.iter().copied().zip(lens))
    }

    pub(super) fn check_tokens(&self, tokens: &[u32]) -> Result<(), RuntimeError> {
        let vocabulary = self.program.lowered.vocabulary;
        match tokens.iter().find(|&&token| token as usize >= vocabulary) {
            Some(&token) => Err(RuntimeError::Token { token, vocabulary }),
            None => Ok(()),
        }
    }

    /// An encoder's chunk is a text.
    pub(super) fn check_whole(&self, position: usize, given: usize) -> Result<(), RuntimeError> {
        let most = self.program.settings.max_batch_rows;
        let fits = position == 0 && given <= most;
        match self.program.is_encoder() && !fits {
            true => Err(RuntimeError::Whole { given, position, most }),
            false => Ok(()),
        }
    }
}
