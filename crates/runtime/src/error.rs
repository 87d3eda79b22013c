//! What can go wrong for a caller of the runtime, as sentences.

use sterna_formats::FormatError;

/// Why a program could not be made or run.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum RuntimeError {
    #[error("{0}")]
    Isa(String),
    #[error("the graph cannot be rewritten: {0}")]
    Rewrite(String),
    #[error("node {node} uses the op {op}, which the runtime cannot lower; it lowers {known}")]
    NoLowering { node: String, op: String, known: String },
    #[error("node {node} cannot be run: {reason}")]
    Node { node: String, reason: String },
    #[error("weight {name} {reason}")]
    Weight { name: String, reason: String },
    #[error("{field} is {value}, but {reason}")]
    Setting { field: &'static str, value: usize, reason: String },
    #[error("the system starts no team of {wanted} threads: {reason}; ask for fewer")]
    Threads { wanted: usize, reason: String },
    #[error("the system gives no {bytes} bytes of memory for {what}: {reason}")]
    Memory { bytes: usize, what: &'static str, reason: String },
    #[error("there is no sequence {0}; it was freed, or belongs to another runner")]
    UnknownSequence(u64),
    #[error("sequence {0} occurs twice in one call; give its tokens as one chunk")]
    SequenceTwice(u64),
    #[error(
        "the context is full: sequence {sequence} has {len} tokens and {more} more would exceed \
         {context_len}; shorten the prompt or raise the context length"
    )]
    ContextFull { sequence: u64, len: usize, more: usize, context_len: usize },
    #[error(
        "the KV cache is full: {wanted} more pages are needed and {free} of {total} are free; free \
         sequences or raise the cache's size"
    )]
    CacheFull { wanted: usize, free: usize, total: usize },
    #[error("token {token} is outside the vocabulary of {vocabulary}")]
    Token { token: u32, vocabulary: usize },
    #[error("sequence {sequence} has {len} tokens and cannot be cut to {wanted}")]
    Truncate { sequence: u64, len: usize, wanted: usize },
    #[error("the sampler's {field} is {value}, but must be {range}")]
    Sampler { field: &'static str, value: f64, range: &'static str },
    #[error("logit {index} is not a number, so no token can be chosen; the model is damaged")]
    Logits { index: usize },
    #[error("of the tokens that may come next, none has a logit that can be chosen")]
    NoToken,
    #[error("packing was stopped by the failure of another thread")]
    Stopped,
    #[error("the precision budget is {0}, but must be a share between 0 and 1, such as 0.01")]
    Budget(f32),
    #[error(
        "{isa} on this CPU has no bf16 dots, and imitating them would be slower than exact \
         arithmetic; leave out --bf16-dot"
    )]
    Bf16Dots { isa: &'static str },
    #[error(transparent)]
    File(#[from] FormatError),
    /// Logits are asked of an encoder.
    #[error(
        "this model encodes texts and predicts no next token: it is for embeddings \
         (`sterna serve`, POST /v1/embeddings)"
    )]
    NoLogits,
    /// An encoder is given a text in parts.
    #[error(
        "an encoder reads a text at once: it has {given} tokens here, at position {position}, and \
         at most {most} fit, from position 0 on"
    )]
    Whole {
        /// Tokens of the chunk.
        given: usize,
        /// Where it would begin.
        position: usize,
        /// Rows of a batch.
        most: usize,
    },
    /// States before the head are asked of a program that does not keep them.
    #[error(
        "this program keeps no states before the head: compile it with `hidden`, of a model whose \
         last layer is linear"
    )]
    NoHidden,
}

impl RuntimeError {
    /// Whether the model or the settings are to blame, not the machine or a bug.
    pub fn is_input(&self) -> bool {
        matches!(
            self,
            Self::Isa(_)
                | Self::NoLowering { .. }
                | Self::Node { .. }
                | Self::Weight { .. }
                | Self::Setting { .. }
                | Self::ContextFull { .. }
                | Self::Budget(_)
                | Self::NoLogits
        )
    }
}
