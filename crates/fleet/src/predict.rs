//! Which model an agent asks for next: from what followed what, and from the time of day.
//!
//! In: requests as they come. Out: the likeliest next model of an agent. A Markov chain of order 1
//! per agent; what was asked for at this hour by anybody is its prior.

use crate::entry::ModelId;
use std::collections::BTreeMap;
use std::time::Duration;

/// Agents that are remembered: their names come from clients.
const MOST_AGENTS: usize = 256;
/// The prior from the time of day weighs as much as so many requests.
const PRIOR: f64 = 1.0;

/// What was seen of the requests so far.
#[derive(Debug, Default)]
pub struct Predictor {
    /// Each agent's last model, and how often which followed which.
    agents: BTreeMap<String, Chain>,
    /// Requests per hour of the day and model.
    hours: BTreeMap<(u64, ModelId), u32>,
}

#[derive(Debug, Default)]
struct Chain {
    last: Option<ModelId>,
    follows: BTreeMap<(ModelId, ModelId), u32>,
}

/// The hour of the day, of time since 1970.
fn hour(now: Duration) -> u64 {
    now.as_secs() / 3600 % 24
}

impl Predictor {
    /// Notes a request.
    pub fn observe(&mut self, now: Duration, agent: &str, model: ModelId) {
        *self.hours.entry((hour(now), model)).or_default() += 1;
        if !self.agents.contains_key(agent) && self.agents.len() >= MOST_AGENTS {
            return;
        }
        let chain = self.agents.entry(agent.to_owned()).or_default();
        if let Some(last) = chain.last.replace(model) {
            *chain.follows.entry((last, model)).or_default() += 1;
        }
    }

    /// Models that an agent may ask for next, the likeliest first, each with its probability.
    pub fn next(&self, now: Duration, agent: &str) -> Vec<(ModelId, f64)> {
        let mut counts: BTreeMap<ModelId, f64> = BTreeMap::new();
        let chain = self.agents.get(agent);
        let last = chain.and_then(|chain| chain.last);
        let follows = chain.into_iter().flat_map(|chain| &chain.follows);
        for (&(from, to), &n) in follows {
            if Some(from) == last {
                *counts.entry(to).or_default() += f64::from(n);
            }
        }
        let hour = hour(now);
        let range = (hour, ModelId(0))..(hour + 1, ModelId(0));
        let in_hour: f64 = self.hours.range(range.clone()).map(|(_, &n)| f64::from(n)).sum();
        for (&(_, model), &n) in self.hours.range(range) {
            *counts.entry(model).or_default() += PRIOR * f64::from(n) / in_hour;
        }
        let all: f64 = counts.values().sum();
        let mut next: Vec<_> = counts.into_iter().map(|(model, n)| (model, n / all)).collect();
        next.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ModelId = ModelId(0);
    const B: ModelId = ModelId(1);

    #[test]
    fn what_followed_follows_again() {
        let mut predictor = Predictor::default();
        let now = Duration::from_secs(9 * 3600);
        for _ in 0..4 {
            predictor.observe(now, "x", A);
            predictor.observe(now, "x", B);
        }
        let (model, p) = predictor.next(now, "x")[0];
        // After B came A three times; the hour has both four times, which weighs as one request.
        assert_eq!((model, p), (A, 3.5 / 4.0));
        predictor.observe(now, "x", A);
        assert_eq!(predictor.next(now, "x")[0].0, B);
    }

    #[test]
    fn who_is_unknown_gets_what_the_hour_wants() {
        let mut predictor = Predictor::default();
        predictor.observe(Duration::from_secs(9 * 3600), "x", A);
        predictor.observe(Duration::from_secs(10 * 3600), "x", B);
        let tomorrow = Duration::from_secs((24 + 9) * 3600 + 5);
        assert_eq!(predictor.next(tomorrow, "new"), [(A, 1.0)]);
        assert_eq!(predictor.next(Duration::ZERO, "new"), []);
    }

    #[test]
    fn there_is_an_end_to_agents() {
        let mut predictor = Predictor::default();
        for i in 0..1000 {
            predictor.observe(Duration::ZERO, &format!("agent-{i}"), A);
        }
        assert_eq!(predictor.agents.len(), MOST_AGENTS);
    }
}
