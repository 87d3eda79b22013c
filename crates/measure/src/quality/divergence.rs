//! How far a model's predictions lie from a baseline's on the same tokens: the damage that an
//! unchanged accuracy hides (A5).
//!
//! In: a baseline and a candidate. Out: [`Divergence`]: KL divergence per token, flips, logit
//! distances, and both models' scores, all from one run of each.

use super::{
    logits,
    passages::{Passage, Passages},
    predictions::{self, Compared, Predictions},
    rows::Rows,
    scores::{Scores, each_passage, each_scored},
};
use crate::scratch::Scratch;
use crate::{Figure, LanguageModel, MeasureError, Samples, Unit, stats::Bootstrap};

/// A baseline's logits at every scored position, kept to compare many candidates with.
#[derive(Debug)]
pub struct Reference {
    passages: Passages,
    /// One entry per passage.
    rows: Vec<Rows>,
    said: Vec<Predictions>,
    scores: Scores,
    scratch: Option<Scratch>,
}

impl Reference {
    /// The memory that [`Reference::record`] needs, to decide against [`divergence_between`].
    pub fn bytes_needed(passages: &Passages, vocab_len: usize) -> usize {
        passages.n_scored() * vocab_len * size_of::<f32>()
    }

    /// Runs the baseline over every passage and keeps its logits, in memory or in `scratch`.
    ///
    /// # Errors
    /// As [`super::score`], or when `scratch` is too small or its disk full.
    pub fn record(
        baseline: &mut dyn LanguageModel,
        passages: &Passages,
        scratch: Option<Scratch>,
    ) -> Result<Self, MeasureError> {
        let recorded = each_passage(baseline, passages, &|model, passage, index| {
            record_passage(model, passage, index, scratch.as_ref())
        })?;
        let (rows, said): (Vec<Rows>, Vec<Predictions>) = recorded.into_iter().unzip();
        let scores = Scores::derive(passages, &said)?;
        Ok(Self { passages: passages.clone(), rows, said, scores, scratch })
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
            compare_passage(candidate, passage, index, (&self.rows[index], self.scratch.as_ref()))
        })?;
        Divergence::derive(&self.passages, self.said.clone(), compared)
    }
}

/// Runs both models passage by passage, keeping the logits of one passage at a time.
///
/// # Errors
/// As [`Reference::divergence`].
pub fn divergence_between(
    baseline: &mut dyn LanguageModel,
    candidate: &mut dyn LanguageModel,
    passages: &Passages,
) -> Result<Divergence, MeasureError> {
    let (mut said, mut compared) = (Vec::new(), Vec::new());
    for (index, passage) in passages.iter().enumerate() {
        let (rows, baseline_said) = record_passage(baseline, passage, index, None)?;
        said.push(baseline_said);
        compared.push(compare_passage(candidate, passage, index, (&rows, None))?);
    }
    Divergence::derive(passages, said, compared)
}

fn record_passage(
    model: &mut dyn LanguageModel,
    passage: &Passage,
    index: usize,
    scratch: Option<&Scratch>,
) -> Result<(Rows, Predictions), MeasureError> {
    let mut rows = Rows::new(passage.n_scored(), model.vocab_len(), scratch)?;
    let (mut said, mut written) = (Predictions::default(), Ok(()));
    each_scored(model, passage, index, &mut |row, target| {
        let sums = logits::sums(row);
        if written.is_ok() {
            written = rows.push(row, sums.0, scratch);
        }
        said.push(row, sums, target);
    })?;
    written?;
    Ok((rows, said))
}

fn compare_passage(
    candidate: &mut dyn LanguageModel,
    passage: &Passage,
    index: usize,
    (rows, scratch): (&Rows, Option<&Scratch>),
) -> Result<Compared, MeasureError> {
    let (n_vocab, n_before) = (candidate.vocab_len(), rows.n_vocab());
    if n_before != n_vocab {
        return Err(MeasureError::Data(format!(
            "the candidate's vocabulary has {n_vocab} entries and the baseline's {n_before}; only \
             models of one vocabulary can be compared"
        )));
    }
    let (mut compared, mut n_seen, mut read) = (Compared::default(), 0, Ok(()));
    let mut buffer = Vec::new();
    each_scored(candidate, passage, index, &mut |row, target| {
        let sums = logits::sums(row);
        match rows.row(n_seen, scratch, &mut buffer) {
            Ok((baseline, before)) => {
                compared.kl.push(logits::kl_of_sums(baseline, before, row, sums.0));
                let delta = logits::max_abs_delta(baseline, row);
                compared.max_abs_delta_logit = compared.max_abs_delta_logit.max(delta);
            }
            Err(error) => read = Err(error),
        }
        compared.said.push(row, sums, target);
        n_seen += 1;
    })?;
    read?;
    Ok(compared)
}

/// A candidate against its baseline: all of it follows from the raw samples of both.
#[derive(Debug, Clone)]
pub struct Divergence {
    baseline: Vec<Predictions>,
    compared: Vec<Compared>,
    /// `KL(baseline || candidate)` of each scored token, in order.
    kl: Vec<f64>,
    /// Per passage, how many tokens have another favourite.
    flips: Vec<usize>,
    baseline_scores: Scores,
    scores: Scores,
}

impl Divergence {
    /// From what both said, passage by passage.
    ///
    /// # Errors
    /// When the samples are not of these passages, or a logit was not finite.
    pub fn derive(
        passages: &Passages,
        baseline: Vec<Predictions>,
        compared: Vec<Compared>,
    ) -> Result<Self, MeasureError> {
        predictions::check(passages, &baseline, Some(&compared))?;
        let n_flips = |(before, after): (&Predictions, &Compared)| {
            before.top.iter().zip(&after.said.top).filter(|(a, b)| a != b).count()
        };
        Ok(Self {
            kl: compared.iter().flat_map(|c| c.kl.iter().copied()).collect(),
            flips: baseline.iter().zip(&compared).map(n_flips).collect(),
            baseline_scores: Scores::derive(passages, &baseline)?,
            scores: Scores::derive(passages, compared.iter().map(|c| &c.said))?,
            baseline,
            compared,
        })
    }

    /// What the baseline said, per passage.
    pub fn baseline(&self) -> &[Predictions] {
        &self.baseline
    }

    /// What the candidate said, per passage.
    pub fn compared(&self) -> &[Compared] {
        &self.compared
    }

    /// The baseline's scores.
    pub fn baseline_scores(&self) -> &Scores {
        &self.baseline_scores
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
        self.compared.iter().map(|c| c.max_abs_delta_logit).fold(0.0, f64::max)
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
        let delta = self.max_abs_delta_logit();
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
        self.compared.iter().map(|compared| compared.kl.iter().sum()).collect()
    }
}

#[cfg(test)]
mod tests;
