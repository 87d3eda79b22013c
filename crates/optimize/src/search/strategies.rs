//! Ways to choose one candidate per group under a size, all behind one trait, so that reports can
//! say how each of them does on the same problem.
//!
//! In: a [`Problem`]: per group its candidates' sizes and losses, which add up, and a limit. Out: a
//! [`Proposal`]. None of them sees a model: what they propose is measured whole by
//! [`super::refine`].

mod anneal;
mod exact;
mod nsga2;
mod quantum_inspired;
#[cfg(test)]
mod tests;

use super::knapsack::{Choice, Frontier};
use serde::{Deserialize, Serialize};

/// A multiple-choice knapsack.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'g> {
    /// Per group its candidates; no group is empty, no loss NaN or below 0.
    pub groups: &'g [Vec<Choice>],
    /// What dynamic programming finds of these groups, for whatever limit.
    pub frontier: &'g Frontier,
    /// The size at most.
    pub limit: u64,
}

/// One candidate per group.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// The candidate of each group.
    pub choices: Vec<usize>,
    /// How often a whole combination was weighed.
    pub n_weighed: usize,
    /// What is peculiar to the way it was found, for the report.
    pub remark: String,
}

/// A way to choose.
pub trait Strategy: Sync {
    /// Its name on the command line and in reports.
    fn name(&self) -> &'static str;
    /// What it is, in a line.
    fn about(&self) -> &'static str;
    /// The best it finds; `None` where nothing is small enough. The same seed gives the same.
    fn propose(&self, problem: &Problem<'_>, seed: u64) -> Option<Proposal>;
}

/// Every strategy; the first is the default.
pub const STRATEGIES: &[&dyn Strategy] =
    &[&exact::Exact, &anneal::Anneal, &quantum_inspired::QuantumInspired, &nsga2::Nsga2];

/// The strategy of that name.
pub fn by_name(name: &str) -> Option<&'static dyn Strategy> {
    STRATEGIES.iter().copied().find(|strategy| strategy.name() == name)
}

/// How a strategy did on a problem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// Which.
    pub strategy: String,
    /// What it is.
    pub about: String,
    /// The size of what it proposes.
    pub size: u64,
    /// What sizes are counted in: `bytes`, or `nanoseconds` of a token.
    pub unit: String,
    /// Summed loss of it, nats per token: an estimate, since losses do not quite add up.
    pub loss: f64,
    /// How much more that is than the exact strategy's, in percent (less, where that was not
    /// proven); `None` where the exact one loses nothing, and this one something.
    pub gap_percent: Option<f64>,
    /// Combinations weighed.
    pub n_weighed: usize,
    /// What is peculiar to the way it was found.
    pub remark: String,
}

/// Every strategy on the same problem, in order; empty where nothing is small enough.
pub fn compare(problem: &Problem<'_>, unit: &str, seed: u64) -> Vec<Standing> {
    let mut least = None;
    let standing = |strategy: &&dyn Strategy| {
        let proposal = strategy.propose(problem, seed)?;
        let loss = problem.loss(&proposal.choices);
        let least = *least.get_or_insert(loss);
        let gap = if loss == least { 0.0 } else { (loss / least - 1.0) * 100.0 };
        Some(Standing {
            strategy: strategy.name().into(),
            about: strategy.about().into(),
            size: problem.size(&proposal.choices),
            unit: unit.into(),
            loss,
            gap_percent: gap.is_finite().then_some(gap),
            n_weighed: proposal.n_weighed,
            remark: proposal.remark,
        })
    };
    STRATEGIES.iter().filter_map(standing).collect()
}

impl Problem<'_> {
    /// Size of a combination.
    pub fn size(&self, choices: &[usize]) -> u64 {
        self.chosen(choices).map(|choice| choice.size).sum()
    }

    /// Loss of a combination.
    pub fn loss(&self, choices: &[usize]) -> f64 {
        self.chosen(choices).map(|choice| choice.loss).sum()
    }

    fn chosen<'a>(&'a self, choices: &'a [usize]) -> impl Iterator<Item = Choice> + 'a {
        self.groups.iter().zip(choices).map(|(group, &choice)| group[choice])
    }

    /// The combination of least size, the less lossy of equals, if it is within the limit.
    fn smallest(&self) -> Option<Vec<usize>> {
        let least = |group: &Vec<Choice>| {
            let of = |&c: &usize| (group[c].size, group[c].loss);
            let candidates = 0..group.len();
            candidates.min_by(|a, b| of(a).partial_cmp(&of(b)).expect("no NaN"))
        };
        let choices: Vec<usize> = self.groups.iter().filter_map(least).collect();
        (self.size(&choices) <= self.limit).then_some(choices)
    }

    /// Makes a combination small enough: groups taken in the order given give way by the step that
    /// costs least per byte, until it fits. The smallest combination must fit.
    fn repair(&self, choices: &mut [usize], order: &[usize]) {
        let mut size = self.size(choices);
        while size > self.limit {
            for &group in order {
                if size <= self.limit {
                    return;
                }
                let candidates = &self.groups[group];
                let now = candidates[choices[group]];
                let cost = |c: &usize| {
                    let to = candidates[*c];
                    (to.loss - now.loss) / (now.size - to.size) as f64
                };
                let smaller = (0..candidates.len()).filter(|&c| candidates[c].size < now.size);
                if let Some(best) = smaller.min_by(|a, b| cost(a).total_cmp(&cost(b))) {
                    size -= now.size - candidates[best].size;
                    choices[group] = best;
                }
            }
        }
    }
}
