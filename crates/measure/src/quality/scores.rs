//! What a model's predictions of a text cost: negative log-likelihoods, perplexity, their spread.
//!
//! In: passages and a model. Out: [`Scores`], one entry per passage. Tokens of one passage are not
//! independent, so passages are what intervals are drawn over.

use super::{logits, passages::Passage, passages::Passages, predictions::Predictions};
use crate::{Figure, LanguageModel, MeasureError, Unit, stats::Bootstrap};
use serde::{Deserialize, Serialize};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

/// The score of one passage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassageScore {
    /// Scored tokens.
    pub n_scored: usize,
    /// The sum of their negative log-likelihoods, in nats.
    pub nll: f64,
    /// The sum of their squares, for the spread per token.
    pub nll_squared: f64,
}

/// The scores of all passages, in order; another process hands them over as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scores {
    passages: Vec<PassageScore>,
    method: String,
    workload_hash: String,
    /// Text tokens per byte of text; `None` if the workload does not know its bytes.
    tokens_per_byte: Option<f64>,
}

/// Runs `model` over every passage.
///
/// # Errors
/// If a passage does not fit the model's context or vocabulary, the model fails, or a logit is NaN.
pub fn score(model: &mut dyn LanguageModel, passages: &Passages) -> Result<Scores, MeasureError> {
    let totals = each_passage(model, passages, &|model, passage, index| {
        let mut total = PassageScore::default();
        each_scored(model, passage, index, &mut |row, target| total.add(logits::nll(row, target)))?;
        Ok(total)
    })?;
    let mut scores = Scores::empty(passages);
    for (index, total) in totals.into_iter().enumerate() {
        scores.push(total, index)?;
    }
    Ok(scores)
}

/// What is done with a passage and its index.
pub(super) type PerPassage<'a, T> =
    dyn Fn(&mut dyn LanguageModel, &Passage, usize) -> Result<T, MeasureError> + Sync + 'a;

