//! What a client asks of the engine, and what it gets back, piece by piece.

use crate::embedding::Pooling;
use crate::guess::Guessed;
use crate::{Constraint, EngineError};
use std::sync::Arc;
use std::time::Duration;
use sterna_runtime::SamplerSettings;

/// A request, by the number that the engine gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// How urgent a request is: what comes first is served first, and may take the place of what comes
/// later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Somebody waits for it.
    Interactive,
    /// Nothing was said.
    #[default]
    Default,
    /// It may wait for anybody else.
    Batch,
}

impl Class {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Interactive, Self::Default, Self::Batch];

    /// Its name in requests, metrics and headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Default => "default",
            Self::Batch => "batch",
        }
    }

    /// The class of a name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// When a generation ends before its limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stop {
    /// Texts that end it; they are not part of the answer.
    pub strings: Vec<String>,
    /// Go on past the end-of-text token.
    pub ignore_eos: bool,
}

/// What to generate.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The tokens to go on from: at least one.
    pub prompt: Vec<u32>,
    /// Tokens to generate at most; 0 only reads the prompt.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: SamplerSettings,
    /// Whether the seed was given: then, or at temperature 0, equal requests have equal answers,
    /// and those that are in flight together are computed once.
    pub is_seeded: bool,
    /// When to stop.
    pub stop: Stop,
    /// What the answer is held to.
    pub constraint: Option<Constraint>,
    /// Control tokens whose spelling is part of the answer's text; that of others is not.
    pub visible: Vec<u32>,
    /// With each generated token, its log probability and those of so many likeliest tokens.
    pub logprobs: Option<usize>,
    /// The same for each token of the prompt but the first, which follows nothing.
    pub prompt_logprobs: Option<usize>,
    /// Embed the prompt instead of going on from it: with `max_tokens` 0.
    pub embed: Option<Pooling>,
    /// Tokens that much of the answer is expected to be: guesses come from there too.
    pub prediction: Arc<[u32]>,
    /// Who asks: agents share the machine fairly.
    pub agent: String,
    /// How much of the machine its agent gets beside others: twice as much with 2 as with 1.
    pub share: f64,
    /// How urgent it is.
    pub class: Class,
    /// Keys and values are shared with requests of the same salt only...
    pub cache_salt: Option<String>,
    /// ...but for those of the first so many tokens, which are shared with everybody.
    pub public_tokens: usize,
    /// How the response cache is used for it.
    pub cache: CacheControl,
    /// For how long it has been on its way to the engine: its deadline and its times count from
    /// before that.
    pub waited: Duration,
    /// After so long an answer is of no use any more.
    pub deadline: Option<Duration>,
    /// How many tokens the client expects, where it says so.
    pub expected_tokens: Option<usize>,
    /// The session whose pages are kept for what follows.
    pub session: Option<String>,
}

impl Request {
    /// How many tokens will be generated: the client's word, or the most that it wants.
    pub fn likely_tokens(&self) -> usize {
        self.expected_tokens.unwrap_or(self.max_tokens).min(self.max_tokens)
    }
}

/// How a client wants the response cache to be used, where its answer could be in it at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheControl {
    /// Compute it, even if an answer is there.
    pub no_cache: bool,
    /// Keep no answer.
    pub no_store: bool,
    /// How long the answer is kept.
    pub ttl: Option<Duration>,
    /// An answer that is there must not be older.
    pub max_age: Option<Duration>,
    /// Answers are shared with requests of the same namespace only.
    pub namespace: Option<String>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            prompt: Vec::new(),
            max_tokens: 16,
            sampling: SamplerSettings::default(),
            is_seeded: false,
            stop: Stop::default(),
            constraint: None,
            visible: Vec::new(),
            logprobs: None,
            prompt_logprobs: None,
            embed: None,
            prediction: Arc::default(),
            agent: String::new(),
            share: 1.0,
            class: Class::default(),
            cache_salt: None,
            public_tokens: 0,
            cache: CacheControl::default(),
            waited: Duration::ZERO,
            deadline: None,
            expected_tokens: None,
            session: None,
        }
    }
}

/// How probable a token was, before temperature and penalties: natural logarithms.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: u32,
    /// Of the token itself.
    pub logprob: f32,
    /// The likeliest tokens, most probable first.
    pub top: Vec<(u32, f32)>,
}

/// A piece of an answer. A request gets any number of `Prompt` and `Token`, then one `Finished` or
/// `Failed`, also when it is cancelled, and nothing after that.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Log probabilities of the next tokens of the prompt, where they were asked for.
    Prompt(Vec<TokenLogprob>),
    /// A token.
    Token {
        /// The token.
        id: u32,
        /// The text that became certain with it; empty while a character or a stop text may still
        /// be completed.
        text: String,
        /// Where it was asked for.
        logprob: Option<TokenLogprob>,
    },
    /// The end.
    Finished(Finished),
    /// It cannot be answered.
    Failed(EngineError),
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its text, or a stop text came.
    Stop,
    /// The limit or the end of the context was reached.
    Length,
    /// The client went away.
    Cancelled,
}

/// The end of an answer: text that was still held back, and what it cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// Why.
    pub reason: FinishReason,
    /// The rest of the text.
    pub text: String,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them whose keys and values were there already.
    pub cached_tokens: usize,
    /// Tokens generated, an end-of-text token not counted.
    pub new_tokens: usize,
    /// Seconds between arrival and the first batch with a token of it.
    pub queue_seconds: f64,
    /// Seconds from there to the first generated token.
    pub prefill_seconds: f64,
    /// Seconds from there to the end.
    pub decode_seconds: f64,
    /// What was to be embedded, unless it was cancelled.
    pub embedding: Option<Vec<f32>>,
    /// Tokens of it that were guessed.
    pub guessed: Guessed,
    /// Those of them that were guessed from the request's prediction, where it has one.
    pub predicted: Option<Guessed>,
    /// Whether another request that was in work computed this answer.
    pub is_coalesced: bool,
    /// Where the response cache had it: how old it is.
    pub age: Option<Duration>,
    /// The stop text that ended it, if one did.
    pub stop_text: Option<String>,
}
