//! Sensitivity: what each group costs in each encoding when it alone is encoded (S-4).
//!
//! In: groups and a judge. Out: a loss per group and candidate, measured.

use super::{Depth, Group, Judge, Loss, groups};
use crate::error::Result;
use crate::progress::{Stage, Watch};
use std::time::Duration;
use sterna_measure::Clock;

/// The measurement.
pub struct Sensitivity<'a> {
    /// Measures.
    pub judge: &'a mut dyn Judge,
    /// Tells the time.
    pub clock: &'a dyn Clock,
    /// Whom to tell.
    pub watch: Watch<'a>,
    /// When to stop.
    pub deadline: Option<Duration>,
}

impl Sensitivity<'_> {
    /// Per group and candidate the loss; `None` for those that time did not allow. Candidates go
    /// round by round, the lowest of every group first, so that a stop leaves every group with
    /// something.
    ///
    /// # Errors
    /// When the model cannot be run, or the user stops it.
    pub fn measure(
        &mut self,
        groups: &[Group],
        notes: &mut Vec<String>,
    ) -> Result<Vec<Vec<Option<Loss>>>> {
        let mut losses: Vec<Vec<Option<Loss>>> =
            groups.iter().map(|group| vec![None; group.candidates.len()]).collect();
        losses.iter_mut().for_each(|of_group| of_group[0] = Some(Loss::NONE));
        let order = order(groups);
        for (done, &(group, candidate)) in order.iter().enumerate() {
            if self.deadline.is_some_and(|deadline| self.clock.now() > deadline) {
                notes.push(format!(
                    "the time budget ended the sensitivity measurement after {done} of {} pairs \
                     of tensor group and encoding; the others were not considered",
                    order.len()
                ));
                break;
            }
            let Group { name, candidates, .. } = &groups[group];
            let note = format!("{name} as {}", candidates[candidate].encoding.name());
            self.watch.step(Stage::Sensitivity, done, order.len(), &note)?;
            let mut choices = vec![0; groups.len()];
            choices[group] = candidate;
            let loss = self.judge.judge(&groups::plan(groups, &choices), Depth::Quick)?;
            losses[group][candidate] = Some(loss);
        }
        self.watch.step(Stage::Sensitivity, order.len(), order.len(), "done")?;
        Ok(losses)
    }
}

/// Pairs of group and candidate, the lowest candidates first.
fn order(groups: &[Group]) -> Vec<(usize, usize)> {
    let rounds = groups.iter().map(|group| group.candidates.len()).max().unwrap_or(0);
    let round = |round: usize| {
        let nth_lowest = move |(group, of): (usize, &Group)| {
            let candidate = of.candidates.len().checked_sub(1 + round)?;
            (candidate > 0).then_some((group, candidate))
        };
        groups.iter().enumerate().filter_map(nth_lowest)
    };
    (0..rounds).flat_map(round).collect()
}
