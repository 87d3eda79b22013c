//! Whether loading ahead pays, found out on paper: the same requests go to two imagined caches, one
//! that loads what is likely next, and a plain LRU that does not.
//!
//! In: requests, and what would be loaded ahead. Out: whether to do so. It is done while the 95%
//! confidence interval of what a request gains lies above zero, and not before: nothing is ever
//! loaded ahead on a hope. A gain is a hit more than the plain cache has; a load that nobody asked
//! for before it left costs as much. The interval is `sterna_measure`'s bootstrap.

use crate::entry::{KeepAlive, ModelId, Spec};
use crate::manager::Limits;
use std::collections::VecDeque;
use std::time::Duration;
use sterna_measure::stats::{Bootstrap, Interval};

/// Requests that a judgement rests on, at most and at least.
const WINDOW: usize = 256;
const LEAST: usize = 64;
/// Requests between judgements.
const PERIOD: u64 = 32;

/// Fewer than a report's: it is computed while requests wait.
const N_RESAMPLES: usize = 500;

/// Of the budget, this part may be filled ahead.
pub const ROOM: f64 = 0.8;

/// The two caches and what they scored.
#[derive(Debug)]
pub struct Trial {
    ahead: Shadow,
    plain: Shadow,
    /// Per request: a hit with loading ahead, less a hit without, less the loads for nothing since
    /// the last one.
    gains: VecDeque<f64>,
    n_requests: u64,
    hits: [u64; 2],
    interval: Option<Interval>,
}

impl Trial {
    /// Caches within these limits.
    pub fn new(limits: Limits) -> Self {
        Self {
            ahead: Shadow::new(limits),
            plain: Shadow::new(limits),
            gains: VecDeque::new(),
            n_requests: 0,
            hits: [0; 2],
            interval: None,
        }
    }

    /// Changes the bytes of both.
    pub fn set_limit(&mut self, bytes: u64) {
        (self.ahead.limits.bytes, self.plain.limits.bytes) = (bytes, bytes);
    }

    /// Changes how long a model stays in both.
    pub fn keep(&mut self, model: ModelId, keep_alive: KeepAlive) {
        let all = self.ahead.held.iter_mut().chain(&mut self.plain.held);
        all.filter(|held| held.model == model).for_each(|held| held.keep_alive = keep_alive);
    }

    /// A request, and what a load takes.
    pub fn request(&mut self, now: Duration, model: ModelId, spec: &Spec, load: Duration) {
        let ahead = self.ahead.request(now, model, spec, load);
        let plain = self.plain.request(now, model, spec, load);
        self.hits[0] += u64::from(ahead);
        self.hits[1] += u64::from(plain);
        let wasted = std::mem::take(&mut self.ahead.n_wasted);
        self.gains.push_back(f64::from(u8::from(ahead)) - f64::from(u8::from(plain)) - wasted);
        if self.gains.len() > WINDOW {
            self.gains.pop_front();
        }
        self.n_requests += 1;
        if self.n_requests.is_multiple_of(PERIOD) && self.gains.len() >= LEAST {
            let bootstrap = Bootstrap { n_resamples: N_RESAMPLES, ..Bootstrap::default() };
            self.interval = bootstrap.mean(self.gains.make_contiguous());
        }
    }

    /// A model that would be loaded ahead.
    pub fn guess(&mut self, now: Duration, model: ModelId, spec: &Spec, load: Duration) {
        self.ahead.guess(now, model, spec, load);
    }

    /// Whether loading ahead is shown to pay.
    pub fn is_won(&self) -> bool {
        self.interval.is_some_and(|interval| interval.low > 0.0)
    }

    /// What a request gains, with 95% confidence; `None` before there are enough.
    pub fn interval(&self) -> Option<Interval> {
        self.interval
    }

    /// Hits on paper: with loading ahead, and without.
    pub fn hits(&self) -> [u64; 2] {
        self.hits
    }
}

/// An imagined cache: least recently used goes first.
#[derive(Debug)]
struct Shadow {
    limits: Limits,
    /// The least recently used first.
    held: Vec<Held>,
    /// Guesses that left without having been asked for.
    n_wasted: f64,
}

#[derive(Debug)]
struct Held {
    model: ModelId,
    bytes: u64,
    keep_alive: KeepAlive,
    /// When its load is over: who asks before waits, and that is no hit.
    ready: Duration,
    used: Duration,
    /// Not asked for yet.
    is_guess: bool,
}

impl Shadow {
    fn new(limits: Limits) -> Self {
        Self { limits, held: Vec::new(), n_wasted: 0.0 }
    }

