//! The manager under schedules made by hand and by seeds.

use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;

const SECOND: Duration = Duration::from_secs(1);

fn spec(name: &str, bytes: u64) -> Spec {
    Spec { name: name.into(), bytes, is_pinned: false, keep_alive: KeepAlive::Forever }
}

fn limits(bytes: u64) -> Limits {
    Limits { bytes, models: usize::MAX, waiting: 1000, eviction: Eviction::Score }
}

fn ask(ticket: Ticket, model: usize, agent: &str) -> Event {
    Event::Request { ticket, model: ModelId(model), agent: Some(agent.into()) }
}

/// A manager of models of these bytes, some of which are in memory already.
fn with_loaded(sizes: &[u64], limit: u64, loaded: &[usize]) -> Manager {
    let specs = sizes.iter().enumerate().map(|(i, &bytes)| spec(&format!("m{i}"), bytes));
    let mut manager = Manager::new(specs.collect(), limits(limit));
    for &model in loaded {
        manager.handle(Duration::ZERO, ask(1000 + model as u64, model, "start"));
        manager.handle(Duration::ZERO, Event::Loaded(ModelId(model), 0.1));
    }
    manager
}

#[test]
fn a_load_in_flight_is_shared_and_its_failure_too() {
    let mut manager = with_loaded(&[10], 100, &[]);
    let load = || Action::Load(ModelId(0), 10);
    assert_eq!(manager.handle(SECOND, ask(1, 0, "a")), [load()]);
    assert_eq!(manager.handle(SECOND, ask(2, 0, "b")), []);
    let failed = Event::LoadFailed(ModelId(0), "torn".into());
    let refused = |ticket| Action::Refuse(ticket, Refusal::Failed("torn".into()));
    assert_eq!(manager.handle(SECOND, failed), [refused(1), refused(2)]);
    assert_eq!(manager.handle(SECOND, ask(3, 0, "a")), [load()]);
    assert_eq!(manager.handle(SECOND, Event::Loaded(ModelId(0), 2.0)), [Action::Serve(3)]);
    assert_eq!(manager.handle(SECOND, ask(4, 0, "a")), [Action::Serve(4)]);
    assert_eq!((manager.counters().hits, manager.counters().misses), (1, 3));
}

#[test]
fn room_is_made_by_score_and_taken_when_it_is_there() {
    // Model 0 was used by three agents and model 1 by one, all long ago: 1 goes.
    let mut manager = with_loaded(&[40, 40, 40], 100, &[0, 1]);
    for (ticket, agent) in [(1, "a"), (2, "b"), (3, "c")] {
        assert_eq!(manager.handle(SECOND, ask(ticket, 0, agent)), [Action::Serve(ticket)]);
    }
    let later = Duration::from_secs(600);
    let unload = Action::Unload(ModelId(1), Reason::Room);
    assert_eq!(manager.handle(later, ask(4, 2, "d")), [unload]);
    // Who asks for it now waits until it is gone and there is room again, behind who came first.
    assert_eq!(manager.handle(later, ask(5, 1, "d")), []);
    let actions = manager.handle(later, Event::Unloaded(ModelId(1)));
    assert_eq!(actions[0], Action::Load(ModelId(2), 40));
    assert_eq!(manager.held(), 80);
}

#[test]
fn what_many_use_is_spared_for_a_minute_and_no_longer() {
    let mut manager = with_loaded(&[60, 60], 100, &[0]);
    let hot = |manager: &mut Manager, now, ticket| {
        for (i, agent) in ["a", "b", "c"].into_iter().enumerate() {
            manager.handle(now, ask(ticket + i as u64, 0, agent));
        }
    };
    hot(&mut manager, SECOND, 1);
    assert_eq!(manager.handle(2 * SECOND, ask(10, 1, "d")), []);
    hot(&mut manager, 50 * SECOND, 20);
    assert_eq!(manager.handle(61 * SECOND, Event::Tick(vec![])), []);
    let unload = Action::Unload(ModelId(0), Reason::Room);
    assert_eq!(manager.handle(62 * SECOND, Event::Tick(vec![])), [unload]);
}

#[test]
fn what_never_fits_is_refused_with_numbers() {
    let mut manager = with_loaded(&[60, 60, 200], 100, &[0]);
    manager.handle(SECOND, Event::Pin(ModelId(0)));
    for (ticket, model, bytes) in [(1, 1, "60 bytes"), (2, 2, "200 bytes")] {
        let actions = manager.handle(SECOND, ask(ticket, model, "a"));
        let [Action::Refuse(refused, Refusal::TooLarge(why))] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert_eq!(*refused, ticket);
        assert!(why.contains(bytes) && why.contains("--max-memory"), "{why}");
    }
    manager.handle(SECOND, Event::Unpin(ModelId(0)));
    let unload = Action::Unload(ModelId(0), Reason::Room);
    assert_eq!(manager.handle(SECOND, ask(3, 1, "a")), [unload]);
}

