//! Load on a server: who sends what and when, what came of each request, and what that says of the
//! server.
//!
//! In: [`Traffic`] and a seed. Out: [`Arrivals`], whose prompts are the same for every server that
//! is measured; then, of the [`Outcome`]s of all requests, a [`Summary`]. Nothing here sends
//! anything, so that all of it can be tested without a network.

mod time;

pub use time::Time;

// What is sent.
mod draw;

mod prompt;
pub mod trace;

pub use prompt::{Part, Prompt, Stream, Vocabulary};

mod arrivals;

pub use arrivals::{Arrivals, MAX_REQUESTS, MAX_TOKENS, Replay, Request, Shape, Traffic};

// What came of it.
mod outcome;

pub use outcome::{Answer, Chunk, End, Failure, Outcome, Usage};

mod slo;

pub use slo::Slo;

mod memory;

pub use memory::Memory;

mod summary;

/// Numbers drawn from a seed, for tests of other modules.
#[cfg(test)]
pub(crate) fn draw_for_tests(seed: u64) -> draw::Draw {
    draw::Draw::new(seed, &[])
}

pub use summary::{ErrorCount, Goodput, Latency, Ratios, Summary};
