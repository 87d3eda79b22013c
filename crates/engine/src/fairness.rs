//! Who is served first: the more urgent class, then the agent that was served least, then who came
//! first. Waiting makes urgent, so that nobody waits for ever.
//!
//! Weighted fair queueing by rows computed (Demers, Keshav and Shenker 1989): an agent that comes
//! back after a pause starts where the least served active one is, and owes nothing for the pause.

use crate::request::Class;
use std::collections::BTreeMap;
use std::time::Duration;

/// Waiting so long makes as urgent as the next class.
pub const AGING: Duration = Duration::from_secs(20);

/// Rows computed for each agent, over its weight.
#[derive(Debug, Default)]
pub struct Shares {
    served: BTreeMap<String, Share>,
}

#[derive(Debug, Default)]
struct Share {
    rows: f64,
    /// Requests of it in the queue or in work.
    active: usize,
}

impl Shares {
    /// Notes that a request of an agent came.
    pub fn enter(&mut self, agent: &str) {
        let least = self.least_active();
        let share = self.served.entry(agent.to_owned()).or_default();
        if share.active == 0 {
            share.rows = share.rows.max(least);
        }
        share.active += 1;
    }

    /// Notes that a request of an agent is over.
    pub fn leave(&mut self, agent: &str) {
        let Some(share) = self.served.get_mut(agent) else { return };
        share.active = share.active.saturating_sub(1);
        // Who is owed nothing is as good as new, and takes no memory.
        let least = self.least_active();
        let is_idle = self.served.values().all(|share| share.active == 0);
        self.served.retain(|_, share| share.active > 0 || !is_idle && share.rows > least);
    }

    /// Notes rows that were computed for an agent; they weigh less, the more its weight is.
    pub fn charge(&mut self, agent: &str, rows: usize, weight: f64) {
        if let Some(share) = self.served.get_mut(agent) {
            // A weight of nothing would make an agent wait for ever.
            share.rows += rows as f64 / weight.max(f64::MIN_POSITIVE);
        }
    }

    /// Rows computed for an agent, over its weight.
    pub fn rows(&self, agent: &str) -> f64 {
        self.served.get(agent).map_or(0.0, |share| share.rows)
    }

    fn least_active(&self) -> f64 {
        let active = self.served.values().filter(|share| share.active > 0);
        let least = active.map(|share| share.rows).fold(f64::INFINITY, f64::min);
        if least.is_finite() { least } else { 0.0 }
    }
}

/// How urgent a request is that has waited so long: 0 is most.
pub fn rank(class: Class, waited: Duration) -> usize {
    let aged = (waited.as_secs_f64() / AGING.as_secs_f64()) as usize;
    (class as usize).saturating_sub(aged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_starts_with_the_least_served() {
        let mut shares = Shares::default();
        shares.enter("busy");
        shares.charge("busy", 100, 1.0);
        shares.enter("new");
        assert_eq!(shares.rows("new"), 100.0);
        shares.charge("busy", 50, 1.0);
        assert!(shares.rows("new") < shares.rows("busy"));
        shares.leave("new");
        shares.charge("busy", 50, 1.0);
        shares.enter("new");
        assert_eq!(shares.rows("new"), 200.0);
        shares.leave("new");
        shares.leave("busy");
        assert_eq!(shares.rows("busy"), 0.0);
    }

    #[test]
    fn a_weight_of_two_is_served_twice_as_much() {
        let mut shares = Shares::default();
        let weights = [("one", 1.0), ("two", 2.0)];
        weights.iter().for_each(|(agent, _)| shares.enter(agent));
        let mut served = [0; 2];
        for _ in 0..300 {
            let next = usize::from(shares.rows("two") < shares.rows("one"));
            let (agent, weight) = weights[next];
            shares.charge(agent, 1, weight);
            served[next] += 1;
        }
        assert_eq!(served, [100, 200]);
    }

    #[test]
    fn waiting_makes_urgent() {
        assert_eq!(rank(Class::Batch, Duration::ZERO), 2);
        assert_eq!(rank(Class::Batch, AGING), 1);
        assert_eq!(rank(Class::Batch, 5 * AGING), 0);
        assert!(rank(Class::Interactive, Duration::ZERO) < rank(Class::Default, Duration::ZERO));
    }
}
