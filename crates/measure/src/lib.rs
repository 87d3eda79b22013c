//! Turns a target and a workload into samples, statistics, comparisons and a report.
//!
//! In: anything that can score tokens ([`LanguageModel`]) or be timed. Out: figures with their
//! provenance. DESIGN invariant 2 lives here, so that a number without a measurement cannot be
//! written down.
#![forbid(unsafe_code)]

// From a value to a report.
pub mod clock;
pub mod samples;
pub mod stats;

pub mod figure;
pub mod level;
pub mod report;
pub mod unit;

// Speed and space.
pub mod command;
pub mod compare;

pub mod ablation;
pub mod search;

pub mod latency;
pub mod load;
pub mod memory;
pub mod profile;
pub mod start;

pub mod machine;

pub mod capacity;

// Quality.
pub mod scratch;
pub mod workload;

pub mod quality;

// A ternary model against its f32 twin.
pub mod validation;

#[cfg(test)]
mod testing;

pub use clock::Clock;
pub use figure::{Figure, Source};
pub use level::Level;
pub use report::RunReport;
pub use samples::Samples;
pub use unit::Unit;
pub use workload::Workload;

/// What measure needs of a language model; `optimize` and `cli` implement it over `runtime`.
pub trait LanguageModel {
    /// Vocabulary size; each logits row has this many entries.
    fn vocab_len(&self) -> usize;
    /// The longest sequence it can take at once.
    fn context_len(&self) -> usize;
    /// Runs one fresh sequence and hands over the logits row after each token, in order:
    /// `sink(i, logits)` where `logits` predicts token `i + 1`.
    ///
    /// # Errors
    /// Whatever the model's runner reports, as a sentence.
    fn score(&mut self, tokens: &[u32], sink: &mut dyn FnMut(usize, &[f32])) -> Result<(), String>;
    /// Scorers with the same weights that may be asked at the same time, each on a thread of its
    /// own; they hand over the same bits as this one. Fewer than two mean that there is only this.
    fn at_once(&mut self) -> Vec<&mut (dyn LanguageModel + Send)> {
        Vec::new()
    }
}

/// Why a measurement could not become a figure, as a sentence a user can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    /// A figure was asked of nothing.
    #[error("{name}: no samples were taken, so there is nothing to report; run at least one round")]
    NoSamples {
        /// The quantity in question.
        name: String,
    },
    /// A value that is not a number, or infinite.
    #[error("{name}: sample {index} is {value}, which is not a finite number; the run is broken")]
    NotFinite {
        /// The quantity in question.
        name: String,
        /// Which sample, counted from 0.
        index: usize,
        /// The value as text.
        value: String,
    },
    /// A value that its unit cannot take, such as an accuracy of 1.2.
    #[error("{name}: {value} {unit} is impossible ({rule}); the method is wrong")]
    Impossible {
        /// The quantity in question.
        name: String,
        /// The value as text.
        value: String,
        /// Its unit.
        unit: &'static str,
        /// What every value of it obeys.
        rule: &'static str,
    },
    /// A text field that must say something is empty.
    #[error("{name}: its {field} is empty; say how the number came about")]
    Unexplained {
        /// The quantity in question.
        name: String,
        /// `name`, `method` or `reason`.
        field: &'static str,
    },
    /// Numbers from different circumstances.
    #[error("these runs cannot be compared: {why}; measure both on one machine, interleaved")]
    Incomparable {
        /// What differs.
        why: String,
    },
    /// Data that cannot be used as asked.
    #[error("{0}")]
    Data(String),
    /// The measured thing failed.
    #[error("{what} failed: {why}")]
    Failed {
        /// The thing measured.
        what: String,
        /// Its own words.
        why: String,
    },
}
