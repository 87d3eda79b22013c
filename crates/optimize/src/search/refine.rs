//! From proposals to a plan: a strategy's combinations are measured whole, and mended (A2).
//!
//! In: sensitivities and a goal. Out: the best plan that was measured. Two tensors that are safe
//! alone may be harmful together; no sum of sensitivities knows, so nothing is chosen that was not
//! measured as it will be written.

use super::knapsack::{Choice, Frontier};
use super::strategies::{self, Problem, Standing, Strategy};
use super::{Depth, Goal, Group, Judge, Loss, Trial, groups};
use crate::error::{OptimizeError, Result};
use crate::progress::{Stage, Watch};
use std::collections::HashSet;
use std::time::Duration;
use sterna_measure::Clock;

/// Steps tried in a row without success before the search ends.
const PATIENCE: usize = 16;

/// Measured search over whole plans.
pub struct Refine<'a> {
    /// The groups.
    pub groups: &'a [Group],
    /// Per group and candidate, as measured alone.
    pub sensitivities: &'a [Vec<Option<Loss>>],
    /// What is wanted.
    pub goal: Goal,
    /// Plans measured before any other, as labels and choices, until one reaches the goal.
    pub starts: Vec<(String, Vec<usize>)>,
    /// Plans measured at most, besides those.
    pub max_checks: usize,
    /// Measures.
    pub judge: &'a mut dyn Judge,
    /// Tells the time.
    pub clock: &'a dyn Clock,
    /// Whom to tell.
    pub watch: Watch<'a>,
    /// When to stop.
    pub deadline: Option<Duration>,
    /// What proposes whole plans.
    pub strategy: &'static dyn Strategy,
    /// The seed of everything random in it.
    pub seed: u64,
    /// Every plan measured.
    pub trials: Vec<Trial>,
}

/// A step from one plan to another, with what the sensitivities say of it.
struct Step {
    choices: Vec<usize>,
    label: String,
    rank: f64,
}

/// What came of it.
pub struct Refined {
    /// Index of the best plan among the trials.
    pub chosen: usize,
    /// Whether it reaches the goal.
    pub is_met: bool,
    /// What every strategy proposes within the goal's bytes, or those of the plan chosen.
    pub strategies: Vec<Standing>,
}

/// The knapsack if losses added up.
struct Summed {
    /// Per group the candidates that were measured.
    considered: Vec<Vec<usize>>,
    /// Bytes and losses of these.
    groups: Vec<Vec<Choice>>,
    frontier: Frontier,
}

impl Summed {
    fn within(&self, limit: u64) -> Problem<'_> {
        Problem { groups: &self.groups, frontier: &self.frontier, limit }
    }
}

