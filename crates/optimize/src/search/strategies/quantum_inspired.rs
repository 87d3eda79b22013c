//! Quantum-inspired evolutionary search: a classical algorithm on a classical machine, whose name
//! comes from how it keeps its population (Han and Kim 2002, IEEE TEC 6(6)).
//!
//! Each individual is, per group, a distribution over the candidates ("amplitudes", kept squared);
//! observing it draws a combination; the distributions then turn a little towards the best
//! combination seen, and never so far that a candidate is ruled out.

use super::{Problem, Proposal, Strategy};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Quantum-inspired evolutionary search.
pub struct QuantumInspired;

/// Individuals.
const N_INDIVIDUALS: usize = 16;
/// Times that each is observed.
const N_GENERATIONS: usize = 1500;
/// How far a distribution turns towards the best, per generation.
const TURN: f64 = 0.04;
/// No candidate becomes less likely.
const LEAST: f64 = 0.005;
/// Generations between which the best of one individual leads all.
const MIGRATION: usize = 50;

impl Strategy for QuantumInspired {
    fn name(&self) -> &'static str {
        "quantum-inspired"
    }

    fn about(&self) -> &'static str {
        "quantum-inspired evolutionary search (a classical algorithm): distributions that turn"
    }

    fn propose(&self, problem: &Problem<'_>, seed: u64) -> Option<Proposal> {
        let smallest = problem.smallest()?;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut order: Vec<usize> = (0..problem.groups.len()).collect();
        let mut best = (problem.loss(&smallest), smallest);
        let mut population = vec![Individual::new(problem, &best); N_INDIVIDUALS];
        for generation in 1..=N_GENERATIONS {
            for individual in &mut population {
                let mut choices = individual.observe(&mut rng);
                order.shuffle(&mut rng);
                problem.repair(&mut choices, &order);
                let loss = problem.loss(&choices);
                if loss < individual.best.0 {
                    individual.best = (loss, choices);
                }
                individual.turn();
                if individual.best.0 < best.0 {
                    best = individual.best.clone();
                }
            }
            if generation % MIGRATION == 0 {
                population.iter_mut().for_each(|individual| individual.best = best.clone());
            }
        }
        let remark = format!("{N_INDIVIDUALS} individuals, {N_GENERATIONS} generations");
        Some(Proposal { choices: best.1, n_weighed: N_INDIVIDUALS * N_GENERATIONS, remark })
    }
}

#[derive(Clone)]
struct Individual {
    /// Per group, how likely each candidate is.
    chances: Vec<Vec<f64>>,
    best: (f64, Vec<usize>),
}

impl Individual {
    fn new(problem: &Problem<'_>, best: &(f64, Vec<usize>)) -> Self {
        let even = |group: &Vec<super::Choice>| vec![1.0 / group.len() as f64; group.len()];
        Self { chances: problem.groups.iter().map(even).collect(), best: best.clone() }
    }

    fn observe(&self, rng: &mut StdRng) -> Vec<usize> {
        let draw = |chances: &Vec<f64>| {
            let mut at: f64 = rng.random();
            let drawn = chances.iter().position(|chance| {
                at -= chance;
                at < 0.0
            });
            drawn.unwrap_or(chances.len() - 1)
        };
        self.chances.iter().map(draw).collect()
    }

    fn turn(&mut self) {
        for (chances, &best) in self.chances.iter_mut().zip(&self.best.1) {
            for (candidate, chance) in chances.iter_mut().enumerate() {
                let goal = if candidate == best { 1.0 } else { 0.0 };
                *chance = (*chance + TURN * (goal - *chance)).max(LEAST);
            }
            let sum: f64 = chances.iter().sum();
            chances.iter_mut().for_each(|chance| *chance /= sum);
        }
    }
}
