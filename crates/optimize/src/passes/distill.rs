//! `distill`: what rounding lost is learned back.
//!
//! Codes and factors of blocks follow the gradient of the divergence from the source on calibration
//! text; encodings, sizes and kernels stay what they were. It costs training steps, so it is run
//! for one plan, the chosen one.

use super::{Context, Pass};
use crate::distiller::{Distiller, Lessons};
use crate::draft::{Draft, Edit};
use crate::engine::Loaded;
use crate::error::{OptimizeError, Result};
use crate::progress::{Stage, Watch};
use std::time::Duration;
use sterna_measure::quality::Passages;

/// Distillation into a quantized model.
pub struct Distill;

/// Who teaches, and from what.
pub struct Course<'a> {
    /// Has models learn.
    pub distiller: &'a dyn Distiller,
    /// The source, ready to run.
    pub teacher: Box<dyn Loaded>,
    /// The text.
    pub passages: &'a Passages,
    /// The seed of the order of documents.
    pub seed: u64,
    /// The time left, if it is limited.
    pub left: &'a dyn Fn() -> Option<Duration>,
    /// Whom to tell.
    pub watch: Watch<'a>,
}

impl Pass for Distill {
    fn name(&self) -> &'static str {
        "distill"
    }

    fn about(&self) -> &'static str {
        "has codes and scales learn from the source's answers what rounding lost"
    }

    fn apply(&self, draft: &mut Draft<'_>, context: &mut Context<'_>) -> Result<()> {
        let Some(Course { distiller, mut teacher, passages, seed, left, watch }) =
            context.course.take()
        else {
            return Ok(());
        };
        let documents = documents(passages);
        let mut answer = |document: usize| {
            let tokens = documents[document];
            let mut logits = Vec::with_capacity(tokens.len() * teacher.vocab_len());
            let inputs = &tokens[..tokens.len() - 1];
            let said = teacher.score(inputs, &mut |_, row| logits.extend_from_slice(row));
            said.map_err(|why| OptimizeError::failed("asking the source", why))?;
            Ok(logits)
        };
        let mut first = None;
        let mut told = |done, of, kl| {
            let note = format!("KL {kl:.5} from the source on the last documents");
            watch.step(Stage::Distill, done, of, &note)?;
            let Some(left) = left() else { return Ok(of) };
            let first = *first.get_or_insert((done, left));
            Ok(n_within(first, (done, left)).unwrap_or(of))
        };
        let rounding = draft.rounding();
        let learned = distiller.learn(Lessons {
            graph: draft.graph(),
            stored: draft,
            original: &draft.unrounded(),
            documents: documents.clone(),
            teacher: &mut answer,
            seed,
            told: &mut told,
        })?;
        for (id, bytes) in learned.weights {
            let provenance = "distill: learned from the source".to_owned();
            let encoding = sterna_model::WeightSource::encoding(draft, id);
            draft.encode(id, Edit { encoding, bytes: Some(bytes.into()), provenance })?;
        }
        draft.set_distilled(rounding, learned.how);
        Ok(())
    }
}

/// The steps that fit in the time there is, from those done and the time left after the first and
/// now. Nothing is known after the first one, but that no more are done where no time is left.
fn n_within(first: (usize, Duration), now: (usize, Duration)) -> Option<usize> {
    let (n_timed, took) = (now.0 - first.0, first.1.saturating_sub(now.1));
    if now.1.is_zero() || n_timed == 0 {
        return now.1.is_zero().then_some(now.0);
    }
    let per_step = took.as_secs_f64() / n_timed as f64;
    Some(now.0.saturating_add((now.1.as_secs_f64() / per_step.max(1e-9)) as usize))
}

/// The tokens of each document.
pub fn documents(passages: &Passages) -> Vec<&[u32]> {
    passages.iter().map(|passage| &passage.tokens[..]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_fit_in_the_time_there_is() {
        let s = Duration::from_secs;
        assert_eq!(n_within((1, s(90)), (1, s(90))), None, "the first one is not timed");
        assert_eq!(n_within((1, s(90)), (3, s(70))), Some(10));
        assert_eq!(n_within((1, s(90)), (3, s(89))), Some(3 + 178));
        assert_eq!(n_within((1, s(90)), (8, s(0))), Some(8), "no time is left");
        assert_eq!(n_within((1, s(0)), (1, s(0))), Some(1));
        assert_eq!(n_within((1, s(5)), (2, s(5))), Some(5_000_000_002), "no clock is that fine");
    }
}
