//! Whether the chosen plan learns from the source: it does where that measures better.
//!
//! In: what a desk made. Out: the same, or what it is after it has learned, by text that it did not
//! learn from; and a note that says which, and why.

use super::desk::{Desk, Made};
use crate::distiller::Distiller;
use crate::draft::Draft;
use crate::error::{OptimizeError, Result};
use crate::passes::distill::{Course, Distill};
use crate::passes::{Context, Pass};
use crate::search::Judge;
use crate::search::memory::Remembered;
use std::time::Duration;
use sterna_measure::quality::Passages;
use sterna_model::WeightSource;

/// Fewer documents teach too little.
const MIN_DOCUMENTS: usize = 16;
/// Weights that learn at most: each takes some 40 bytes of memory meanwhile.
const MAX_WEIGHTS: usize = 200_000_000;

impl<'p> Desk<'p, '_> {
    /// What was made, perhaps after it has learned, until `end` at most.
    ///
    /// # Errors
    /// When it cannot be run, or the user stops it.
    pub fn distilled(
        &self,
        made: Made<'p>,
        judge: &mut Remembered<'_>,
        end: Option<Duration>,
    ) -> Result<Made<'p>> {
        let Some(distiller) = self.settings.distiller.as_deref() else { return Ok(made) };
        let is_late = || end.is_some_and(|end| self.clock.now() >= end);
        let lessons = self.prepared.texts.lessons.as_ref();
        let lessons = lessons.filter(|lessons| lessons.len() >= MIN_DOCUMENTS);
        let Made { mut draft, found, loss, kv } = made;
        let n_weights = n_learning(&draft);
        let why = match lessons {
            _ if n_weights == 0 || loss.kl <= 0.0 => Some("nothing was lost by rounding"),
            _ if n_weights > MAX_WEIGHTS => Some("a model of this size would take too much memory"),
            None => Some("there is too little text for it, or a model of this size takes too long"),
            Some(_) if is_late() => Some("no time was left"),
            Some(_) => None,
        };
        if let Some(why) = why {
            draft.note(format!("distill: not tried: {why}"));
            return Ok(Made { draft, found, loss, kv });
        }
        let lessons = lessons.expect("just looked at");
        let learned = match self.taught(draft.clone(), distiller, lessons, &is_late) {
            Ok(learned) => learned,
            Err(OptimizeError::Cancelled) => return Err(OptimizeError::Cancelled),
            // What was searched for is not lost with it.
            Err(why) => {
                draft.note(format!("distill: left, since it failed: {why}"));
                return Ok(Made { draft, found, loss, kv });
            }
        };
        let after = judge.judge_draft(&learned, Some(&kv))?;
        let how = learned.distilled().expect("it has learned");
        // Nearer to the source, and within the drop that the plan was chosen for.
        let is_within = self.settings.budget.max_drop_percent.is_none()
            || after.drop_percent_high <= loss.drop_percent_high.max(0.0);
        let (is_better, n_done) = (after.kl < loss.kl && is_within, how.done);
        let cut = if n_done < how.steps { ", when time was up" } else { "" };
        let words = format!(
            "distill: the plan as rounded: KL {:.5}, {:.5} after learning from {} documents \
             ({n_done} steps{cut}): {}",
            loss.kl,
            after.kl,
            lessons.len(),
            if is_better { "taken" } else { "left" }
        );
        let (mut draft, loss) = if is_better { (learned, after) } else { (draft, loss) };
        draft.note(words);
        Ok(Made { draft, found, loss, kv })
    }

    fn taught(
        &self,
        mut draft: Draft<'p>,
        distiller: &dyn Distiller,
        lessons: &Passages,
        is_late: &dyn Fn() -> bool,
    ) -> Result<Draft<'p>> {
        let model = &self.prepared.model;
        let course = Course {
            distiller,
            teacher: self.engine.load(&model.graph, model)?,
            passages: lessons,
            seed: self.settings.budget.seed,
            is_late,
            watch: self.watch,
        };
        Distill.apply(&mut draft, &mut Context { course: Some(course), ..Context::default() })?;
        Ok(draft)
    }
}

/// Weights in blocks: those that learn.
fn n_learning(draft: &Draft<'_>) -> usize {
    let graph = draft.graph();
    let learns = graph.weight_ids().filter(|id| draft.encoding(*id).tunable().is_some());
    learns.map(|id| graph.decl(id).shape.iter().product::<usize>()).sum()
}