#[test]
fn idle_models_go_after_their_time_but_not_while_they_answer() {
    let idle = |seconds| KeepAlive::For(Duration::from_secs(seconds));
    let specs = [0, 300].map(|s| Spec { keep_alive: idle(s), ..spec(&s.to_string(), 1) });
    let mut manager = Manager::new(specs.to_vec(), limits(u64::MAX));
    for model in 0..2 {
        manager.handle(SECOND, ask(model as u64, model, "a"));
        manager.handle(SECOND, Event::Loaded(ModelId(model), 0.1));
    }
    assert_eq!(manager.handle(2 * SECOND, Event::Tick(vec![ModelId(0)])), []);
    let unload = |model| Action::Unload(ModelId(model), Reason::Idle);
    assert_eq!(manager.handle(3 * SECOND, Event::Tick(vec![])), [unload(0)]);
    assert_eq!(manager.handle(300 * SECOND, Event::Tick(vec![])), []);
    assert_eq!(manager.handle(301 * SECOND, Event::Tick(vec![])), [unload(1)]);
}

#[test]
fn pressure_frees_a_fifth_and_counts_what_is_leaving() {
    let mut manager = with_loaded(&[10; 10], 1000, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    manager.handle(SECOND, Event::Pin(ModelId(0)));
    let full = Reading { used: Some(0.91), stalled: None };
    let unload = |model| Action::Unload(ModelId(model), Reason::Pressure);
    let actions = manager.handle(SECOND, Event::Memory(full));
    assert_eq!(actions, [unload(1), unload(2)]);
    assert_eq!(manager.handle(2 * SECOND, Event::Memory(full)), []);
    let fine = Reading { used: Some(0.9), stalled: Some(0.0) };
    assert_eq!(manager.handle(3 * SECOND, Event::Memory(fine)), []);
}

#[test]
fn a_model_that_grew_on_disk_is_admitted_anew() {
    let mut manager = with_loaded(&[40, 40], 100, &[0]);
    assert_eq!(manager.handle(SECOND, ask(1, 1, "a")), [Action::Load(ModelId(1), 40)]);
    let actions = manager.handle(SECOND, Event::Resized(ModelId(1), 70));
    assert_eq!(actions, [Action::Unload(ModelId(0), Reason::Room)]);
    let actions = manager.handle(SECOND, Event::Unloaded(ModelId(0)));
    assert_eq!(actions, [Action::Load(ModelId(1), 70)]);
}

#[test]
fn a_smaller_limit_holds_at_once() {
    let mut manager = with_loaded(&[40, 40], 100, &[0, 1]);
    let actions = manager.handle(SECOND, Event::Limit(50));
    assert_eq!(actions, [Action::Unload(ModelId(0), Reason::Room)]);
}

#[test]
fn no_more_wait_for_a_model_than_may() {
    let limits = Limits { waiting: 2, ..limits(100) };
    let mut manager = Manager::new(vec![spec("a", 10), spec("b", 10)], limits);
    let load = |model| Action::Load(ModelId(model), 10);
    assert_eq!(manager.handle(SECOND, ask(1, 0, "a")), [load(0)]);
    assert_eq!(manager.handle(SECOND, ask(2, 0, "b")), []);
    let full = Action::Refuse(3, Refusal::QueueFull);
    assert_eq!(manager.handle(SECOND, ask(3, 0, "c")), [full]);
    assert_eq!(manager.handle(SECOND, ask(4, 1, "c")), [load(1)]);
    manager.handle(SECOND, Event::Gone(1));
    assert_eq!(manager.handle(SECOND, ask(5, 0, "c")), []);
}

#[test]
fn what_was_on_its_way_or_pinned_when_the_limit_fell_goes_too() {
    let mut manager = with_loaded(&[40, 40], 100, &[0]);
    manager.handle(SECOND, Event::Pin(ModelId(0)));
    manager.handle(SECOND, ask(1, 1, "a"));
    assert_eq!(manager.handle(SECOND, Event::Limit(60)), []);
    // Who waited for it is answered first.
    let unload = |model| Action::Unload(ModelId(model), Reason::Room);
    let actions = manager.handle(SECOND, Event::Loaded(ModelId(1), 0.1));
    assert_eq!(actions, [Action::Serve(1), unload(1)]);
    manager.handle(SECOND, Event::Limit(30));
    assert_eq!(manager.handle(SECOND, Event::Unpin(ModelId(0))), [unload(0)]);
}

#[test]
fn a_model_whose_engine_failed_is_loaded_again_a_pinned_one_at_once() {
    let mut manager = with_loaded(&[40, 40], 100, &[0, 1]);
    manager.handle(SECOND, Event::Pin(ModelId(0)));
    let load = |model| Action::Load(ModelId(model), 40);
    assert_eq!(manager.handle(SECOND, Event::Died(ModelId(0))), [load(0)]);
    assert_eq!(manager.handle(SECOND, Event::Died(ModelId(1))), []);
    assert_eq!(manager.handle(SECOND, ask(1, 1, "a")), [load(1)]);
    assert_eq!(manager.counters().evictions[Reason::Died as usize], 2);
}

/// What a shell would have in flight, and when it ends.
struct Schedule {
    rng: StdRng,
    manager: Manager,
    now: Duration,
    due: Vec<(Duration, Event)>,
    open: BTreeMap<Ticket, ModelId>,
    answered: BTreeMap<Ticket, usize>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let n = rng.random_range(2..8);
        let keep =
            [KeepAlive::Forever, KeepAlive::For(20 * SECOND), KeepAlive::For(Duration::ZERO)];
        let specs = (0..n).map(|i| Spec {
            is_pinned: rng.random_bool(0.15),
            keep_alive: keep[rng.random_range(0..keep.len())],
            ..spec(&format!("m{i}"), rng.random_range(5..60))
        });
        let specs: Vec<Spec> = specs.collect();
        let models = if rng.random_bool(0.3) { rng.random_range(1..4) } else { usize::MAX };
        let waiting = rng.random_range(1..20);
        let eviction = Eviction::ALL[(seed as usize % 6).saturating_sub(2)];
        let limits = Limits { bytes: rng.random_range(40..120), models, waiting, eviction };
        let (due, open, answered) = Default::default();
        let manager = Manager::new(specs, limits);
        Self { rng, manager, now: Duration::from_secs(1_000_000), due, open, answered }
    }

    fn give(&mut self, event: Event) {
        let scores = self.scores(&event);
        let held_before = self.manager.held();
        let actions = self.manager.handle(self.now, event);
        let gone = actions.iter().filter_map(|action| match action {
            Action::Unload(model, reason) => Some((*model, *reason)),
            _ => None,
        });
        let gone: Vec<(ModelId, Reason)> = gone.collect();
        for reason in [Reason::Room, Reason::Pressure] {
            self.check_order(&scores, &gone, reason);
        }
        for action in actions {
            self.obey(action);
        }
        let limits = self.manager.limits();
        // Only a budget that falls leaves more than it allows, which grows no further, and goes.
        assert!(self.manager.held() <= limits.bytes.max(held_before), "over the budget");
        let stay = || self.manager.entries().iter().filter(|e| e.state != State::Leaving);
        let n_bytes: u64 = stay().map(Entry::held).sum();
        assert!(n_bytes <= limits.bytes || !stay().any(Entry::is_evictable), "over the budget");
        let n_held = self.manager.entries().iter().filter(|e| e.state != State::Out).count();
        assert!(n_held <= limits.models, "too many models");
    }

    /// Scores by the formula, written out anew, of those that could go at this event.
    fn scores(&self, event: &Event) -> BTreeMap<ModelId, f64> {
        let max = match event {
            Event::Limit(bytes) => *bytes as f64,
            _ => self.manager.limits().bytes as f64,
        };
        let could_go = |&(i, e): &(usize, &Entry)| match event {
            Event::Loaded(model, _) if model.0 == i => !e.spec.is_pinned,
            Event::Unpin(model) if model.0 == i => e.state == State::In,
            _ => e.is_evictable(),
        };
        let entries = self.manager.entries().iter().enumerate().filter(could_go);
        entries
            .map(|(i, e)| {
                let mut e = e.clone();
                match event {
                    Event::Request { model, agent, .. } if model.0 == i => match agent {
                        Some(agent) => e.used(self.now, agent),
                        None => e.last_used = self.now,
                    },
                    Event::Loaded(model, _) if model.0 == i => e.last_used = self.now,
                    Event::Tick(in_use) if in_use.contains(&ModelId(i)) => e.last_used = self.now,
                    _ => {}
                }
                let hours = (self.now - e.last_used).as_secs_f64() / 3600.0;
                let score = 0.3 / (1.0 + hours)
                    + 0.3 * f64::min(e.accesses as f64 / 100.0, 1.0)
                    + 0.3 * f64::min(e.agents.len() as f64 / 5.0, 1.0)
                    + 0.1 * (1.0 - f64::min(e.spec.bytes as f64 / max, 1.0));
                (ModelId(i), score)
            })
            .collect()
    }

    // proves S-13: the eviction order is the formula's
    fn check_order(
        &self,
        scores: &BTreeMap<ModelId, f64>,
        gone: &[(ModelId, Reason)],
        reason: Reason,
    ) {
        if self.manager.limits().eviction != Eviction::Score {
            return;
        }
        let victims = gone.iter().filter(|(_, why)| *why == reason);
        let of_victims: Vec<f64> =
            victims.filter_map(|(victim, _)| scores.get(victim).copied()).collect();
        assert!(of_victims.is_sorted(), "{of_victims:?}");
        let Some(&last) = of_victims.last() else { return };
        let is_spared = |model: &ModelId| {
            let entry = &self.manager.entries()[model.0];
            entry.agents.len() > 2 && self.now - entry.last_used < 60 * SECOND
        };
        let is_gone = |model| gone.iter().any(|&(victim, _)| victim == model);
        let stayed = scores.iter().filter(|&(&model, _)| !is_gone(model));
        for (model, score) in stayed {
            assert!(*score >= last || is_spared(model), "{model:?} {score} stays, {last} goes");
        }
    }

    fn obey(&mut self, action: Action) {
        let delay = self.now + SECOND * self.rng.random_range(0..15);
        match action {
            Action::Serve(ticket) | Action::Refuse(ticket, _) => {
                *self.answered.entry(ticket).or_default() += 1;
                self.open.remove(&ticket);
            }
            Action::Load(model, _) => {
                let event = match self.rng.random_range(0..10) {
                    0 => Event::LoadFailed(model, "torn".into()),
                    1 => Event::Resized(model, self.rng.random_range(5..70)),
                    _ => Event::Loaded(model, 1.0),
                };
                self.due.push((delay, event));
            }
            Action::Unload(model, reason) => {
                let is_pinned = self.manager.entries()[model.0].spec.is_pinned;
                assert!(!is_pinned, "a pinned model left: {reason:?}");
                self.due.push((delay, Event::Unloaded(model)));
            }
        }
    }

    /// Moves on to the next second, and gives what is due.
    fn beat(&mut self) {
        self.now += SECOND;
        while let Some(at) = self.due.iter().position(|(time, _)| *time <= self.now) {
            let (_, event) = self.due.remove(at);
            self.give(event);
        }
        let in_use: Vec<ModelId> = (0..self.manager.entries().len())
            .filter(|_| self.rng.random_bool(0.2))
            .map(ModelId)
            .collect();
        self.give(Event::Tick(in_use));
    }

    /// What may come between a request for a model and the next one.
    fn meddle(&mut self, ticket: Ticket, model: ModelId) {
        match self.rng.random_range(0..40) {
            0 => self.give(Event::Pin(model)),
            1..4 => self.give(Event::Unpin(model)),
            4 => {
                let used = Some(self.rng.random_range(0.8..1.0));
                self.give(Event::Memory(Reading { used, stalled: None }));
            }
            5 => {
                self.open.remove(&ticket);
                self.give(Event::Gone(ticket));
            }
            6 => {
                let bytes = self.rng.random_range(30..120);
                self.give(Event::Limit(bytes));
            }
            7 => {
                let time = SECOND * self.rng.random_range(0..30);
                self.give(Event::Keep(model, KeepAlive::For(time)));
            }
            8 => self.give(Event::Unload(model)),
            9 if self.manager.entries()[model.0].state == State::In => {
                self.give(Event::Died(model));
            }
            _ => {}
        }
    }

    fn run(&mut self) {
        let n_models = self.manager.entries().len();
        for ticket in 0..200 {
            let (model, agent) = (self.rng.random_range(0..n_models), self.rng.random_range(0..6));
            self.open.insert(ticket, ModelId(model));
            // One of them is an operator.
            let agent = (agent > 0).then(|| format!("agent-{agent}"));
            self.give(Event::Request { ticket, model: ModelId(model), agent });
            self.meddle(ticket, ModelId(model));
            for _ in 0..self.rng.random_range(0..6) {
                self.beat();
            }
        }
        // Nobody comes any more: everybody is answered in bounded time.
        for _ in 0..200 * 120 {
            if self.open.is_empty() {
                break;
            }
            self.beat();
        }
    }
}

