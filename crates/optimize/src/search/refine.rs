//! From proposals to a plan: a strategy's combinations are measured whole, and mended (A2).
//!
//! In: sensitivities and a goal. Out: the best plan that was measured. Two tensors that are safe
//! alone may be harmful together; no sum of sensitivities knows, so nothing is chosen that was not
//! measured as it will be written.

use super::Load;
use super::estimate::Expected;
use super::goal::Axis;
use super::knapsack::{Choice, Frontier};
use super::strategies::{self, Problem, Standing, Strategy};
use super::{Candidate, Depth, Goal, Group, Judge, Least, Trial, groups};
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
    /// Per group and candidate the divergence alone, measured or estimated.
    pub expected: &'a Expected,
    /// What is wanted.
    pub goal: Goal,
    /// Plans measured before any other, as labels and choices, until one reaches the goal.
    pub starts: Vec<(String, Vec<usize>)>,
    /// A plan of the strategy table, as label and choices: measured too, and no reason to stop.
    pub preset: Option<(String, Vec<usize>)>,
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
    /// What the slowest of them took.
    pub slowest: Duration,
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
    /// Per group the candidates of which something is known.
    considered: Vec<Vec<usize>>,
    /// Sizes and losses of these.
    groups: Vec<Vec<Choice>>,
    frontier: Frontier,
    /// What they are laid out along.
    axis: Axis,
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
        self.try_plan("unchanged", vec![0; self.groups.len()])?;
        for (n_before, (label, choices)) in self.starts.clone().into_iter().enumerate() {
            // One is measured in any case.
            if n_before > 0 && self.is_late() {
                break;
            }
            let trial = self.try_plan(&label, choices)?;
            if self.goal.is_met(&self.trials[trial]) {
                break;
            }
        }
        if let Some((label, choices)) = self.preset.clone()
            && self.goal.has_room(groups::takes(self.groups, &choices))
            && !self.is_late()
        {
            self.try_plan(&label, choices)?;
        }
        let unchanged = &self.trials[0];
        let axes = self.goal.axes(unchanged.takes);
        let layouts: Vec<Summed> = axes.into_iter().map(|axis| self.summed(axis)).collect();
        // Time may have allowed no more than the plans to start from.
        let has_room = |trial: &Trial| self.goal.has_room(trial.takes);
        let mut is_possible = self.trials.iter().any(has_room);
        for (n_before, layout) in layouts.iter().enumerate() {
            // One proposal is measured in any case.
            if n_before > 0 && is_possible && self.is_late() {
                break;
            }
            is_possible |= self.explore(layout)?;
        }
        // Where quality is capped, plans that would keep the others may have been given up.
        if !is_possible && self.goal.drop_limit().is_none() {
            return Err(self.impossible(&layouts));
        }
        self.mend()?;
        let best = self.best().expect("the unchanged plan was measured");
        let n = self.trials.len();
        self.watch.step(Stage::Search, n, n, &self.trials[best].label)?;
        let layout = &layouts[layouts.len() / 2];
        let taken = || self.size(&layout.axis, &self.trials[best].choices);
        let limit = match self.goal.least {
            Least::Divergence => layout.axis.limit(&self.goal).unwrap_or_else(taken),
            Least::Bytes | Least::Time => taken(),
        };
        let unit = layout.axis.unit();
        Ok(Refined {
            chosen: best,
            is_met: self.goal.is_met(&self.trials[best]),
            strategies: strategies::compare(&layout.within(limit), unit, self.seed),
        })
    }

    /// Measures what the strategy proposes along an axis; gives whether anything there keeps the
    /// caps on bytes and time.
    fn explore(&mut self, summed: &Summed) -> Result<bool> {
        let room = |&index: &usize| {
            let choices = candidates(&summed.considered, &summed.frontier.choices(index));
            self.goal.has_room(groups::takes(self.groups, &choices))
        };
        let fitting = (0..summed.frontier.len()).filter(room);
        let sizes: Vec<u64> = fitting.map(|index| summed.frontier.size(index)).collect();
        let Some(&largest) = sizes.last() else { return Ok(false) };
        if self.goal.drop_limit().is_some() {
            self.bisect(summed, &sizes)?;
        } else {
            let limit = summed.axis.limit(&self.goal).unwrap_or(largest);
            let choices = self.propose(summed, limit).expect("a size of the frontier can be had");
            self.try_plan(self.strategy.name(), choices)?;
        }
        Ok(true)
    }

    /// Why no plan keeps the caps on bytes and time.
    fn impossible(&self, layouts: &[Summed]) -> OptimizeError {
        let least = |takes: &dyn Fn(&Candidate) -> f64| -> f64 {
            let of_group = |(group, measured): (&Group, &Vec<usize>)| {
                let all = measured.iter().map(|&c| takes(&group.candidates[c]));
                all.fold(f64::INFINITY, f64::min)
            };
            self.groups.iter().zip(&layouts[0].considered).map(of_group).sum()
        };
        let bytes = least(&|c| c.takes.bytes as f64);
        let nanos = least(&|c| c.takes.nanos);
        let prompt_nanos = least(&|c| c.takes.prompt_nanos);
        let resident = least(&|c| c.takes.resident as f64);
        let mut words = Vec::new();
        if let Some(limit) = self.goal.max_bytes {
            words.push(format!("at least {bytes} bytes, and the budget leaves {limit} for them"));
        }
        if let Some(limit) = self.goal.max_nanos {
            let (nanos, limit) = (nanos / 1e3, limit / 1e3);
            words.push(format!(
                "at least {nanos:.1} us of a token here, and the budget leaves {limit:.1} us for \
                 them"
            ));
        }
        if let Some(limit) = self.goal.max_prompt_nanos {
            let (nanos, limit) = (prompt_nanos / 1e6, limit / 1e6);
            words.push(format!(
                "at least {nanos:.3} ms of a prompt here, and the budget leaves {limit:.3} ms for \
                 them"
            ));
        }
        if let Some(limit) = self.goal.max_resident {
            words.push(format!(
                "at least {resident} bytes of memory, and the budget leaves {limit} for them"
            ));
        }
        let takes = Load { bytes: bytes as u64, nanos, prompt_nanos, resident: resident as u64 };
        let together = match (self.goal.has_room(takes), words.len()) {
            (true, 2) => ", each by another plan: no plan keeps both caps",
            (true, _) => ", each by another plan: no plan keeps all caps",
            (false, _) => "",
        };
        OptimizeError::Input(format!(
            "in the encodings allowed and measured the tensors take {}{together}; raise the budget \
             or allow more",
            words.join(", and they take ")
        ))
    }

    /// How much of an axis a choice takes.
    fn size(&self, axis: &Axis, choices: &[usize]) -> u64 {
        let chosen = self.groups.iter().zip(choices);
        chosen.map(|(group, &choice)| axis.size(&group.candidates[choice])).sum()
    }

    /// The knapsack of summed sensitivities along an axis, over the candidates that are considered.
    fn summed(&self, axis: Axis) -> Summed {
        let known = |losses: &Vec<Option<f64>>| {
            (0..losses.len()).filter(|&c| losses[c].is_some()).collect::<Vec<_>>()
        };
        let considered: Vec<Vec<usize>> = self.expected.iter().map(known).collect();
        let choice = |group: usize, candidate: usize| Choice {
            size: axis.size(&self.groups[group].candidates[candidate]),
            loss: self.predicted(group, candidate),
        };
        let groups: Vec<Vec<Choice>> = considered
            .iter()
            .enumerate()
            .map(|(group, candidates)| candidates.iter().map(|&c| choice(group, c)).collect())
            .collect();
        Summed { frontier: Frontier::new(&groups), groups, considered, axis }
    }

    /// What the strategy proposes within a limit.
    fn propose(&self, summed: &Summed, limit: u64) -> Option<Vec<usize>> {
        let proposal = self.strategy.propose(&summed.within(limit), self.seed)?;
        Some(candidates(&summed.considered, &proposal.choices))
    }

    /// The divergence of a group alone; only asked of what is considered.
    fn predicted(&self, group: usize, candidate: usize) -> f64 {
        self.expected[group][candidate].unwrap_or(f64::INFINITY)
    }

    /// The smallest proposal that reaches the goal, as if losses rose as sizes fall; `sizes` are of
    /// the frontier, ascending.
    fn bisect(&mut self, summed: &Summed, sizes: &[u64]) -> Result<()> {
        let (mut low, mut high) = (0, sizes.len());
        while low < high && (self.may_go_on() || self.trials.len() == 1) {
            let middle = (low + high) / 2;
            let choices = self.propose(summed, sizes[middle]);
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
            .filter(|&(g, c)| c != from.choices[g] && self.expected[g][c].is_some())
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
        let (mut takes, mut rise) = (from.takes, 0.0);
        for &(group, candidate) in moves {
            let candidates = &self.groups[group].candidates;
            let now = from.choices[group];
            let (more, less) = (candidates[candidate].takes, candidates[now].takes);
            takes.bytes = takes.bytes + more.bytes - less.bytes;
            takes.nanos += more.nanos - less.nanos;
            takes.prompt_nanos += more.prompt_nanos - less.prompt_nanos;
            takes.resident = takes.resident + more.resident - less.resident;
            rise += self.predicted(group, candidate) - self.predicted(group, now);
        }
        if !self.goal.has_room(takes) {
            return None;
        }
        // What is saved costs so much each; steps that save and also improve come first.
        let per = |saved: f64| (saved > 0.0).then_some(rise / saved);
        let rank = match self.goal.least {
            Least::Divergence => rise,
            Least::Bytes => per(from.takes.bytes as f64 - takes.bytes as f64)?,
            Least::Time => per(from.takes.nanos - takes.nanos)?,
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
        met.min_by(|a, b| price(a).total_cmp(&price(b))).or_else(|| {
            let missed = |&t: &usize| (goal.excess(&self.trials[t]), self.trials[t].loss.kl);
            let all = 0..self.trials.len();
            all.min_by(|a, b| missed(a).partial_cmp(&missed(b)).expect("no NaN"))
        })
    }

    fn may_go_on(&self) -> bool {
        self.trials.len() < self.max_checks + self.starts.len() && !self.is_late()
    }

    /// Whether a plan as slow as the slowest so far would be measured too late.
    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| self.clock.now() + self.slowest > deadline)
    }

    /// Measures a plan, once; gives its index.
    fn try_plan(&mut self, label: &str, choices: Vec<usize>) -> Result<usize> {
        if let Some(index) = self.trials.iter().position(|trial| trial.choices == choices) {
            return Ok(index);
        }
        self.watch.step(Stage::Search, self.trials.len(), self.max_checks, label)?;
        let (plan, start) = (groups::plan(self.groups, &choices), self.clock.now());
        let loss = match plan.is_empty() {
            true => self.judge.base(Depth::Full)?,
            false => self.judge.judge(&plan, Depth::Full)?,
        };
        self.slowest = self.slowest.max(self.clock.now() - start);
        let takes = groups::takes(self.groups, &choices);
        self.trials.push(Trial { label: label.into(), choices, takes, loss });
        Ok(self.trials.len() - 1)
    }
}

/// From positions among the considered candidates to candidates.
fn candidates(considered: &[Vec<usize>], positions: &[usize]) -> Vec<usize> {
    considered.iter().zip(positions).map(|(of_group, &position)| of_group[position]).collect()
}
