//! Loading what is likely to be asked for next, where a trial on paper shows that it pays.

use super::{Action, Manager};
use crate::entry::{ModelId, State};
use crate::score::demand;
use crate::trial::has_room;
use std::time::Duration;

/// A model this likely is loaded ahead.
const LIKELY: f64 = 0.5;
/// For one in such demand, this is likely enough.
const LIKELY_IN_DEMAND: f64 = 0.25;
/// System 001 loads ahead what is in such demand.
const DEMAND: f64 = 0.7;

impl Manager {
    /// Notes a request, on paper too, and loads ahead what the agent is likely to want next.
    pub(super) fn look_ahead(
        &mut self,
        now: Duration,
        agent: &str,
        model: ModelId,
        actions: &mut Vec<Action>,
    ) {
        let load = Duration::from_secs_f64(self.counters.mean_load_seconds().unwrap_or(0.0));
        let spec = &self.entries[model.0].spec;
        // What is pinned is there with and without.
        if !spec.is_pinned {
            self.trial.request(now, model, spec, load);
        }
        self.predictor.observe(now, agent, model);
        for guess in self.guesses(now, agent, model) {
            let spec = &self.entries[guess.0].spec;
            self.trial.guess(now, guess, spec, load);
            let (held, bytes) = (self.held(), spec.bytes);
            let may_load = self.trial.is_won() && self.nobody_queues() && !self.is_pressed;
            let entry = &self.entries[guess.0];
            if may_load
                && entry.state == State::Out
                && entry.failure.is_none()
                && has_room(held, bytes, self.limits.bytes)
                && !self.lacks(bytes, &[])
            {
                self.entries[guess.0].is_guess = true;
                self.load(now, guess, actions);
            }
        }
    }

    /// Whether all who wait have their model on the way: memory is theirs before it is a guess's.
    fn nobody_queues(&self) -> bool {
        self.waiting.iter().all(|waiter| self.entries[waiter.model.0].state == State::Loading)
    }

    /// Models that are likely enough to be next.
    fn guesses(&self, now: Duration, agent: &str, model: ModelId) -> Vec<ModelId> {
        let is_likely = |&(next, p): &(ModelId, f64)| {
            let entry = &self.entries[next.0];
            let is_wanted = demand(entry.total, self.counters.agents_of(next)) > DEMAND;
            let enough = if is_wanted { LIKELY_IN_DEMAND } else { LIKELY };
            next != model && !entry.spec.is_pinned && p >= enough
        };
        let next = self.predictor.next(now, agent).into_iter();
        next.filter(is_likely).map(|(next, _)| next).collect()
    }
}
