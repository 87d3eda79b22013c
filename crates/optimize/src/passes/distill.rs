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
        let at_first = left();
        let mut told = |done, of, kl| {
            let note = format!("KL {kl:.5} from the source on the last documents");
            watch.step(Stage::Distill, done, of, &note)?;
            Ok(at_first.zip(left()).map_or(of, |times| n_within(times, done)))
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

/// The steps that fit in the time there was at first, where some are done and so much is left.
fn n_within((at_first, left): (Duration, Duration), done: usize) -> usize {
    let per_step = at_first.saturating_sub(left).as_secs_f64() / done.max(1) as f64;
    done.saturating_add((left.as_secs_f64() / per_step.max(1e-9)) as usize)
}

/// The tokens of each document.
pub fn documents(passages: &Passages) -> Vec<&[u32]> {
    passages.iter().map(|passage| &passage.tokens[..]).collect()
}
