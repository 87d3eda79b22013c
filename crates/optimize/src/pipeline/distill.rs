//! Whether the chosen plan learns from the source: it does where that measures better.
//!
//! In: what a desk made. Out: the same, or what it is after it has learned, by text that it did not
//! learn from; and a note that says which, and why.

use super::desk::{AIM, Desk, Made};
use super::{Prepared, Settings};
use crate::distiller::Distiller;
use crate::distiller::keeper::Keeper;
use crate::draft::Draft;
use crate::error::{OptimizeError, Result};
use crate::passes::distill::{Course, Distill, documents};
use crate::passes::{Context, Pass};
use crate::search::Judge;
use crate::search::memory::Remembered;
use std::time::Duration;
use sterna_measure::quality::Passages;
use sterna_model::WeightSource;

/// Fewer documents teach too little.
const MIN_DOCUMENTS: usize = 16;

/// Why the plan that is chosen cannot learn, whichever it is.
pub fn obstacle(settings: &Settings, prepared: &Prepared) -> Option<String> {
    let (model, lessons) = (&prepared.model, prepared.texts.lessons.as_ref());
    let lessons = lessons.filter(|lessons| lessons.len() >= MIN_DOCUMENTS);
    let Some(lessons) = lessons else {
        return Some(format!(
            "there is too little text that plans are not judged by, or a model of {} parameters \
             takes too long for {MIN_DOCUMENTS} documents",
            model.graph.n_parameters()
        ));
    };
    settings.distiller.as_ref()?.lacks(&model.graph, &documents(lessons))
}

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
        let left = || end.map(|end| end.saturating_sub(self.clock.now()));
        let Made { mut draft, found, loss, kv } = made;
        let why = match obstacle(self.settings, self.prepared) {
            _ if loss.kl <= 0.0 || !has_blocks(&draft) => {
                Some("nothing was lost by rounding".into())
            }
            None if left().is_some_and(|left| left.is_zero()) => Some("no time was left".into()),
            why => why,
        };
        let lessons = self.prepared.texts.lessons.as_ref().filter(|_| why.is_none());
        let Some(lessons) = lessons else {
            draft.note(format!("distill: not tried: {}", why.unwrap_or_default()));
            return Ok(Made { draft, found, loss, kv });
        };
        let learned = self.taught(draft.clone(), distiller, lessons, &left).and_then(|learned| {
            let after = judge.judge_draft(&learned, Some(&kv))?;
            Ok((learned, after))
        });
        let (learned, after) = match learned {
            Ok(learned) => learned,
            Err(OptimizeError::Cancelled) => return Err(OptimizeError::Cancelled),
            // What was searched for is not lost with it.
            Err(why) => {
                draft.note(format!("distill: left, since it failed: {why}"));
                return Ok(Made { draft, found, loss, kv });
            }
        };
        let how = learned.distilled().expect("it has learned");
        let max_drop = self.settings.budget.max_drop_percent;
        let keeps_drop = max_drop
            .is_none_or(|most| after.drop_percent_high <= (most * AIM).max(loss.drop_percent_high));
        let (is_better, n_done) = (after.kl < loss.kl && keeps_drop, how.done);
        let cut = if n_done < how.steps { ", when time was up" } else { "" };
        let words = format!(
            "distill: the plan as rounded: KL {:.5}, {:.5} after learning from {} documents \
             ({n_done} steps{cut}): {}",
            loss.kl,
            after.kl,
            lessons.len(),
            match is_better {
                true => "taken",
                false if keeps_drop => "left",
                false => "left, since the drop is too near to what it may be",
            }
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
        left: &dyn Fn() -> Option<Duration>,
    ) -> Result<Draft<'p>> {
        let (model, folder) = (&self.prepared.model, &*self.settings.output);
        let distiller = Keeper { distiller, folder, resume: self.settings.resume };
        let course = Course {
            distiller: &distiller,
            teacher: self.engine.load(&model.graph, model)?,
            passages: lessons,
            seed: self.settings.budget.seed,
            left,
            watch: self.watch,
        };
        Distill.apply(&mut draft, &mut Context { course: Some(course), ..Context::default() })?;
        Ok(draft)
    }
}

/// Whether there is anything in it that learns.
fn has_blocks(draft: &Draft<'_>) -> bool {
    draft.graph().weight_ids().any(|id| draft.encoding(id).tunable().is_some())
}
