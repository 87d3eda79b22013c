//! Which models are in memory: from events to actions, without a clock, a thread or a file.
//!
//! In: requests for models, the ends of loads and unloads, readings of memory, the time. Out: what
//! to load, what to unload, whom to answer. What is held never grows beyond the budget: a model's
//! bytes count from the moment that its load begins until its unload has ended; where the budget
//! falls, models go until it is kept. Whoever waits is served
//! in order of arrival, by model: nobody overtakes, so nobody starves. Who makes room first is said
//! by [`crate::score`]; pinned models never do, and what it spares only for somebody who has waited
//! a minute.

mod counters;
#[cfg(test)]
mod policies;
mod preload;
#[cfg(test)]
mod tests;

pub use counters::{Counters, Reason};

use crate::entry::{Entry, KeepAlive, ModelId, Spec, State};
use crate::predict::Predictor;
use crate::pressure::Reading;
use crate::score::Eviction;
use crate::trial::Trial;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Somebody who waits, by a number of the caller's.
pub type Ticket = u64;

/// What models may take together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes; `u64::MAX` is no limit.
    pub bytes: u64,
    /// Models in memory.
    pub models: usize,
    /// Requests that may wait for one of them.
    pub waiting: usize,
    /// Who makes room first.
    pub eviction: Eviction,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An agent wants a model; an operator, who is no agent, may want one too.
    Request {
        /// Whom to answer.
        ticket: Ticket,
        /// What is wanted.
        model: ModelId,
        /// Who asks.
        agent: Option<String>,
    },
    /// Who waited went away.
    Gone(Ticket),
    /// A load ended, after so many seconds.
    Loaded(ModelId, f64),
    /// A load found that the model takes more than was admitted, and was not carried out.
    Resized(ModelId, u64),
    /// A load failed, and why.
    LoadFailed(ModelId, String),
    /// A model's last answer is given and its memory is free.
    Unloaded(ModelId),
    /// A model's engine failed, and its memory is free.
    Died(ModelId),
    /// The state of the machine's memory.
    Memory(Reading),
    /// Time passed; these models are answering somebody.
    Tick(Vec<ModelId>),
    /// How long a model stays from now on that nobody uses.
    Keep(ModelId, KeepAlive),
    /// A model must stay once it is in memory.
    Pin(ModelId),
    /// It may go again.
    Unpin(ModelId),
    /// An operator wants a model to go.
    Unload(ModelId),
    /// Models may take so many bytes from now on.
    Limit(u64),
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// The model is in memory: answer.
    Serve(Ticket),
    /// It cannot be had: answer so.
    Refuse(Ticket, Refusal),
    /// Load a model, within so many bytes.
    Load(ModelId, u64),
    /// Give it no more requests, let it finish those it has, then free its memory.
    Unload(ModelId, Reason),
}

/// Why a model cannot be had, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It does not fit, whoever else goes.
    TooLarge(String),
    /// Loading it failed.
    Failed(String),
    /// As many wait for it as may.
    QueueFull,
}

/// Who has waited so long may displace what many use right now.
const PATIENCE: Duration = Duration::from_secs(60);
/// The part of what is held that makes room when the machine's memory runs out.
const RELIEF: f64 = 0.2;

struct Waiter {
    ticket: Ticket,
    model: ModelId,
    since: Duration,
}

/// The state of all models.
pub struct Manager {
    limits: Limits,
    entries: Vec<Entry>,
    waiting: VecDeque<Waiter>,
    counters: Counters,
    is_pressed: bool,
    predictor: Predictor,
    trial: Trial,
}

impl Manager {
    /// Nothing in memory yet.
    pub fn new(specs: Vec<Spec>, limits: Limits) -> Self {
        Self {
            limits,
            entries: specs.into_iter().map(Entry::new).collect(),
            waiting: VecDeque::new(),
            counters: Counters::default(),
            is_pressed: false,
            predictor: Predictor::default(),
            trial: Trial::new(limits),
        }
    }