    fn request(&mut self, now: Duration, model: ModelId, spec: &Spec, load: Duration) -> bool {
        self.expire(now);
        if let Some(at) = self.held.iter().position(|held| held.model == model) {
            let mut held = self.held.remove(at);
            (held.used, held.is_guess) = (now, false);
            let is_hit = held.ready <= now;
            self.held.push(held);
            return is_hit;
        }
        while !self.held.is_empty() && !self.fits(spec) {
            let gone = self.held.remove(0);
            self.n_wasted += f64::from(u8::from(gone.is_guess));
        }
        self.insert(now, model, spec, load, false);
        false
    }

    fn guess(&mut self, now: Duration, model: ModelId, spec: &Spec, load: Duration) {
        self.expire(now);
        let is_held = self.held.iter().any(|held| held.model == model);
        if !is_held && self.fits(spec) && has_room(self.bytes(), spec.bytes, self.limits.bytes) {
            self.insert(now, model, spec, load, true);
        }
    }

    fn insert(
        &mut self,
        now: Duration,
        model: ModelId,
        spec: &Spec,
        load: Duration,
        is_guess: bool,
    ) {
        let Spec { bytes, keep_alive, .. } = *spec;
        self.held.push(Held { model, bytes, keep_alive, ready: now + load, used: now, is_guess });
    }

    fn expire(&mut self, now: Duration) {
        let n_wasted = &mut self.n_wasted;
        self.held.retain(|held| {
            let stays = match held.keep_alive {
                KeepAlive::Forever => true,
                KeepAlive::For(time) => now.saturating_sub(held.used) <= time,
            };
            *n_wasted += f64::from(u8::from(!stays && held.is_guess));
            stays
        });
    }

    fn fits(&self, spec: &Spec) -> bool {
        self.bytes().saturating_add(spec.bytes) <= self.limits.bytes
            && self.held.len() < self.limits.models
    }

    fn bytes(&self) -> u64 {
        self.held.iter().map(|held| held.bytes).sum()
    }
}

/// Whether there is room to load ahead: what is there already must not have to go for a guess.
pub fn has_room(held: u64, more: u64, limit: u64) -> bool {
    held.saturating_add(more) as f64 <= ROOM * limit as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::Eviction;

    fn spec() -> Spec {
        let keep_alive = KeepAlive::For(Duration::from_secs(300));
        Spec { name: "m".into(), bytes: 10, is_pinned: false, keep_alive }
    }

    fn limits(bytes: u64, models: usize) -> Limits {
        Limits { bytes, models, waiting: 9, eviction: Eviction::Score }
    }

    #[test]
    fn a_guess_that_is_not_ready_yet_is_no_hit() {
        let mut trial = Trial::new(limits(100, 9));
        let second = Duration::from_secs(1);
        trial.guess(second, ModelId(0), &spec(), 5 * second);
        trial.request(2 * second, ModelId(0), &spec(), 5 * second);
        assert_eq!(trial.hits(), [0, 0]);
        trial.request(9 * second, ModelId(0), &spec(), 5 * second);
        assert_eq!(trial.hits(), [1, 1]);
    }

    #[test]
    fn the_caches_hold_no_more_models_than_may_be_and_no_longer() {
        let mut trial = Trial::new(limits(1000, 2));
        let second = Duration::from_secs(1);
        for (model, n) in [(0, 1), (1, 2), (2, 3), (0, 4)] {
            trial.request(n * second, ModelId(model), &spec(), Duration::ZERO);
        }
        // Two are there, and no room for a guess.
        trial.guess(5 * second, ModelId(1), &spec(), Duration::ZERO);
        trial.request(6 * second, ModelId(1), &spec(), Duration::ZERO);
        assert_eq!(trial.hits(), [0, 0]);
        trial.keep(ModelId(1), KeepAlive::For(second));
        trial.request(8 * second, ModelId(1), &spec(), Duration::ZERO);
        assert_eq!(trial.hits(), [0, 0]);
    }

    #[test]
    fn guesses_take_free_room_only() {
        let mut trial = Trial::new(limits(25, 9));
        let now = Duration::ZERO;
        trial.request(now, ModelId(0), &spec(), now);
        trial.guess(now, ModelId(1), &spec(), now);
        trial.guess(now, ModelId(2), &spec(), now);
        trial.request(now, ModelId(1), &spec(), now);
        trial.request(now, ModelId(0), &spec(), now);
        assert_eq!(trial.hits(), [2, 1]);
    }
}
