//! How far a model's predictions lie from a baseline's on the same tokens: the damage that an
//! unchanged accuracy hides (A5).
//!
//! In: a baseline and a candidate. Out: [`Divergence`]: KL divergence per token, flips, logit
//! distances, and the candidate's scores, all from one run of each.

use super::{
    logits,
    passages::{Passage, Passages},
    scores::{PassageScore, Scores, each_passage, each_scored},
};
use crate::{Figure, LanguageModel, MeasureError, Samples, Unit, stats::Bootstrap};

/// A baseline's logits at every scored position, kept to compare many candidates with.
#[derive(Debug, Clone)]
pub struct Reference {
    passages: Passages,
    /// One entry per passage.
    rows: Vec<Rows>,
    scores: Scores,
}

/// What the baseline says at the scored positions of a passage.
#[derive(Debug, Clone, Default)]
struct Rows {
    /// One row after the other: `[n_scored, vocab]`.
    logits: Vec<f32>,
    /// Each row's [`logits::log_sum_exp`], which every candidate is compared through.
    totals: Vec<f64>,
}

impl Reference {
    /// The memory that [`Reference::record`] needs, to decide against [`divergence_between`].
    pub fn bytes_needed(passages: &Passages, vocab_len: usize) -> usize {
        passages.n_scored() * vocab_len * size_of::<f32>()
    }

    /// Runs the baseline over every passage and keeps its logits.
    ///
    /// # Errors
    /// As [`super::score`].
    pub fn record(
        baseline: &mut dyn LanguageModel,
        passages: &Passages,
    ) -> Result<Self, MeasureError> {
        let recorded = each_passage(baseline, passages, &record_passage)?;
        let mut scores = Scores::empty(passages);
        let mut rows = Vec::with_capacity(passages.len());
        for (index, (passage_rows, score)) in recorded.into_iter().enumerate() {
            scores.push(score, index)?;
            rows.push(passage_rows);
        }
        Ok(Self { passages: passages.clone(), rows, scores })
    }

    /// The baseline's own scores.
    pub fn scores(&self) -> &Scores {
        &self.scores
    }

    /// What was scored.
    pub fn passages(&self) -> &Passages {
        &self.passages
    }

    /// Runs `candidate` over the same passages.
    ///
    /// # Errors
    /// As [`super::score`], or if the vocabularies differ.
    pub fn divergence(
        &self,
        candidate: &mut dyn LanguageModel,
    ) -> Result<Divergence, MeasureError> {
        let compared = each_passage(candidate, &self.passages, &|candidate, passage, index| {
            compare_passage(candidate, passage, index, &self.rows[index])
        })?;
        let mut divergence = Divergence::empty(&self.passages);
        for (index, passage) in compared.into_iter().enumerate() {
            divergence.push(passage, index)?;
        }
        Ok(divergence)
    }
}

/// Runs both models passage by passage, keeping the logits of one passage at a time; gives the
/// baseline's scores and the candidate's divergence.
///
/// # Errors
/// As [`Reference::divergence`].
pub fn divergence_between(
    baseline: &mut dyn LanguageModel,
    candidate: &mut dyn LanguageModel,
    passages: &Passages,
) -> Result<(Scores, Divergence), MeasureError> {
    let mut scores = Scores::empty(passages);
    let mut divergence = Divergence::empty(passages);
    for (index, passage) in passages.iter().enumerate() {
        let (rows, score) = record_passage(baseline, passage, index)?;
        scores.push(score, index)?;
        divergence.push(compare_passage(candidate, passage, index, &rows)?, index)?;
    }
    Ok((scores, divergence))
}

fn record_passage(
    model: &mut dyn LanguageModel,
    passage: &Passage,
    index: usize,
) -> Result<(Rows, PassageScore), MeasureError> {
    let n_scored = passage.n_scored();
    let logits = Vec::with_capacity(n_scored * model.vocab_len());
    let mut rows = Rows { logits, totals: Vec::with_capacity(n_scored) };
    let mut score = PassageScore::default();
    each_scored(model, passage, index, &mut |row, target| {
        let total = logits::log_sum_exp(row);
        rows.logits.extend_from_slice(row);
        rows.totals.push(total);
        score.add(total - f64::from(row[target as usize]));
    })?;
    Ok((rows, score))
}

/// A candidate on one passage.
#[derive(Default)]
struct Compared {
    kl: Vec<f64>,
    n_flips: usize,
    max_abs_delta_logit: f64,
    score: PassageScore,
}