// proves S-13: the budget is kept, pins hold, everybody is answered once, nobody starves
#[test]
fn seeded_schedules_keep_what_always_holds() {
    for seed in 0..300 {
        println!("seed {seed}");
        let mut schedule = Schedule::new(seed);
        schedule.run();
        assert!(schedule.open.is_empty(), "still waiting: {:?}", schedule.open);
        assert!(schedule.answered.values().all(|&n| n == 1), "answered more than once");
        assert_eq!(schedule.manager.n_waiting(), 0);
    }
}

const N_MODELS: usize = 8;

fn of_models_that_leave() -> Manager {
    let keep_alive = KeepAlive::For(120 * SECOND);
    let specs = (0..N_MODELS).map(|i| Spec { keep_alive, ..spec(&format!("m{i}"), 10) });
    Manager::new(specs.collect(), limits(100))
}

/// A request a minute, of these models, the first of them the `first`th of all.
fn replay(manager: &mut Manager, first: usize, models: &[usize], agent: &dyn Fn(usize) -> String) {
    for (i, &model) in models.iter().enumerate() {
        let ticket = first + i;
        let now = Duration::from_secs(1_000_000 + 60 * ticket as u64);
        let mut actions = manager.handle(now, Event::Tick(vec![]));
        actions.extend(manager.handle(now, ask(ticket as u64, model, &agent(ticket))));
        for action in actions {
            match action {
                Action::Load(model, _) => {
                    manager.handle(now + SECOND, Event::Loaded(model, 1.0));
                }
                Action::Unload(model, _) => {
                    manager.handle(now + SECOND, Event::Unloaded(model));
                }
                Action::Serve(_) | Action::Refuse(..) => {}
            }
        }
    }
}

