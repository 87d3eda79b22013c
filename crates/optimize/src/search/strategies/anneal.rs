//! Simulated annealing ("thermodynamic" search): Metropolis steps while the temperature falls
//! (Kirkpatrick, Gelatt and Vecchi 1983).
//!
//! A step moves one group to another candidate. The energy is the loss, and where the combination
//! is too large a penalty in proportion to by how much. At a constant temperature the walk visits
//! combinations as Boltzmann says, which a test holds it to (K-11).

use super::{Problem, Proposal, Strategy};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Simulated annealing.
pub struct Anneal;

/// Steps in all.
const N_STEPS: usize = 60_000;
/// The last temperature over the first.
const COOLING: f64 = 1e-4;
/// Steps that find the first temperature.
const N_PROBES: usize = 200;

impl Strategy for Anneal {
    fn name(&self) -> &'static str {
        "anneal"
    }

    fn about(&self) -> &'static str {
        "simulated annealing: Metropolis steps under a geometric temperature schedule"
    }

    fn propose(&self, problem: &Problem<'_>, seed: u64) -> Option<Proposal> {
        let mut walk = Walk::new(problem, problem.smallest()?, seed);
        let first = walk.first_temperature();
        let mut best = (walk.loss, walk.choices.clone());
        let mut shares = [0.0; 4];
        for step in 0..N_STEPS {
            let progress = step as f64 / N_STEPS as f64;
            let is_moved = walk.step(first * COOLING.powf(progress));
            if is_moved {
                shares[4 * step / N_STEPS] += 4.0 / N_STEPS as f64;
            }
            if walk.size <= problem.limit && walk.loss < best.0 {
                best = (walk.loss, walk.choices.clone());
            }
        }
        let percents = shares.map(|share| format!("{:.0}%", share * 100.0)).join(", ");
        let remark = format!(
            "temperature {first:.2e} to {:.2e}; steps accepted, by quarter: {percents}",
            first * COOLING
        );
        Some(Proposal { choices: best.1, n_weighed: N_STEPS, remark })
    }
}

/// A walk through combinations.
pub(super) struct Walk<'p> {
    problem: &'p Problem<'p>,
    rng: StdRng,
    /// Where it is.
    pub(super) choices: Vec<usize>,
    size: u64,
    loss: f64,
    /// Energy of a byte too many.
    penalty: f64,
}

impl<'p> Walk<'p> {
    pub(super) fn new(problem: &'p Problem<'p>, choices: Vec<usize>, seed: u64) -> Self {
        let (size, loss) = (problem.size(&choices), problem.loss(&choices));
        // Dearer than what any step gains per byte, so that no overload pays in the end.
        let gain = |group: &Vec<super::Choice>| {
            let steps = group.iter().flat_map(|from| group.iter().map(move |to| (from, to)));
            let larger = steps.filter(|(from, to)| to.size > from.size);
            larger
                .map(|(from, to)| (from.loss - to.loss) / (to.size - from.size) as f64)
                .fold(0.0, f64::max)
        };
        let penalty = 1.5 * problem.groups.iter().map(gain).fold(0.0, f64::max);
        Self { problem, rng: StdRng::seed_from_u64(seed), choices, size, loss, penalty }
    }

    fn energy(&self, size: u64, loss: f64) -> f64 {
        loss + self.penalty * size.saturating_sub(self.problem.limit) as f64
    }

    /// Another place, and its size and loss.
    fn neighbour(&mut self) -> (usize, usize, u64, f64) {
        let group = self.rng.random_range(0..self.choices.len());
        let candidates = &self.problem.groups[group];
        let to = self.rng.random_range(0..candidates.len());
        let (from, to_choice) = (candidates[self.choices[group]], candidates[to]);
        let loss = self.loss - from.loss + to_choice.loss;
        (group, to, self.size - from.size + to_choice.size, loss)
    }

    /// One Metropolis step; whether it moved.
    pub(super) fn step(&mut self, temperature: f64) -> bool {
        let (group, to, size, loss) = self.neighbour();
        let rise = self.energy(size, loss) - self.energy(self.size, self.loss);
        if rise > 0.0 && self.rng.random::<f64>() >= (-rise / temperature).exp() {
            return false;
        }
        let is_moved = self.choices[group] != to;
        self.choices[group] = to;
        (self.size, self.loss) = (size, loss);
        is_moved
    }

    /// A temperature at which most steps are taken: the mean rise of those that rise.
    fn first_temperature(&mut self) -> f64 {
        let here = self.energy(self.size, self.loss);
        let rises: Vec<f64> = (0..N_PROBES)
            .map(|_| {
                let (_, _, size, loss) = self.neighbour();
                (self.energy(size, loss) - here).abs()
            })
            .filter(|rise| *rise > 0.0)
            .collect();
        match rises.is_empty() {
            true => 1.0,
            false => rises.iter().sum::<f64>() / rises.len() as f64,
        }
    }
}
