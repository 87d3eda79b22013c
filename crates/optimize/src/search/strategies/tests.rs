//! Strategies against integer programming, brute force, and Boltzmann.

use super::anneal::Walk;
use super::*;
use microlp::{ComparisonOp, LinearExpr, OptimizationDirection, Problem as Linear, SolveOutcome};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Groups and a limit.
struct Instance {
    groups: Vec<Vec<Choice>>,
    frontier: Frontier,
    limit: u64,
}

impl Instance {
    fn new(groups: Vec<Vec<Choice>>, limit: u64) -> Self {
        Self { frontier: Frontier::new(&groups), groups, limit }
    }

    fn problem(&self) -> Problem<'_> {
        Problem { groups: &self.groups, frontier: &self.frontier, limit: self.limit }
    }
}

/// A problem as models pose them: sizes of a few encodings, losses that fall fast with bits, some
/// groups far more sensitive than others.
fn instance(seed: u64, n_groups: usize) -> Instance {
    let mut rng = StdRng::seed_from_u64(seed);
    let group = |_| {
        let weights = [4096u64, 16_384, 49_152][rng.random_range(0..3)];
        let sensitivity = (rng.random::<f64>() * 6.0 - 3.0).exp();
        let bits = [3.44, 4.5, 5.5, 6.56, 8.5, 16.0];
        let candidate = |bits: &f64| Choice {
            size: (weights as f64 * bits / 8.0) as u64,
            loss: sensitivity * 4f64.powf(-bits) * (0.7 + 0.6 * rng.random::<f64>()),
        };
        bits.iter().map(candidate).collect()
    };
    let groups: Vec<Vec<Choice>> = (0..n_groups).map(group).collect();
    let ends = |of: fn(&Vec<Choice>) -> u64| groups.iter().map(of).sum::<u64>();
    let (least, most) = (ends(|g| g[0].size), ends(|g| g[g.len() - 1].size));
    let share = 0.05 + 0.4 * rng.random::<f64>();
    let limit = least + ((most - least) as f64 * share) as u64;
    Instance::new(groups, limit)
}

/// The optimum by mixed integer programming.
fn by_microlp(problem: &Problem<'_>) -> f64 {
    let mut linear = Linear::new(OptimizationDirection::Minimize);
    let mut size = LinearExpr::empty();
    // Scaled, so that the solver's tolerances are small beside the numbers.
    let largest = problem.groups.iter().flatten().map(|c| c.loss).fold(0.0, f64::max);
    for group in problem.groups {
        let mut one = LinearExpr::empty();
        for choice in group {
            let variable = linear.add_binary_var(choice.loss / largest);
            one.add(variable, 1.0);
            size.add(variable, choice.size as f64 / problem.limit as f64);
        }
        linear.add_constraint(one, ComparisonOp::Eq, 1.0);
    }
    linear.add_constraint(size, ComparisonOp::Le, 1.0);
    match linear.solve().unwrap() {
        SolveOutcome::Solution(solution) => solution.objective() * largest,
        SolveOutcome::Interrupted(_) => panic!("it has all the time it wants"),
    }
}

#[test]
fn exact_agrees_with_integer_programming_and_shows_how_far_the_others_are() {
    // proves S-8 (search quality): gaps to the optimum on 50 instances
    let mut gaps = vec![Vec::new(); STRATEGIES.len()];
    for seed in 0..50 {
        let instance = instance(seed, 4 + seed as usize % 9);
        let problem = instance.problem();
        let wanted = by_microlp(&problem);
        let found = compare(&problem, "bytes", seed);
        assert_eq!(found.len(), STRATEGIES.len());
        assert!((found[0].loss / wanted - 1.0).abs() < 1e-6, "{seed}: {found:?}, {wanted}");
        assert!(found[0].remark.starts_with("proven"), "{found:?}");
        for (gaps, standing) in gaps.iter_mut().zip(&found) {
            assert!(standing.size <= problem.limit, "{standing:?}");
            assert!(standing.loss >= found[0].loss, "{seed}: {standing:?} beats {:?}", found[0]);
            gaps.push(standing.gap_percent.unwrap());
        }
    }
    for (strategy, gaps) in STRATEGIES.iter().zip(&mut gaps) {
        gaps.sort_by(f64::total_cmp);
        let n_optimal = gaps.iter().filter(|gap| **gap < 1e-6).count();
        let (median, worst) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
        println!(
            "{}: optimal in {n_optimal}, median {median:.3}%, worst {worst:.2}%",
            strategy.name()
        );
        assert!(median < 5.0, "{}: median gap {median}%", strategy.name());
    }
}

#[test]
fn large_problems_are_solved_too_and_seeds_decide() {
    let instance = instance(3, 160);
    let problem = instance.problem();
    let found = compare(&problem, "bytes", 7);
    assert_eq!(found, compare(&problem, "bytes", 7));
    for standing in &found {
        println!("{}: {:+.2?}%, {}", standing.strategy, standing.gap_percent, standing.remark);
        assert!(standing.size <= problem.limit, "{standing:?}");
    }
    let none = Problem { limit: 10, ..problem };
    assert_eq!(compare(&none, "bytes", 7), []);
}

#[test]
fn annealing_at_one_temperature_visits_states_as_boltzmann_says() {
    // proves K-11: chi-squared over four states, 3 degrees of freedom, p > 0.01 is below 11.34
    let choice = |loss| Choice { size: 1, loss };
    let groups = vec![vec![choice(0.0), choice(0.7)], vec![choice(0.0), choice(1.1)]];
    let instance = Instance::new(groups, 10);
    let problem = instance.problem();
    let (temperature, n, n_apart) = (0.8, 20_000, 25);
    let mut walk = Walk::new(&problem, vec![0, 0], 11);
    let mut visits = [0.0; 4];
    for _ in 0..n {
        (0..n_apart).for_each(|_| {
            walk.step(temperature);
        });
        visits[walk.choices[0] + 2 * walk.choices[1]] += 1.0;
    }
    let energies = [0.0, 0.7, 1.1, 1.8];
    let weights = energies.map(|energy: f64| (-energy / temperature).exp());
    let sum: f64 = weights.iter().sum();
    let expected = weights.map(|weight| f64::from(n) * weight / sum);
    let chi: f64 =
        visits.iter().zip(&expected).map(|(v, e): (&f64, &f64)| (v - e).powi(2) / e).sum();
    assert!(chi < 11.34, "chi-squared {chi}: {visits:?}, expected {expected:?}");
}

#[test]
fn names_are_found() {
    let names: Vec<&str> = STRATEGIES.iter().map(|strategy| strategy.name()).collect();
    assert_eq!(names, ["exact", "anneal", "quantum-inspired", "nsga2"]);
    assert!(names.iter().all(|name| by_name(name).is_some()) && by_name("magic").is_none());
}