fn in_turn(n: usize) -> Vec<usize> {
    (0..n).map(|i| i % N_MODELS).collect()
}

fn at_random(n: usize) -> Vec<usize> {
    let mut rng = StdRng::seed_from_u64(7);
    (0..n).map(|_| rng.random_range(0..N_MODELS)).collect()
}

fn worker(_: usize) -> String {
    "worker".into()
}

// proves B28, P-14 (the prefetch): loading ahead beats a plain LRU by its interval, or turns itself off
#[test]
fn loading_ahead_pays_or_turns_itself_off() {
    let mut manager = of_models_that_leave();
    replay(&mut manager, 0, &in_turn(480), &worker);
    let (interval, [ahead, plain]) = (manager.trial().interval().unwrap(), manager.trial().hits());
    assert!(manager.trial().is_won() && interval.low > 0.9, "{interval:?}");
    assert!(ahead > 400 && plain == 0, "on paper: {ahead} hits with, {plain} without");
    let counters = manager.counters();
    assert!(counters.hits > 350, "{} hits", counters.hits);
    assert!(counters.useful_bytes >= 10 * 350, "{} useful bytes", counters.useful_bytes);
    assert!(counters.wasted_bytes <= 40, "{} wasted bytes", counters.wasted_bytes);
    let (useful, wasted) = (counters.useful_bytes as f64, counters.wasted_bytes as f64);
    println!("precision of loading ahead: {:.3}", useful / (useful + wasted));
    // The same agent goes on without a plan: what it did before foretells nothing, which is seen,
    // counted, and stopped.
    replay(&mut manager, 480, &at_random(300), &worker);
    assert!(!manager.trial().is_won(), "{:?}", manager.trial().interval());
    let wasted = manager.counters().wasted_bytes;
    assert!(wasted > 40, "{wasted} wasted bytes");
    replay(&mut manager, 780, &at_random(200), &worker);
    assert_eq!(manager.counters().wasted_bytes, wasted, "it was off, and loaded ahead");
}

#[test]
fn at_random_nothing_is_loaded_ahead() {
    let mut manager = of_models_that_leave();
    replay(&mut manager, 0, &at_random(480), &worker);
    assert!(!manager.trial().is_won(), "{:?}", manager.trial().interval());
    assert_eq!((manager.counters().useful_bytes, manager.counters().wasted_bytes), (0, 0));
}

#[test]
fn agents_without_a_past_have_nothing_foreseen() {
    let mut manager = of_models_that_leave();
    replay(&mut manager, 0, &in_turn(160), &|ticket| format!("agent-{ticket}"));
    assert_eq!(manager.counters().useful_bytes, 0);
}