impl Refine<'_> {
    /// Finds the best plan.
    ///
    /// # Errors
    /// When nothing is small enough, the model cannot be run, or the user stops it.
    pub fn run(&mut self) -> Result<Refined> {
        let summed = self.summed();
        self.try_plan("unchanged", vec![0; self.groups.len()])?;
        for (label, choices) in self.starts.clone() {
            let trial = self.try_plan(&label, choices)?;
            if self.goal.is_met(&self.trials[trial]) {
                break;
            }
        }
        match self.goal {
            Goal::Bytes(limit) => {
                let Some(choices) = self.propose(&summed, limit) else {
                    let least = summed.frontier.bytes(0);
                    return Err(OptimizeError::Input(format!(
                        "the tensors take at least {least} bytes in the encodings allowed and \
                         measured, and the budget leaves {limit} for them; raise the budget or \
                         allow more"
                    )));
                };
                self.try_plan(self.strategy.name(), choices)?;
            }
            Goal::DropPercent(_) => self.bisect(&summed)?,
        }
        self.mend()?;
        let best = self.best().expect("the unchanged plan was measured");
        let n = self.trials.len();
        self.watch.step(Stage::Search, n, n, &self.trials[best].label)?;
        let limit = match self.goal {
            Goal::Bytes(limit) => limit,
            Goal::DropPercent(_) => self.trials[best].bytes,
        };
        Ok(Refined {
            chosen: best,
            is_met: self.goal.is_met(&self.trials[best]),
            strategies: strategies::compare(&summed.within(limit), self.seed),
        })
    }

    /// The knapsack of summed sensitivities, over the candidates that were measured.
    fn summed(&self) -> Summed {
        let measured = |losses: &Vec<Option<Loss>>| {
            (0..losses.len()).filter(|&c| losses[c].is_some()).collect::<Vec<_>>()
        };
        let considered: Vec<Vec<usize>> = self.sensitivities.iter().map(measured).collect();
        let choice = |group: usize, candidate: usize| Choice {
            bytes: self.groups[group].candidates[candidate].bytes,
            loss: self.predicted(group, candidate),
        };
        let groups: Vec<Vec<Choice>> = considered
            .iter()
            .enumerate()
            .map(|(group, candidates)| candidates.iter().map(|&c| choice(group, c)).collect())
            .collect();
        Summed { frontier: Frontier::new(&groups), groups, considered }
    }

    /// What the strategy proposes within a limit.
    fn propose(&self, summed: &Summed, limit: u64) -> Option<Vec<usize>> {
        let proposal = self.strategy.propose(&summed.within(limit), self.seed)?;
        Some(candidates(&summed.considered, &proposal.choices))
    }

    /// The divergence of a group alone; only asked of measured ones.
    fn predicted(&self, group: usize, candidate: usize) -> f64 {
        let loss = self.sensitivities[group][candidate];
        loss.map_or(f64::INFINITY, |loss| loss.kl.max(0.0))
    }

    /// The smallest proposal that reaches the goal, as if losses rose as sizes fall.
    fn bisect(&mut self, summed: &Summed) -> Result<()> {
        let (mut low, mut high) = (0, summed.frontier.len());
        while low < high && self.may_go_on() {
            let middle = (low + high) / 2;
            let choices = self.propose(summed, summed.frontier.bytes(middle));
            let choices = choices.expect("a size of the frontier can be had");
            let trial = self.try_plan(self.strategy.name(), choices)?;
            if self.goal.is_met(&self.trials[trial]) { high = middle } else { low = middle + 1 }
        }
        Ok(())
    }

    /// From the best plan on, takes measured steps as long as one helps.
    fn mend(&mut self) -> Result<()> {
        let mut n_failed = 0;
        while let Some(current) = self.best() {
            let tried: HashSet<Vec<usize>> =
                self.trials.iter().map(|trial| trial.choices.clone()).collect();
            let steps = self.steps(&self.trials[current].clone(), &tried);
            let mut is_better = false;
            for step in steps {
                if n_failed >= PATIENCE || !self.may_go_on() {
                    return Ok(());
                }
                self.try_plan(&step.label, step.choices)?;
                is_better = self.best() != Some(current);
                n_failed = if is_better { 0 } else { n_failed + 1 };
                if is_better {
                    break;
                }
            }
            if !is_better {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Steps worth a measurement, the most promising first: one group moved, or two at once.
    fn steps(&self, from: &Trial, tried: &HashSet<Vec<usize>>) -> Vec<Step> {
        let singles: Vec<(usize, usize)> = (0..self.groups.len())
            .flat_map(|group| (0..self.groups[group].candidates.len()).map(move |c| (group, c)))
            .filter(|&(g, c)| c != from.choices[g] && self.sensitivities[g][c].is_some())
            .collect();
        let mut steps = Vec::new();
        for (i, &first) in singles.iter().enumerate() {
            steps.extend(self.step(from, &[first]));
            let others = singles[i + 1..].iter().filter(|second| second.0 != first.0);
            steps.extend(others.filter_map(|&second| self.step(from, &[first, second])));
        }
        steps.retain(|step| !tried.contains(&step.choices));
        steps.sort_by(|a, b| a.rank.total_cmp(&b.rank).then_with(|| a.choices.cmp(&b.choices)));
        steps.truncate(2 * PATIENCE);
        steps
    }

    /// The plan after some moves, if it could be better by size alone.
    fn step(&self, from: &Trial, moves: &[(usize, usize)]) -> Option<Step> {
        let (mut bytes, mut rise) = (from.bytes as i64, 0.0);
        for &(group, candidate) in moves {
            let candidates = &self.groups[group].candidates;
            let now = from.choices[group];
            bytes += candidates[candidate].bytes as i64 - candidates[now].bytes as i64;
            rise += self.predicted(group, candidate) - self.predicted(group, now);
        }
        let saved = from.bytes as i64 - bytes;
        let rank = match self.goal {
            Goal::Bytes(limit) => (bytes <= limit as i64).then_some(rise)?,
            // What a byte saved costs; steps that save and also improve come first.
            Goal::DropPercent(_) => (saved > 0).then_some(rise / saved as f64)?,
        };
        let mut choices = from.choices.clone();
        let mut words = Vec::new();
        for &(group, candidate) in moves {
            choices[group] = candidate;
            let Group { name, candidates, .. } = &self.groups[group];
            words.push(format!("{name} as {}", candidates[candidate].encoding.name()));
        }
        Some(Step { choices, label: words.join(", "), rank })
    }

    /// The best trial so far: one that reaches the goal at the least price, else the nearest.
    fn best(&self) -> Option<usize> {
        let goal = self.goal;
        let met = (0..self.trials.len()).filter(|&t| goal.is_met(&self.trials[t]));
        let price = |&t: &usize| goal.price(&self.trials[t]);
        met.min_by(|a, b| price(a).total_cmp(&price(b)))
            .or_else(|| (0..self.trials.len()).min_by_key(|&t| self.trials[t].bytes))
    }

    fn may_go_on(&self) -> bool {
        let is_late = self.deadline.is_some_and(|deadline| self.clock.now() > deadline);
        self.trials.len() < self.max_checks + self.starts.len() && !is_late
    }

    /// Measures a plan, once; gives its index.
    fn try_plan(&mut self, label: &str, choices: Vec<usize>) -> Result<usize> {
        if let Some(index) = self.trials.iter().position(|trial| trial.choices == choices) {
            return Ok(index);
        }
        self.watch.step(Stage::Search, self.trials.len(), self.max_checks, label)?;
        let plan = groups::plan(self.groups, &choices);
        let loss = match plan.is_empty() {
            true => Loss::NONE,
            false => self.judge.judge(&plan, Depth::Full)?,
        };
        let bytes = groups::bytes(self.groups, &choices);
        self.trials.push(Trial { label: label.into(), choices, bytes, loss });
        Ok(self.trials.len() - 1)
    }
}

/// From positions among the considered candidates to candidates.
fn candidates(considered: &[Vec<usize>], positions: &[usize]) -> Vec<usize> {
    considered.iter().zip(positions).map(|(of_group, &position)| of_group[position]).collect()
}