fn compare_passage(
    candidate: &mut dyn LanguageModel,
    passage: &Passage,
    index: usize,
    rows: &Rows,
) -> Result<Compared, MeasureError> {
    let n_vocab = candidate.vocab_len();
    if rows.logits.len() != passage.n_scored() * n_vocab {
        return Err(MeasureError::Data(format!(
            "the candidate's vocabulary has {n_vocab} entries and the baseline's {}; only models \
             of one vocabulary can be compared",
            rows.logits.len() / passage.n_scored()
        )));
    }
    let mut baseline_rows = rows.logits.chunks_exact(n_vocab).zip(&rows.totals);
    let mut compared = Compared::default();
    each_scored(candidate, passage, index, &mut |row, target| {
        let (baseline, &before) = baseline_rows.next().expect("one row per scored position");
        let after = logits::log_sum_exp(row);
        compared.kl.push(logits::kl_of_sums(baseline, before, row, after));
        compared.n_flips += usize::from(logits::argmax(baseline) != logits::argmax(row));
        let delta = logits::max_abs_delta(baseline, row);
        compared.max_abs_delta_logit = compared.max_abs_delta_logit.max(delta);
        compared.score.add(after - f64::from(row[target as usize]));
    })?;
    Ok(compared)
}

/// A candidate against its baseline; compare with [`super::paired_drop`] through `scores`.
#[derive(Debug, Clone)]
pub struct Divergence {
    /// `KL(baseline || candidate)` of each scored token, in order.
    kl: Vec<f64>,
    /// Per passage, how many tokens have another favourite.
    flips: Vec<usize>,
    max_abs_delta_logit: f64,
    scores: Scores,
}

impl Divergence {
    fn empty(passages: &Passages) -> Self {
        Self {
            kl: Vec::with_capacity(passages.n_scored()),
            flips: Vec::with_capacity(passages.len()),
            max_abs_delta_logit: 0.0,
            scores: Scores::empty(passages),
        }
    }

    fn push(&mut self, passage: Compared, index: usize) -> Result<(), MeasureError> {
        self.kl.extend(passage.kl);
        self.flips.push(passage.n_flips);
        self.max_abs_delta_logit = self.max_abs_delta_logit.max(passage.max_abs_delta_logit);
        self.scores.push(passage.score, index)
    }

    /// `KL(baseline || candidate)` per scored token, in nats.
    pub fn kl(&self) -> &[f64] {
        &self.kl
    }

    /// The mean KL divergence per token.
    pub fn mean_kl(&self) -> f64 {
        crate::stats::mean(&self.kl)
    }

    /// Tokens whose favourite changed.
    pub fn n_flips(&self) -> usize {
        self.flips.iter().sum()
    }

    /// The share of tokens with the same favourite.
    pub fn top1_agreement(&self) -> f64 {
        1.0 - self.n_flips() as f64 / self.kl.len() as f64
    }

    /// The greatest distance of any logit.
    pub fn max_abs_delta_logit(&self) -> f64 {
        self.max_abs_delta_logit
    }

    /// The candidate's own scores.
    pub fn scores(&self) -> &Scores {
        &self.scores
    }

    /// `kl_mean`, `kl_median`, `kl_p99`, `kl_max`, `top1_agreement`, `top1_flips` and
    /// `max_abs_delta_logit`; intervals are bootstrapped over passages.
    ///
    /// # Errors
    /// If a divergence is not finite: the candidate rules out what the baseline believes in.
    pub fn figures(&self) -> Result<Vec<Figure>, MeasureError> {
        let samples = Samples::new("kl", self.kl.clone())?;
        let (n, method) = (samples.n(), self.scores.method());
        let kl_method = format!("KL(baseline || candidate) in f64; {method}");
        let counts = self.scores.columns().1;
        let per_passage = self.kl_per_passage();
        let agreed: Vec<f64> =
            counts.iter().zip(&self.flips).map(|(n, flips)| n - *flips as f64).collect();
        let bootstrap = Bootstrap::default();
        let kl = |name, value: f64, interval| {
            // Rounding in f64 leaves equal models some 1e-17 below zero.
            Figure::estimated(name, Unit::Nats, &kl_method, value.max(0.0), n, interval)
        };
        let mean_interval = bootstrap.ratio_of_sums(&per_passage, &counts);
        let mean = samples.mean().max(0.0);
        let mean_interval = mean_interval.map(|i| i.map(|kl| kl.max(0.0)).holding(mean));
        let agreement = self.top1_agreement();
        let delta = self.max_abs_delta_logit;
        Ok(vec![
            kl("kl_mean", mean, mean_interval)?,
            kl("kl_median", samples.median(), None)?,
            kl("kl_p99", samples.percentile(99.0), None)?,
            kl("kl_max", samples.max(), None)?,
            Figure::estimated(
                "top1_agreement",
                Unit::Fraction,
                &format!("same favourite token; {method}"),
                agreement,
                n,
                bootstrap.ratio_of_sums(&agreed, &counts).map(|i| i.holding(agreement)),
            )?,
            Figure::estimated(
                "top1_flips",
                Unit::Count,
                &format!("another favourite token; {method}"),
                self.n_flips() as f64,
                n,
                None,
            )?,
            Figure::estimated("max_abs_delta_logit", Unit::Logit, method, delta, n, None)?,
        ])
    }

    fn kl_per_passage(&self) -> Vec<f64> {
        let mut rest = self.kl.as_slice();
        let lengths = self.scores.passages().iter().map(|p| p.n_scored);
        lengths
            .map(|n| {
                let (these, others) = rest.split_at(n);
                rest = others;
                these.iter().sum()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
