//! NSGA-II: an evolutionary search for the whole front of size against loss (Deb et al. 2002, IEEE
//! TEC 6(2)), of which the best that fits is proposed.
//!
//! Combinations that no other beats in both come first, then those that only they beat, and so on;
//! among equals, those with few near them. Nothing is told of the limit but through that choice,
//! so that one run answers for every size.

use super::{Problem, Proposal, Strategy};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// NSGA-II.
pub struct Nsga2;

/// Combinations that live.
const N_ALIVE: usize = 96;
/// Generations.
const N_GENERATIONS: usize = 500;

impl Strategy for Nsga2 {
    fn name(&self) -> &'static str {
        "nsga2"
    }

    fn about(&self) -> &'static str {
        "NSGA-II: an evolutionary search for the whole front of size against loss"
    }

    fn propose(&self, problem: &Problem<'_>, seed: u64) -> Option<Proposal> {
        let smallest = problem.smallest()?;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut alive = population(problem, smallest, &mut rng);
        let mut n_weighed = N_ALIVE;
        for _ in 0..N_GENERATIONS {
            n_weighed += alive.len();
            let mut all = children(problem, &alive, &mut rng);
            all.append(&mut alive);
            alive = survivors(all);
        }
        let fits = alive.iter().filter(|one| one.size <= problem.limit);
        let best = fits.min_by(|a, b| a.loss.total_cmp(&b.loss))?;
        let n_front = alive.iter().filter(|one| one.rank == 0).count();
        let remark =
            format!("{n_front} combinations on the front after {N_GENERATIONS} generations");
        Some(Proposal { choices: best.choices.clone(), n_weighed, remark })
    }
}

/// A combination and where it stands.
#[derive(Clone)]
struct One {
    choices: Vec<usize>,
    size: u64,
    loss: f64,
    /// Fronts that must go before it is on one.
    rank: usize,
    /// How far its neighbours on the front are.
    space: f64,
}

impl One {
    fn new(problem: &Problem<'_>, choices: Vec<usize>) -> Self {
        let (size, loss) = (problem.size(&choices), problem.loss(&choices));
        Self { choices, size, loss, rank: 0, space: 0.0 }
    }

    fn beats(&self, other: &One) -> bool {
        let is_no_worse = self.size <= other.size && self.loss <= other.loss;
        is_no_worse && (self.size < other.size || self.loss < other.loss)
    }

    fn is_before(&self, other: &One) -> bool {
        (self.rank, -self.space) < (other.rank, -other.space)
    }
}

/// The smallest combination, the least lossy, uniform ones between them, and random ones.
fn population(problem: &Problem<'_>, smallest: Vec<usize>, rng: &mut StdRng) -> Vec<One> {
    let least = |group: &Vec<super::Choice>| {
        (0..group.len()).min_by(|&a, &b| group[a].loss.total_cmp(&group[b].loss)).unwrap_or(0)
    };
    let mut all = vec![smallest, problem.groups.iter().map(least).collect()];
    while all.len() < N_ALIVE {
        // By share of the way through each group's candidates in order of size, with some noise.
        let (share, noise) = (rng.random::<f64>(), 0.3 * rng.random::<f64>());
        let choose = |group: &Vec<super::Choice>| {
            let mut by_size: Vec<usize> = (0..group.len()).collect();
            by_size.sort_by_key(|&candidate| group[candidate].size);
            let at = (share + noise * (rng.random::<f64>() - 0.5)).clamp(0.0, 1.0);
            by_size[((group.len() as f64 * at) as usize).min(group.len() - 1)]
        };
        all.push(problem.groups.iter().map(choose).collect());
    }
    let ones = all.into_iter().map(|choices| One::new(problem, choices)).collect();
    survivors(ones)
}

/// As many children, each of two winners of a tournament.
fn children(problem: &Problem<'_>, alive: &[One], rng: &mut StdRng) -> Vec<One> {
    let rate = 1.0 / problem.groups.len() as f64;
    let child = |_| {
        let mut winner = || {
            let (a, b) = (rng.random_range(0..alive.len()), rng.random_range(0..alive.len()));
            if alive[a].is_before(&alive[b]) { &alive[a] } else { &alive[b] }
        };
        let (mother, father) = (winner(), winner());
        let mut choices = mother.choices.clone();
        for (group, choice) in choices.iter_mut().enumerate() {
            if rng.random::<bool>() {
                *choice = father.choices[group];
            }
            if rng.random::<f64>() < rate {
                *choice = rng.random_range(0..problem.groups[group].len());
            }
        }
        One::new(problem, choices)
    };
    (0..alive.len()).map(child).collect()
}

/// Those that live on: by front, then by space; equals count once.
fn survivors(mut all: Vec<One>) -> Vec<One> {
    all.sort_by(|a, b| {
        let by_size = a.size.cmp(&b.size).then(a.loss.total_cmp(&b.loss));
        by_size.then_with(|| a.choices.cmp(&b.choices))
    });
    all.dedup_by(|a, b| a.choices == b.choices);
    let mut left: Vec<One> = all;
    let mut alive = Vec::with_capacity(N_ALIVE);
    for rank in 0.. {
        if left.is_empty() || alive.len() >= N_ALIVE {
            break;
        }
        // In order of size, so that what was before beats or does not.
        let mut front: Vec<One> = Vec::new();
        let mut behind = Vec::new();
        for mut one in left {
            match front.last().is_some_and(|last| last.beats(&one)) {
                true => behind.push(one),
                false => {
                    one.rank = rank;
                    front.push(one);
                }
            }
        }
        spread(&mut front);
        front.sort_by(|a, b| b.space.total_cmp(&a.space));
        front.truncate(N_ALIVE - alive.len());
        alive.append(&mut front);
        left = behind;
    }
    alive
}

/// The crowding distance of a front in order of size.
fn spread(front: &mut [One]) {
    let n = front.len();
    let span = |of: fn(&One) -> f64| (of(&front[n - 1]) - of(&front[0])).abs().max(1e-300);
    let (size, loss) = (span(|one| one.size as f64), span(|one| one.loss));
    let spaces: Vec<f64> = (0..n)
        .map(|at| match at {
            0 => f64::INFINITY,
            at if at == n - 1 => f64::INFINITY,
            at => {
                let (before, after) = (&front[at - 1], &front[at + 1]);
                (after.size - before.size) as f64 / size + (before.loss - after.loss).abs() / loss
            }
        })
        .collect();
    front.iter_mut().zip(spaces).for_each(|(one, space)| one.space = space);
}
