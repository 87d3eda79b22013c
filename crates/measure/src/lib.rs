//! Turns a target and a workload into samples, statistics, comparisons and a report.
//!
//! In: anything that can score tokens ([`LanguageModel`]) or be timed. Out: figures with provenance.
#![deny(unsafe_code)]

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
}
