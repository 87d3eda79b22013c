//! Why a request is not served, as sentences that a client can act on.

use thiserror::Error;

/// A request that cannot be served.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum EngineError {
    /// It has no token to go on from.
    #[error("the prompt is empty and this model has no BOS to begin with")]
    EmptyPrompt,
    /// It does not fit the context.
    #[error(
        "this model's context is {context_len} tokens; {prompt_tokens} of the prompt and \
         {max_tokens} to generate do not fit: shorten the prompt or lower max_tokens"
    )]
    ContextLength {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Tokens asked for.
        max_tokens: usize,
        /// Tokens a sequence may have.
        context_len: usize,
    },
    /// A sampling parameter is out of range, or a token outside the vocabulary.
    #[error("{0}")]
    Invalid(String),
    /// The queue is full.
    #[error("{waiting} requests wait already, the most that --max-queue allows; try again soon")]
    QueueFull {
        /// Requests in the queue.
        waiting: usize,
    },
    /// It would not be answered by its deadline.
    #[error(
        "the answer would take about {answered_in_ms} ms and was wanted in {deadline_ms} ms; try \
         again in {retry_after} s, ask for fewer tokens, or give it more time"
    )]
    TooLate {
        /// As far as can be told.
        answered_in_ms: u64,
        /// What was left.
        deadline_ms: u64,
        /// Seconds after which there will be less to do.
        retry_after: u32,
    },
    /// Its deadline has passed.
    #[error("the deadline passed before the answer was complete")]
    DeadlineMissed,
    /// The server is ending.
    #[error("the server is shutting down and takes no new requests")]
    Draining,
    /// Who stands before the engine does not let it through now.
    #[error("{why}")]
    Refused {
        /// What is exceeded, as a sentence.
        why: String,
        /// When to try again.
        retry_seconds: u32,
    },
    /// Something went wrong inside.
    #[error("this request failed: {0}")]
    Internal(String),
}
