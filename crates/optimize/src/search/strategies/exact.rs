//! The optimum, proven: Lagrangian bounds and branch and bound.
//!
//! The relaxation with a price `λ` per byte is a sum over groups: `min over choices of Σ (loss +
//! λ size) - λ limit`, a lower bound of the optimum for every `λ >= 0` (Fisher 1981). The best
//! `λ` is found by bisection on whether the cheapest choices fit. A candidate whose reduced cost
//! exceeds the gap to the best known combination can be in no better one and is left out; what
//! remains is searched depth first, with the same bound for the groups not yet decided.

use super::{Problem, Proposal, Strategy};
use crate::search::knapsack::Choice;

/// Lagrangian branch and bound.
pub struct Exact;

/// Nodes after which the search gives up proving; its best is then what it has.
const MAX_NODES: usize = 2_000_000;
/// Prices, as multiples of the best one, whose bounds are tried at each node.
const PRICES: [f64; 7] = [0.5, 0.75, 0.9, 1.0, 1.1, 1.35, 2.0];

impl Strategy for Exact {
    fn name(&self) -> &'static str {
        "exact"
    }

    fn about(&self) -> &'static str {
        "multiple-choice knapsack: Lagrangian bounds, branch and bound"
    }

    fn propose(&self, problem: &Problem<'_>, _seed: u64) -> Option<Proposal> {
        let mut best = problem.smallest()?;
        // Dynamic programming over all groups is exact for few combinations, and close for many.
        if let Some(index) = problem.frontier.best_under(problem.limit) {
            let choices = problem.frontier.choices(index);
            if problem.loss(&choices) < problem.loss(&best) {
                best = choices;
            }
        }
        let mut search = Branches::new(problem, best);
        search.descend(0, 0, 0.0);
        let remark = match search.n_nodes < MAX_NODES {
            true => "proven optimal for summed losses".into(),
            false => format!("the best of {MAX_NODES} nodes, not proven"),
        };
        Some(Proposal { choices: search.best, n_weighed: search.n_nodes, remark })
    }
}

/// A candidate that may still be in a better combination.
struct Live {
    choice: Choice,
    /// Its index in its group.
    index: usize,
}

struct Branches<'p> {
    problem: &'p Problem<'p>,
    /// The groups in the order in which they are decided: the most open first.
    order: Vec<usize>,
    live: Vec<Vec<Live>>,
    /// Per price and depth, the least of what the groups from there on cost at it.
    rest: Vec<Vec<f64>>,
    prices: Vec<f64>,
    /// Per depth, the least size of the groups from there on.
    least_size: Vec<u64>,
    now: Vec<usize>,
    best: Vec<usize>,
    best_loss: f64,
    n_nodes: usize,
}

impl<'p> Branches<'p> {
    fn new(problem: &'p Problem<'p>, best: Vec<usize>) -> Self {
        let best_loss = problem.loss(&best);
        let price = best_price(problem);
        let bound = cheapest(problem, price).1 - price * problem.limit as f64;
        let gap = best_loss - bound;
        let live_of = |group: &Vec<Choice>| {
            let cost = |choice: &Choice| choice.loss + price * choice.size as f64;
            let least = group.iter().map(cost).fold(f64::INFINITY, f64::min);
            let all =
                group.iter().copied().enumerate().map(|(index, choice)| Live { choice, index });
            let mut live: Vec<Live> =
                // Sums differ in their last bits by their order.
                all.filter(|live| cost(&live.choice) - least <= gap + best_loss * 1e-9).collect();
            live.sort_by(|a, b| cost(&a.choice).total_cmp(&cost(&b.choice)));
            live
        };
        let mut groups: Vec<(usize, Vec<Live>)> =
            problem.groups.iter().map(live_of).enumerate().collect();
        groups.sort_by_key(|(group, live)| (std::cmp::Reverse(live.len()), *group));
        let (order, live): (Vec<usize>, Vec<Vec<Live>>) = groups.into_iter().unzip();
        let prices: Vec<f64> = PRICES.iter().map(|factor| factor * price).collect();
        let from_end = |least: &dyn Fn(&Vec<Live>) -> f64| {
            let mut sums = vec![0.0; live.len() + 1];
            for at in (0..live.len()).rev() {
                sums[at] = sums[at + 1] + least(&live[at]);
            }
            sums
        };
        let at_price = |price: &f64| {
            from_end(&|live| {
                let cost = |l: &Live| l.choice.loss + price * l.choice.size as f64;
                live.iter().map(cost).fold(f64::INFINITY, f64::min)
            })
        };
        let rest = prices.iter().map(at_price).collect();
        let mut least_size = vec![0; live.len() + 1];
        for at in (0..live.len()).rev() {
            let least = live[at].iter().map(|l| l.choice.size).min();
            least_size[at] = least_size[at + 1] + least.unwrap_or(0);
        }
        let now = vec![0; problem.groups.len()];
        let n_nodes = 0;
        Self { problem, order, live, rest, prices, least_size, now, best, best_loss, n_nodes }
    }

    /// Decides the groups from `depth` on, after `size` and `loss` of those before.
    fn descend(&mut self, depth: usize, size: u64, loss: f64) {
        self.n_nodes += 1;
        if depth == self.order.len() {
            if loss < self.best_loss {
                self.best_loss = loss;
                self.best = self.now.clone();
            }
            return;
        }
        for at in 0..self.live[depth].len() {
            let Live { choice, index } = self.live[depth][at];
            let (size, loss) = (size + choice.size, loss + choice.loss);
            if self.n_nodes >= MAX_NODES {
                return;
            }
            if size + self.least_size[depth + 1] > self.problem.limit
                || self.bound(depth + 1, size, loss) >= self.best_loss
            {
                continue;
            }
            self.now[self.order[depth]] = index;
            self.descend(depth + 1, size, loss);
        }
    }

    /// No completion costs less.
    fn bound(&self, depth: usize, size: u64, loss: f64) -> f64 {
        let left = (self.problem.limit - size) as f64;
        let at = |(price, rest): (&f64, &Vec<f64>)| rest[depth] - price * left;
        let bounds = self.prices.iter().zip(&self.rest).map(at);
        loss + bounds.fold(0.0, f64::max)
    }
}

/// Bytes and cost of each group's cheapest candidate at a price, the smaller of equals.
fn cheapest(problem: &Problem<'_>, price: f64) -> (u64, f64) {
    problem.groups.iter().fold((0, 0.0), |(size, cost), group| {
        let of = |choice: &Choice| (choice.loss + price * choice.size as f64, choice.size);
        let least = group.iter().map(of).min_by(|a, b| a.partial_cmp(b).expect("no NaN"));
        least.map_or((size, cost), |least| (size + least.1, cost + least.0))
    })
}

/// The price at which the cheapest choices just fit: there the bound is highest.
fn best_price(problem: &Problem<'_>) -> f64 {
    if cheapest(problem, 0.0).0 <= problem.limit {
        return 0.0;
    }
    let mut high = 1e-12;
    // At some price the smallest are the cheapest, and they fit.
    while cheapest(problem, high).0 > problem.limit && high < 1e12 {
        high *= 4.0;
    }
    let mut low = 0.0;
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        match cheapest(problem, middle).0 > problem.limit {
            true => low = middle,
            false => high = middle,
        }
    }
    high
}
