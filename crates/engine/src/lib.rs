//! Decides which tokens run next: admission, batching, prefix tree, sampling, stopping.
//!
//! In: requests for one model, whenever they come. Out: pieces of answers. The [`Core`] is
//! deterministic: time and logits are arguments, so that it runs under a seeded simulator as it
//! runs on a machine. [`worker`] is the thin shell around it: a thread, a clock, a
//! [`sterna_runtime::Runner`]. It knows no HTTP, and files only in [`disk`].
//!
//! Reading order: [`request`] is what clients see; [`pages`] and [`prefix`] are the memory;
//! [`constraint`] is what answers are held to; [`sequence`] is a request in work; [`schedule`]
//! plans a batch; [`speculation`] adds guesses to it; [`core`] goes from events to outputs;
//! [`disk`] keeps pages beyond the process.
#![forbid(unsafe_code)]

pub mod agents;
pub mod error;
pub mod request;
pub mod stats;

pub mod pages;
pub mod prefix;
pub mod salt;
pub mod sessions;

pub mod constraint;
pub mod grammar;
pub mod logprobs;
pub mod text;

pub mod answer_key;
pub mod answers;

pub mod embedding;
pub mod guess;
pub mod sequence;

pub mod batch;
pub mod fairness;
pub mod forecast;
pub mod limits;
pub mod pacing;
mod room;
pub mod schedule;
pub mod turn;

pub mod deadlines;

pub mod disk;

pub mod costs;
pub mod lookup;
pub mod speculation;

pub mod drafter;

pub mod core;

pub mod handle;
pub mod worker;

pub mod rehearse;

#[cfg(test)]
mod sim;

pub use crate::core::{Core, Flushed};
pub use crate::limits::{Limits, logits_rows};
pub use agents::AgentStats;
pub use answers::{AnswerLimits, AnswerStats};
pub use constraint::Constraint;
pub use drafter::Drafter;
pub use embedding::Pooling;
pub use error::EngineError;
pub use grammar::{Grammars, Wanted};
pub use guess::Guessed;
pub use handle::{Handle, Reply, Sink};
pub use rehearse::{Due, Played, Rehearsal, Run, Spent, Work};
pub use request::{
    CacheControl, Class, FinishReason, Finished, Output, Request, RequestId, Stop, TokenLogprob,
};
pub use sessions::SessionError;
pub use speculation::{Speculate, State, When};
pub use stats::{DiskStats, Histogram, Stats};
pub use sterna_runtime::settings::PAGE_LEN;
pub use worker::{Clock, Extras, start, start_with};