/// Does `work` on every passage, several at once where the model can; results are in order, and an
/// error is that of the first passage that has one.
pub(super) fn each_passage<T: Send>(
    model: &mut dyn LanguageModel,
    passages: &Passages,
    work: &PerPassage<'_, T>,
) -> Result<Vec<T>, MeasureError> {
    let scorers = model.at_once();
    if scorers.len() < 2 {
        return passages.iter().enumerate().map(|(index, p)| work(model, p, index)).collect();
    }
    let all: Vec<&Passage> = passages.iter().collect();
    let next = AtomicUsize::new(0);
    let work_off = |scorer: &mut (dyn LanguageModel + Send)| {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(passage) = all.get(index) else { return done };
            let result = work(scorer, passage, index);
            if result.is_err() {
                // Those before it are claimed already and will be finished; none after it counts.
                next.store(all.len(), Ordering::Relaxed);
            }
            done.push((index, result));
        }
    };
    let mut done: Vec<(usize, Result<T, MeasureError>)> = std::thread::scope(|scope| {
        let start = |scorer| scope.spawn(|| work_off(scorer));
        let threads: Vec<_> = scorers.into_iter().map(start).collect();
        let end =
            |thread: ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|p| resume_unwind(p));
        threads.into_iter().flat_map(end).collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Hands over each scored position's logits with the token that really came next.
pub(super) fn each_scored(
    model: &mut dyn LanguageModel,
    passage: &Passage,
    index: usize,
    visit: &mut dyn FnMut(&[f32], u32),
) -> Result<(), MeasureError> {
    let (n, n_vocab, n_context) = (passage.tokens.len(), model.vocab_len(), model.context_len());
    // The last token is only a target; the model need not run it.
    if n - 1 > n_context {
        return Err(MeasureError::Data(format!(
            "sequence {index} has {n} tokens but the model takes {n_context} at once; cut \
             documents at {n_context} tokens or score in windows"
        )));
    }
    if let Some(token) = passage.tokens.iter().find(|token| **token as usize >= n_vocab) {
        return Err(MeasureError::Data(format!(
            "sequence {index} has token {token} but the model's vocabulary ends at {n_vocab}; the \
             tokenizer belongs to another model"
        )));
    }
    let mut n_seen = 0;
    let outcome = model.score(&passage.tokens[..n - 1], &mut |at, row| {
        assert_eq!(row.len(), n_vocab, "a logits row has one entry per vocabulary entry");
        if at + 1 >= passage.first_scored {
            visit(row, passage.tokens[at + 1]);
            n_seen += 1;
        }
    });
    let failed = |why| MeasureError::Failed { what: format!("scoring sequence {index}"), why };
    outcome.map_err(failed)?;
    if n_seen != passage.n_scored() {
        let why = format!("{n_seen} predictions came back where {} were due", passage.n_scored());
        return Err(failed(why));
    }
    Ok(())
}

impl Default for PassageScore {
    fn default() -> Self {
        Self { n_scored: 0, nll: 0.0, nll_squared: 0.0 }
    }
}

impl PassageScore {
    pub(super) fn add(&mut self, nll: f64) {
        self.n_scored += 1;
        self.nll += nll;
        self.nll_squared += nll * nll;
    }
}

impl Scores {
    /// From what a model said, passage by passage.
    ///
    /// # Errors
    /// When a logit was not finite.
    pub(super) fn derive<'p>(
        passages: &Passages,
        said: impl IntoIterator<Item = &'p Predictions>,
    ) -> Result<Self, MeasureError> {
        let mut scores = Self::empty(passages);
        for (index, said) in said.into_iter().enumerate() {
            scores.push(said.score(), index)?;
        }
        Ok(scores)
    }

    fn empty(passages: &Passages) -> Self {
        let workload = passages.workload();
        let tokens_per_byte = (workload.n_bytes() > 0)
            .then(|| workload.n_tokens() as f64 / workload.n_bytes() as f64);
        Self {
            passages: Vec::with_capacity(passages.len()),
            method: passages.method(),
            workload_hash: workload.hash().into(),
            tokens_per_byte,
        }
    }

    fn push(&mut self, score: PassageScore, index: usize) -> Result<(), MeasureError> {
        if !score.nll.is_finite() {
            let why = format!("a logit is not finite (sum of NLL {})", score.nll);
            return Err(MeasureError::Failed { what: format!("scoring sequence {index}"), why });
        }
        self.passages.push(score);
        Ok(())
    }

    /// One entry per passage.
    pub fn passages(&self) -> &[PassageScore] {
        &self.passages
    }

    /// The convention and the text, in words.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The hash of the text scored.
    pub fn workload_hash(&self) -> &str {
        &self.workload_hash
    }

    /// Scored tokens in all.
    pub fn n_scored(&self) -> usize {
        self.passages.iter().map(|p| p.n_scored).sum()
    }

    /// Mean negative log-likelihood, nats per scored token.
    pub fn mean_nll(&self) -> f64 {
        self.passages.iter().map(|p| p.nll).sum::<f64>() / self.n_scored() as f64
    }

    /// `exp(mean_nll)`.
    pub fn perplexity(&self) -> f64 {
        self.mean_nll().exp()
    }

    /// The standard error of `mean_nll` if tokens were independent: what llama-perplexity prints
    /// (there times the perplexity). Usually too small; `None` of one token.
    pub fn stderr_tokens(&self) -> Option<f64> {
        let n = self.n_scored() as f64;
        let squares = self.passages.iter().map(|p| p.nll_squared).sum::<f64>();
        let variance = (squares / n - self.mean_nll().powi(2)).max(0.0);
        (n > 1.0).then(|| (variance / (n - 1.0)).sqrt())
    }

    /// The standard error of `mean_nll` with passages as the units, by the ratio estimator;
    /// `None` of one passage.
    pub fn stderr(&self) -> Option<f64> {
        let n = self.passages.len() as f64;
        let mean = self.mean_nll();
        let residual = |p: &PassageScore| (p.nll - mean * p.n_scored as f64).powi(2);
        let squares: f64 = self.passages.iter().map(residual).sum();
        (n > 1.0).then(|| (squares * n / (n - 1.0)).sqrt() / self.n_scored() as f64)
    }

    /// The sums and counts that intervals are drawn over.
    pub(super) fn columns(&self) -> (Vec<f64>, Vec<f64>) {
        let counts = self.passages.iter().map(|p| p.n_scored as f64).collect();
        (self.passages.iter().map(|p| p.nll).collect(), counts)
    }

    /// `nll`, `nll_per_byte` and `perplexity`, with intervals bootstrapped over passages.
    ///
    /// # Errors
    /// If a value is impossible, which a broken model can bring about.
    pub fn figures(&self) -> Result<Vec<Figure>, MeasureError> {
        let (sums, counts) = self.columns();
        let (n, nll, method) = (self.n_scored(), self.mean_nll(), self.method.as_str());
        let interval = Bootstrap::default().ratio_of_sums(&sums, &counts);
        let interval = interval.map(|i| i.holding(nll));
        let per_byte_method = format!("nats/token times tokens per byte; {method}");
        let per_byte = match self.tokens_per_byte {
            Some(rate) => Figure::estimated(
                "nll_per_byte",
                Unit::NatsPerByte,
                &per_byte_method,
                nll * rate,
                n,
                interval.map(|i| i.map(|nll| nll * rate)),
            ),
            None => Figure::unavailable(
                "nll_per_byte",
                Unit::NatsPerByte,
                &per_byte_method,
                "the workload was given as tokens, so the length of its text is unknown",
            ),
        };
        let ppl_interval = interval.map(|i| i.map(f64::exp));
        let ppl = self.perplexity();
        Ok(vec![
            Figure::estimated("nll", Unit::NatsPerToken, method, nll, n, interval)?,
            per_byte?,
            Figure::estimated("perplexity", Unit::Perplexity, method, ppl, n, ppl_interval)?,
        ])
    }
}

#[cfg(test)]
mod tests;
