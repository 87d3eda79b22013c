//! How good a language model is on a text, and how far it strays from another model.
//!
//! In: a [`Workload`](crate::Workload), how to score it, and a model. Out: perplexity and its kin
//! with intervals, divergence from a baseline, and the paired drop between two models.
//!
//! ```text
//! Workload --Scoring--> Passages --score--> Scores ---paired_drop--> figures
//!                          \-----record---> Reference --divergence--> Divergence --> figures
//! ```

pub mod divergence;
pub mod logits;
pub mod paired;
pub mod passages;
pub mod predictions;
pub mod reliability;
mod rows;
pub mod scores;
pub mod similarity;
pub mod tasks;

pub use divergence::{Divergence, Reference, divergence_between};
pub use paired::paired_drop;
pub use passages::{Passage, Passages, Scoring};
pub use predictions::{Compared, Predictions};
pub use reliability::Reliability;
pub use scores::{PassageScore, Scores, score};

#[cfg(test)]
pub(crate) mod toy;
