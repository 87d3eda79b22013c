//! Sensitivity: what each group costs in each encoding when it alone is encoded (S-4).
//!
//! In: groups and a judge. Out: a loss per group and candidate, measured, and for which of them
//! there was no time.

use super::{Depth, Goal, Group, Judge, Load, Loss, groups};
use crate::error::Result;
use crate::progress::{Stage, Watch};
use std::time::Duration;
use sterna_measure::Clock;

/// What was measured.
pub struct Measured {
    /// Per group and candidate.
    pub losses: Vec<Vec<Option<Loss>>>,
    /// Pairs that time did not allow.
    pub late: Vec<(usize, usize)>,
}

/// The measurement.
pub struct Sensitivity<'a> {
    /// What is wanted of the whole plan.
    pub goal: Goal,
    /// What is lost before anything is encoded.
    pub base: Loss,
    /// Measures.
    pub judge: &'a mut dyn Judge,
    /// Tells the time.
    pub clock: &'a dyn Clock,
    /// Whom to tell.
    pub watch: Watch<'a>,
    /// Candidates measured of each group at most.
    pub max_rounds: usize,
    /// When to stop.
    pub deadline: Option<Duration>,
}

impl Sensitivity<'_> {
    /// Per group and candidate the loss beyond the base's; `None` for those that time did not
    /// allow, or that could be in no plan. Candidates go round by round over all groups, so that a
    /// stop leaves every group with something: for a size the lowest first, for a time the fastest,
    /// for a drop the highest, until a group alone costs more than the whole plan may.
    ///
    /// # Errors
    /// When the model cannot be run, or the user stops it.
    pub fn measure(&mut self, groups: &[Group], notes: &mut Vec<String>) -> Result<Measured> {
        let mut losses: Vec<Vec<Option<Loss>>> =
            groups.iter().map(|group| vec![None; group.candidates.len()]).collect();
        losses.iter_mut().for_each(|of_group| of_group[0] = Some(Loss::NONE));
        let order = order(groups, self.goal);
        let (mut n_hopeless, mut late) = (0, Vec::new());
        for (done, &(group, candidate)) in order.iter().enumerate() {
            let is_late = self.deadline.is_some_and(|deadline| self.clock.now() > deadline);
            if is_late || done >= self.max_rounds.saturating_mul(groups.len()) {
                let what = if is_late { "the time budget" } else { "a limit" };
                notes.push(format!(
                    "{what} ended the sensitivity measurement after {done} of {} pairs of tensor \
                     group and encoding; what the others lose is estimated from the errors of \
                     their matrices",
                    order.len()
                ));
                let is_open = |&(group, _): &(usize, usize)| {
                    !losses[group].iter().flatten().any(|loss| self.is_spent(loss))
                };
                late = order[done..].iter().copied().filter(is_open).collect();
                break;
            }
            if losses[group].iter().flatten().any(|loss| self.is_spent(loss)) {
                n_hopeless += 1;
                continue;
            }
            let Group { name, candidates, .. } = &groups[group];
            let note = format!("{name} as {}", candidates[candidate].encoding.name());
            self.watch.step(Stage::Sensitivity, done, order.len(), &note)?;
            let mut choices = vec![0; groups.len()];
            choices[group] = candidate;
            let loss = self.judge.judge(&groups::plan(groups, &choices), Depth::Quick)?;
            losses[group][candidate] = Some(self.added(loss));
        }
        self.watch.step(Stage::Sensitivity, order.len(), order.len(), "done")?;
        if n_hopeless > 0 {
            notes.push(format!(
                "{n_hopeless} pairs of tensor group and encoding were not measured: the group \
                 alone costs more than the budget in an encoding of more bits already"
            ));
        }
        Ok(Measured { losses, late })
    }

    /// What a loss is beyond the base's.
    fn added(&self, loss: Loss) -> Loss {
        if self.base == Loss::NONE {
            return loss;
        }
        Loss {
            kl: (loss.kl - self.base.kl).max(0.0),
            drop_percent: loss.drop_percent - self.base.drop_percent,
            drop_percent_high: loss.drop_percent_high - self.base.drop_percent,
        }
    }

    /// Whether one group's loss is more than a whole plan may lose. On little text the divergence
    /// says so with less noise than the drop that it is expected to bring.
    fn is_spent(&self, loss: &Loss) -> bool {
        let kl = self.base.kl + loss.kl;
        self.goal.drop_limit().is_some_and(|limit| kl.exp_m1() * 100.0 > limit)
    }
}

/// Pairs of group and candidate; per round one of each group.
fn order(groups: &[Group], goal: Goal) -> Vec<(usize, usize)> {
    let rounds = groups.iter().map(|group| group.candidates.len()).max().unwrap_or(0);
    // For a size the lowest first, for a time the fastest, for memory the smallest there.
    let ranked = |of: &Group| {
        let mut ranked: Vec<usize> = (1..of.candidates.len()).rev().collect();
        let by: Option<fn(&Load) -> f64> = if goal.max_nanos.is_some() {
            Some(|takes| takes.nanos)
        } else if goal.max_prompt_nanos.is_some() {
            Some(|takes| takes.prompt_nanos)
        } else if goal.max_resident.is_some() && goal.max_bytes.is_none() {
            Some(|takes| takes.resident as f64)
        } else {
            None
        };
        if let Some(by) = by {
            let takes = |c: usize| by(&of.candidates[c].takes);
            ranked.sort_by(|&a, &b| takes(a).total_cmp(&takes(b)));
        }
        ranked
    };
    let ranked: Vec<Vec<usize>> = groups.iter().map(ranked).collect();
    let round = |round: usize| {
        let ranked = &ranked;
        let nth = move |(group, of): (usize, &Group)| {
            let candidate = match goal.drop_limit() {
                None => *ranked[group].get(round)?,
                Some(_) => 1 + round,
            };
            (1..of.candidates.len()).contains(&candidate).then_some((group, candidate))
        };
        groups.iter().enumerate().filter_map(nth)
    };
    (0..rounds).flat_map(round).collect()
}
