//! What an engine may use, and which requests can be served within that.

use crate::EngineError;
use crate::answers::AnswerLimits;
use crate::request::Request;
use std::time::Duration;
use sterna_runtime::settings::PAGE_LEN;

/// Rows of prompts and guesses in a batch whose logits may be wanted besides the next tokens': they
/// take memory, and time that others wait for.
pub const MORE_LOGITS: usize = 128;

/// Rows of a batch whose logits are wanted, at most: the next token's of each sequence, and
/// [`MORE_LOGITS`].
pub fn logits_rows(max_running: usize) -> usize {
    max_running.saturating_add(MORE_LOGITS)
}

/// What there is to share out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pages of the KV cache.
    pub n_pages: usize,
    /// Tokens that a sequence may have.
    pub context_len: usize,
    /// Rows of a batch.
    pub max_rows: usize,
    /// Sequences in work at once.
    pub max_running: usize,
    /// Requests that may wait.
    pub max_queue: usize,
    /// Tokens are below it.
    pub vocabulary: usize,
    /// Whether the model is an encoder: each token of a prompt sees all of it, so that a prompt is
    /// read in one batch, shares nothing with others, and is not gone on from.
    pub reads_whole: bool,
    /// What a batch should take at most that generates tokens.
    pub itl_target: Option<Duration>,
    /// What the response cache keeps.
    pub answers: AnswerLimits,
}

impl Limits {
    /// Tokens that a request may have, prompt and answer together.
    pub fn longest(&self) -> usize {
        let longest = self.context_len.min(self.n_pages * PAGE_LEN);
        if self.reads_whole { longest.min(self.max_rows) } else { longest }
    }

    /// Requests that may be there at once, in work or waiting.
    pub fn most_open(&self) -> usize {
        self.max_running + self.max_queue
    }

    /// Checks that a request can be served at all.
    ///
    /// # Errors
    /// When it cannot: what is wrong with it.
    pub fn check(&self, request: &Request) -> Result<(), EngineError> {
        let (prompt_tokens, max_tokens) = (request.prompt.len(), request.max_tokens);
        if prompt_tokens == 0 {
            return Err(EngineError::EmptyPrompt);
        }
        let context_len = self.longest();
        if prompt_tokens.saturating_add(max_tokens) > context_len {
            return Err(EngineError::ContextLength { prompt_tokens, max_tokens, context_len });
        }
        if self.reads_whole && request.embed.is_none() {
            let why = "this model encodes texts and generates none: ask it for embeddings";
            return Err(EngineError::Invalid(why.into()));
        }
        if request.constraint.is_some() && request.stop.ignore_eos {
            let why = "an answer that is held to a grammar ends with it, so it cannot go on past \
                       its end: leave out ignore_eos";
            return Err(EngineError::Invalid(why.into()));
        }
        if request.embed.is_some() && (max_tokens > 0 || request.prompt_logprobs.is_some()) {
            let why = "an embedding has no tokens to generate and no log probabilities";
            return Err(EngineError::Invalid(why.into()));
        }
        let biased = request.sampling.logit_bias.iter().map(|&(token, _)| token);
        let given = request.prompt.iter().chain(&*request.prediction);
        let mut tokens = given.copied().chain(biased);
        if let Some(token) = tokens.find(|&token| token as usize >= self.vocabulary) {
            let n = self.vocabulary;
            return Err(EngineError::Invalid(format!("token {token}: this model has {n} tokens")));
        }
        request.sampling.check().map_err(|error| EngineError::Invalid(error.to_string()))
    }
}