    /// Takes an event; time is since 1970 and does not run backwards.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Request { ticket, model, agent } => {
                self.request(now, ticket, model, agent.as_deref(), &mut actions);
            }
            Event::Gone(ticket) => self.waiting.retain(|waiter| waiter.ticket != ticket),
            Event::Loaded(model, seconds) => self.loaded(now, model, seconds, &mut actions),
            Event::Resized(model, bytes) => {
                let entry = &mut self.entries[model.0];
                assert!(entry.state == State::Loading, "only loads find sizes");
                entry.spec.bytes = entry.spec.bytes.max(bytes);
                entry.state = State::Out;
                entry.is_guess = false;
            }
            Event::LoadFailed(model, why) => self.load_failed(model, why, &mut actions),
            Event::Unloaded(model) => {
                let entry = &mut self.entries[model.0];
                assert!(entry.state == State::Leaving, "it was told to go");
                entry.state = State::Out;
            }
            Event::Died(model) => self.died(now, model, &mut actions),
            Event::Memory(reading) => self.relieve(now, reading, &mut actions),
            Event::Tick(in_use) => self.tick(now, &in_use, &mut actions),
            Event::Keep(model, time) => {
                self.entries[model.0].spec.keep_alive = time;
                self.trial.keep(model, time);
            }
            Event::Pin(model) => self.entries[model.0].spec.is_pinned = true,
            Event::Unpin(model) => self.entries[model.0].spec.is_pinned = false,
            Event::Unload(model) => {
                if self.entries[model.0].is_evictable() {
                    self.unload(model, Reason::Asked, &mut actions);
                }
            }
            Event::Limit(bytes) => {
                self.limits.bytes = bytes;
                self.trial.set_limit(bytes);
            }
        }
        // What was on its way when the limit fell, or was pinned, may be too much.
        if self.staying() > self.limits.bytes {
            self.shrink(now, self.limits.bytes, Reason::Room, false, &mut actions);
        }
        self.admit(now, &mut actions);
        self.counters.peak_bytes = self.counters.peak_bytes.max(self.held());
        actions
    }

    fn request(
        &mut self,
        now: Duration,
        ticket: Ticket,
        model: ModelId,
        agent: Option<&str>,
        actions: &mut Vec<Action>,
    ) {
        let is_in = self.entries[model.0].state == State::In;
        if let Some(agent) = agent {
            self.counters.request(is_in, agent, model);
            self.entries[model.0].used(now, agent);
        }
        if is_in {
            self.serve(now, model, ticket, actions);
        } else if self.waiting.iter().filter(|w| w.model == model).count() < self.limits.waiting {
            self.waiting.push_back(Waiter { ticket, model, since: now });
            self.admit(now, actions);
        } else {
            actions.push(Action::Refuse(ticket, Refusal::QueueFull));
        }
        if let Some(agent) = agent {
            self.look_ahead(now, agent, model, actions);
        }
    }

    fn serve(&mut self, now: Duration, model: ModelId, ticket: Ticket, actions: &mut Vec<Action>) {
        let entry = &mut self.entries[model.0];
        entry.last_used = now;
        if std::mem::take(&mut entry.is_guess) {
            self.counters.useful_bytes += entry.spec.bytes;
        }
        actions.push(Action::Serve(ticket));
    }

    fn loaded(&mut self, now: Duration, model: ModelId, seconds: f64, actions: &mut Vec<Action>) {
        let entry = &mut self.entries[model.0];
        assert!(entry.state == State::Loading, "only what loads is loaded");
        entry.state = State::In;
        entry.last_used = now;
        entry.failure = None;
        self.counters.load_seconds.add(seconds);
        for ticket in self.take_waiting(model) {
            self.serve(now, model, ticket, actions);
        }
    }

    fn load_failed(&mut self, model: ModelId, why: String, actions: &mut Vec<Action>) {
        let entry = &mut self.entries[model.0];
        assert!(entry.state == State::Loading, "only loads fail");
        entry.state = State::Out;
        entry.is_guess = false;
        entry.failure = Some(why.clone());
        for ticket in self.take_waiting(model) {
            actions.push(Action::Refuse(ticket, Refusal::Failed(why.clone())));
        }
    }

    fn take_waiting(&mut self, model: ModelId) -> Vec<Ticket> {
        let waits = self.waiting.iter().filter(|waiter| waiter.model == model);
        let tickets = waits.map(|waiter| waiter.ticket).collect();
        self.waiting.retain(|waiter| waiter.model != model);
        tickets
    }

    /// Starts the loads of those who wait, in their order, as far as there is room; makes room for
    /// the first for whom there is none.
    fn admit(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let mut seen = BTreeSet::new();
        let firsts = self.waiting.iter().filter(|waiter| seen.insert(waiter.model));
        let firsts: Vec<_> = firsts.map(|waiter| (waiter.model, waiter.since)).collect();
        for (model, since) in firsts {
            let entry = &self.entries[model.0];
            match entry.state {
                State::Loading => continue,
                // It comes back when it is gone; nobody overtakes.
                State::Leaving => return,
                State::In => unreachable!("what is in memory is not waited for"),
                State::Out => {}
            }
            if self.lacks(entry.spec.bytes, &[]) {
                if let Some(why) = self.never_fits(model) {
                    for ticket in self.take_waiting(model) {
                        actions.push(Action::Refuse(ticket, Refusal::TooLarge(why.clone())));
                    }
                    continue;
                }
                let is_patient = now.saturating_sub(since) < PATIENCE;
                return self.make_room(now, model, is_patient, actions);
            }
            self.load(now, model, actions);
        }
    }

    fn load(&mut self, now: Duration, model: ModelId, actions: &mut Vec<Action>) {
        let entry = &mut self.entries[model.0];
        entry.state = State::Loading;
        (entry.since, entry.last_used) = (now, now);
        actions.push(Action::Load(model, entry.spec.bytes));
    }

    /// Whether so many bytes more do not fit, once these models are gone.
    fn lacks(&self, bytes: u64, gone: &[ModelId]) -> bool {
        let stays = |&(i, entry): &(usize, &Entry)| {
            entry.state != State::Out && !gone.contains(&ModelId(i))
        };
        let held = self.entries.iter().enumerate().filter(stays);
        let (n, sum) = held.fold((0, 0u64), |(n, sum), (_, entry)| (n + 1, sum + entry.held()));
        sum.saturating_add(bytes) > self.limits.bytes || n >= self.limits.models
    }

    /// Why a model cannot be had even when all that may go is gone.
    fn never_fits(&self, model: ModelId) -> Option<String> {
        let spec = &self.entries[model.0].spec;
        let may_go = |&(_, entry): &(usize, &Entry)| match entry.state {
            State::Out => false,
            State::Leaving => true,
            State::Loading | State::In => !entry.spec.is_pinned,
        };
        let gone = self.entries.iter().enumerate().filter(may_go);
        let gone: Vec<_> = gone.map(|(i, _)| ModelId(i)).collect();
        if !self.lacks(spec.bytes, &gone) {
            return None;
        }
        let pinned = self.entries.iter().filter(|entry| entry.spec.is_pinned);
        let (n, sum) = pinned.fold((0, 0), |(n, sum), entry| {
            (n + usize::from(entry.state != State::Out), sum + entry.held())
        });
        let most = |limit: u64| match limit {
            u64::MAX => "any number of".to_owned(),
            limit => limit.to_string(),
        };
        Some(format!(
            "model `{}` takes {} bytes, and does not fit: {} models may take {} bytes, and {n} \
             pinned ones hold {sum}; raise --max-memory or --models-max, unpin a model, or lower \
             --kv-size or --ctx-size",
            spec.name,
            spec.bytes,
            most(self.limits.models.try_into().unwrap_or(u64::MAX)),
            most(self.limits.bytes),
        ))
    }

    /// Lets models go, the one of least worth first, until there is room. Nobody goes while that
    /// would not be enough: a load that is under way ends first.
    fn make_room(
        &mut self,
        now: Duration,
        model: ModelId,
        is_patient: bool,
        actions: &mut Vec<Action>,
    ) {
        let bytes = self.entries[model.0].spec.bytes;
        let leaving = self.entries.iter().enumerate().filter(|(_, e)| e.state == State::Leaving);
        let mut gone: Vec<ModelId> = leaving.map(|(i, _)| ModelId(i)).collect();
        let n_leaving = gone.len();
        for victim in self.by_worth(now, is_patient) {
            if !self.lacks(bytes, &gone) {
                break;
            }
            gone.push(victim);
        }
        if !self.lacks(bytes, &gone) {
            for &victim in &gone[n_leaving..] {
                self.unload(victim, Reason::Room, actions);
            }
        }
    }

    /// Models that may be evicted, in the order in which they are.
    fn by_worth(&self, now: Duration, spares_hot: bool) -> Vec<ModelId> {
        let Limits { bytes, eviction, .. } = self.limits;
        let is_spared = |entry: &Entry| spares_hot && eviction.spares(&entry.usage(now));
        let may_go = |entry: &Entry| entry.is_evictable() && !is_spared(entry);
        let candidates = self.entries.iter().enumerate().filter(|(_, entry)| may_go(entry));
        let worth = |entry: &Entry| eviction.worth(&entry.usage(now), bytes);
        let mut all: Vec<_> = candidates.map(|(i, entry)| (worth(entry), ModelId(i))).collect();
        all.sort_by(|([a, b], i), ([c, d], j)| a.total_cmp(c).then(b.total_cmp(d)).then(i.cmp(j)));
        all.into_iter().map(|(_, model)| model).collect()
    }

    fn unload(&mut self, model: ModelId, reason: Reason, actions: &mut Vec<Action>) {
        self.leave(model, State::Leaving, reason);
        actions.push(Action::Unload(model, reason));
    }

    fn leave(&mut self, model: ModelId, to: State, reason: Reason) {
        let entry = &mut self.entries[model.0];
        assert!(entry.state == State::In, "only what is in memory can go");
        if std::mem::take(&mut entry.is_guess) {
            self.counters.wasted_bytes += entry.spec.bytes;
        }
        entry.state = to;
        entry.forget(entry.last_used);
        self.counters.evictions[reason as usize] += 1;
    }

    /// A model whose engine failed is loaded again when it is asked for; a pinned one at once.
    fn died(&mut self, now: Duration, model: ModelId, actions: &mut Vec<Action>) {
        self.leave(model, State::Out, Reason::Died);
        let spec = &self.entries[model.0].spec;
        if spec.is_pinned && !self.lacks(spec.bytes, &[]) {
            self.load(now, model, actions);
        }
    }

    /// Lets a fifth of what is held go when the machine's memory runs out. What is leaving already
    /// counts towards it.
    fn relieve(&mut self, now: Duration, reading: Reading, actions: &mut Vec<Action>) {
        self.is_pressed = reading.is_pressed();
        if self.is_pressed {
            let target = (self.held() as f64 * (1.0 - RELIEF)) as u64;
            self.shrink(now, target, Reason::Pressure, true, actions);
        }
    }

    /// Lets models go until so many bytes are left.
    fn shrink(
        &mut self,
        now: Duration,
        target: u64,
        reason: Reason,
        spares_hot: bool,
        actions: &mut Vec<Action>,
    ) {
        for victim in self.by_worth(now, spares_hot) {
            if self.staying() <= target {
                return;
            }
            self.unload(victim, reason, actions);
        }
    }

    /// Lets models go that nobody has used for long enough.
    fn tick(&mut self, now: Duration, in_use: &[ModelId], actions: &mut Vec<Action>) {
        for &model in in_use {
            self.entries[model.0].last_used = now;
        }
        for i in 0..self.entries.len() {
            let entry = &self.entries[i];
            let idle = now.saturating_sub(entry.last_used);
            let is_over = match entry.spec.keep_alive {
                KeepAlive::Forever => false,
                KeepAlive::For(time) => idle >= time,
            };
            if is_over && entry.is_evictable() && !in_use.contains(&ModelId(i)) {
                self.unload(ModelId(i), Reason::Idle, actions);
            }
        }
    }

    /// Bytes of all models that are in memory, on the way there, or leaving.
    pub fn held(&self) -> u64 {
        self.entries.iter().map(Entry::held).sum()
    }

    /// Those of them that are not leaving.
    fn staying(&self) -> u64 {
        let stays = self.entries.iter().filter(|entry| entry.state != State::Leaving);
        stays.map(Entry::held).sum()
    }

    /// The models.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What they may take.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What was done so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether loading ahead pays, on paper.
    pub fn trial(&self) -> &Trial {
        &self.trial
    }

    /// How many wait.
    pub fn n_waiting(&self) -> usize {
        self.waiting.len()
    }
}
