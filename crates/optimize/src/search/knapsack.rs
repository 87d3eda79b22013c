//! The multiple-choice knapsack: one candidate per group, least loss under a size.
//!
//! In: per group its candidates' sizes and losses. Out: the [`Frontier`]: every combination that no
//! other beats in both size and loss, by dynamic programming over groups. It is exact while it has
//! at most [`MAX_STATES`] combinations; beyond that it keeps the best of each of as many equal
//! intervals of size, so that a loss is met with at most `range / MAX_STATES` too much size per
//! group.

/// Combinations kept after each group.
pub const MAX_STATES: usize = 20_000;

/// A candidate of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// What it takes of what is limited: bytes, or nanoseconds.
    pub size: u64,
    /// Its loss when it alone is chosen; losses add up. Not NaN.
    pub loss: f64,
}

/// A combination up to some group.
#[derive(Debug, Clone, Copy)]
struct State {
    size: u64,
    loss: f64,
    /// Index of the state before this group.
    parent: u32,
    /// Candidate of this group.
    choice: u32,
}

/// The combinations worth considering, in order of size, losses falling.
#[derive(Debug)]
pub struct Frontier {
    /// After each group.
    layers: Vec<Vec<State>>,
}

impl Frontier {
    /// Every worthwhile combination of one candidate per group.
    ///
    /// # Panics
    /// When there is no group, or a group has no candidate.
    pub fn new(groups: &[Vec<Choice>]) -> Self {
        Self::with_limit(groups, MAX_STATES)
    }

    fn with_limit(groups: &[Vec<Choice>], max_states: usize) -> Self {
        assert!(!groups.is_empty() && groups.iter().all(|group| !group.is_empty()));
        let mut layers: Vec<Vec<State>> = Vec::with_capacity(groups.len());
        for group in groups {
            let start = [State { size: 0, loss: 0.0, parent: 0, choice: 0 }];
            let before = layers.last().map_or(&start[..], Vec::as_slice);
            let states = extend(before, group);
            layers.push(thin(states, max_states));
        }
        Self { layers }
    }

    /// How many combinations.
    pub fn len(&self) -> usize {
        self.last().len()
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        self.last().is_empty()
    }

    /// Bytes of combination `index`.
    pub fn size(&self, index: usize) -> u64 {
        self.last()[index].size
    }

    /// Summed loss of combination `index`.
    pub fn loss(&self, index: usize) -> f64 {
        self.last()[index].loss
    }

    /// The combination of least loss of at most that size.
    pub fn best_under(&self, size: u64) -> Option<usize> {
        self.last().partition_point(|state| state.size <= size).checked_sub(1)
    }

    /// The candidate of each group in combination `index`.
    pub fn choices(&self, index: usize) -> Vec<usize> {
        let mut at = index;
        let mut choices = vec![0; self.layers.len()];
        for (choice, layer) in choices.iter_mut().zip(&self.layers).rev() {
            *choice = layer[at].choice as usize;
            at = layer[at].parent as usize;
        }
        choices
    }

    fn last(&self) -> &[State] {
        self.layers.last().expect("at least one group")
    }
}

/// All states with one more group, but for those that another beats.
fn extend(before: &[State], group: &[Choice]) -> Vec<State> {
    let mut states = Vec::with_capacity(before.len() * group.len());
    for (choice, candidate) in group.iter().enumerate() {
        states.extend(before.iter().enumerate().map(|(parent, state)| State {
            size: state.size + candidate.size,
            loss: state.loss + candidate.loss,
            parent: parent as u32,
            choice: choice as u32,
        }));
    }
    // Ties go by position, so that the result does not depend on the sort.
    states.sort_by(|a, b| {
        let by_size = a.size.cmp(&b.size).then(a.loss.total_cmp(&b.loss));
        by_size.then((a.choice, a.parent).cmp(&(b.choice, b.parent)))
    });
    let mut least = f64::INFINITY;
    states.retain(|state| {
        let is_better = state.loss < least;
        least = least.min(state.loss);
        is_better
    });
    states
}

/// The best of each interval of size, and always the smallest.
fn thin(states: Vec<State>, max_states: usize) -> Vec<State> {
    if states.len() <= max_states {
        return states;
    }
    let (first, last) = (states[0].size, states[states.len() - 1].size);
    let width = (last - first) / (max_states as u64 - 1) + 1;
    let interval = |state: &State| (state.size - first).div_ceil(width);
    let mut kept: Vec<State> = Vec::with_capacity(max_states);
    for state in states {
        match kept.last_mut() {
            // Losses fall along the list, so the last of an interval is its best.
            Some(last) if interval(last) == interval(&state) => *last = state,
            _ => kept.push(state),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn brute_force(groups: &[Vec<Choice>], limit: u64) -> Option<(u64, f64)> {
        let mut all = vec![(0u64, 0.0f64)];
        for group in groups {
            let step = |&(b, l): &(u64, f64)| group.iter().map(move |c| (b + c.size, l + c.loss));
            all = all.iter().flat_map(step).collect();
        }
        let fitting = all.into_iter().filter(|(size, _)| *size <= limit);
        fitting.min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)))
    }

    fn groups() -> impl Strategy<Value = Vec<Vec<Choice>>> {
        let choice = (1u64..60, 0u32..1000)
            .prop_map(|(size, loss)| Choice { size, loss: f64::from(loss) / 64.0 });
        prop::collection::vec(prop::collection::vec(choice, 1..5), 1..6)
    }

    proptest! {
        #[test]
        fn agrees_with_trying_everything(groups in groups(), limit in 0u64..300) {
            let frontier = Frontier::new(&groups);
            let found = frontier.best_under(limit);
            let wanted = brute_force(&groups, limit);
            prop_assert_eq!(found.map(|i| (frontier.size(i), frontier.loss(i))), wanted);
            if let Some(index) = found {
                let choices = frontier.choices(index);
                let chosen = || groups.iter().zip(&choices).map(|(group, &c)| group[c]);
                prop_assert_eq!(chosen().map(|c| c.size).sum::<u64>(), frontier.size(index));
                prop_assert_eq!(chosen().map(|c| c.loss).sum::<f64>(), frontier.loss(index));
            }
        }

        #[test]
        fn thinning_costs_no_more_than_it_says(groups in groups(), limit in 0u64..300) {
            let exact = Frontier::new(&groups);
            let thin = Frontier::with_limit(&groups, 12);
            prop_assert!(thin.len() <= 13);
            prop_assert_eq!(thin.size(0), exact.size(0), "the smallest is always kept");
            let range: u64 = exact.size(exact.len() - 1) - exact.size(0);
            let slack = (range / 11 + 1) * groups.len() as u64;
            if let Some(index) = exact.best_under(limit) {
                let near = thin.best_under(limit + slack).unwrap();
                prop_assert!(thin.loss(near) <= exact.loss(index) + 1e-9);
            }
        }
    }
}
