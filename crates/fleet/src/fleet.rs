//! The shell around the manager: threads that load and unload, a clock, and the server's models.
//!
//! In: models on disk, and who loads them ([`Load`]). Out: [`sterna_server::Models`]. One lock
//! guards the manager and the models in memory; loads and unloads run on threads of their own, and
//! a model that leaves is waited for until its engine has answered. [`Watch`] looks at the time and
//! at the machine's memory.

mod watch;

pub use watch::Watch;

use crate::entry::{ModelId, Spec, State};
use crate::known::{Facts, Known, Load, LoadError, Loaded, Running, SetupError, check};
use crate::manager::{Action, Event, Limits, Manager, Reason, Refusal, Ticket};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use sterna_measure::clock::{Clock, RealClock};
use sterna_server::{
    Agents, CacheStats, Counted, InMemory, KeepAlive, Lease, Listed, Model, Models, Past, Status,
    Unavailable, Waiting,
};
use tokio::sync::oneshot;

/// Time between two looks at whether a leaving model's last answer is given.
const DRAIN_POLL: Duration = Duration::from_millis(5);

/// Models in the memory there is. Clones are the same fleet.
#[derive(Clone)]
pub struct Fleet {
    shared: Arc<Shared>,
}

struct Shared {
    known: Vec<Known>,
    load: Box<dyn Load>,
    agents: Arc<Agents>,
    /// The time of day, for templates.
    now: fn() -> SystemTime,
    clock: RealClock,
    /// Since 1970, when the clock started.
    started: Duration,
    state: Mutex<Inside>,
}

/// Where who waits hears what became of it.
type Answer = oneshot::Sender<Result<Lease, Unavailable>>;

struct Inside {
    manager: Manager,
    /// Those in memory, by [`ModelId`].
    models: Vec<Option<Resident>>,
    /// What those counted that were in memory, by [`ModelId`].
    before: Vec<Option<Counted>>,
    waiting: BTreeMap<Ticket, (ModelId, Answer)>,
    next_ticket: Ticket,
    is_ending: bool,
}

struct Resident {
    model: Arc<Model>,
    engine: Box<dyn Running>,
}

impl Resident {
    /// Whether somebody is about to ask it, or it has not answered. Who still reads what it said
    /// does not use it, however slowly.
    fn is_in_use(&self) -> bool {
        // In this order: what is asked under a lease is open before the lease ends.
        self.engine.is_alive() && (self.model.n_leases() > 0 || self.engine.n_open() > 0)
    }
}

impl Fleet {
    /// Nothing in memory yet; a thread looks at the time and the machine's memory.
    ///
    /// # Errors
    /// When there is no model, two have the same name, or an agent's model is none of them.
    pub fn new(
        known: Vec<Known>,
        load: Box<dyn Load>,
        limits: Limits,
        agents: Arc<Agents>,
        now: fn() -> SystemTime,
        watch: Watch,
    ) -> Result<Self, SetupError> {
        check(&known, &agents)?;
        let spec = |known: &Known| Spec {
            name: known.item.name.clone(),
            bytes: known.facts.as_ref().map_or(0, Facts::bytes),
            is_pinned: known.is_pinned,
            keep_alive: known.keep_alive,
        };
        let state = Inside {
            manager: Manager::new(known.iter().map(spec).collect(), limits),
            models: known.iter().map(|_| None).collect(),
            before: vec![None; known.len()],
            waiting: BTreeMap::new(),
            next_ticket: 0,
            is_ending: false,
        };
        let shared = Arc::new(Shared {
            known,
            load,
            agents,
            now,
            clock: RealClock::new(),
            started: now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            state: Mutex::new(state),
        });
        let weak = Arc::downgrade(&shared);
        std::thread::spawn(move || watch.run(&weak));
        Ok(Self { shared })
    }

    /// Loads a model and waits until it is there.
    ///
    /// # Errors
    /// When it cannot be had: a sentence.
    pub fn load_now(&self, name: &str) -> Result<(), String> {
        let waiting = self.want(name, None).ok_or_else(|| format!("there is no model `{name}`"))?;
        match waiting.blocking_recv() {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(Unavailable::TooLarge(why) | Unavailable::Failed(why))) => Err(why),
            Ok(Err(Unavailable::QueueFull(n))) => Err(format!("{n} requests wait for it already")),
            Err(_) => Err("the server is shutting down".into()),
        }
    }

    /// Takes no new requests from now on; how many are still to be answered.
    pub fn drain(&self) -> usize {
        let mut inside = self.shared.lock();
        inside.is_ending = true;
        // Who waits for a load is told so by the end of its channel.
        inside.waiting.clear();
        let engines = || inside.models.iter().flatten().map(|resident| &resident.engine);
        let n_open = engines().map(|engine| engine.n_open()).sum();
        engines().for_each(|engine| engine.drain());
        n_open
    }

    /// Ends all engines, each with what it has.
    pub fn end(&self) {
        self.drain();
        let models: Vec<Resident> =
            self.shared.lock().models.iter_mut().filter_map(Option::take).collect();
        models.into_iter().for_each(|resident| resident.engine.stop());
    }

    fn id(&self, name: &str) -> Option<ModelId> {
        let has = |known: &Known| {
            known.item.name == name || known.aliases.iter().any(|alias| alias == name)
        };
        self.shared.known.iter().position(has).map(ModelId)
    }
}

impl Shared {
    /// What is inside stays whole when a thread panics: the manager asserts before it changes.
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn time(&self) -> Duration {
        self.started + self.clock.now()
    }

    /// Gives the manager an event, after what went away meanwhile: engines that failed, and who
    /// waited, for whom nothing is done any more.
    fn apply(self: &Arc<Self>, inside: &mut Inside, event: Event) {
        for model in inside.dead() {
            if let Some(resident) = inside.take(model) {
                resident.engine.stop();
            }
            self.give(inside, Event::Died(model));
        }
        let gone = inside.waiting.iter().filter(|(_, (_, sender))| sender.is_closed());
        for ticket in gone.map(|(&ticket, _)| ticket).collect::<Vec<_>>() {
            inside.waiting.remove(&ticket);
            self.give(inside, Event::Gone(ticket));
        }
        self.give(inside, event);
    }

    /// Gives the manager an event and does what it says.
    fn give(self: &Arc<Self>, inside: &mut Inside, event: Event) {
        for action in inside.manager.handle(self.time(), event) {
            match action {
                Action::Serve(ticket) => inside.answer(ticket, None),
                Action::Refuse(ticket, refusal) => inside.answer(ticket, Some(refusal)),
                Action::Load(model, bytes) => {
                    let shared = self.clone();
                    std::thread::spawn(move || shared.load(model, bytes));
                }
                Action::Unload(model, _) => {
                    let shared = self.clone();
                    std::thread::spawn(move || shared.unload(model));
                }
            }
        }
    }

    /// Loads a model, on a thread of its own.
    fn load(self: Arc<Self>, model: ModelId, within: u64) {
        let before = self.clock.now();
        let known = &self.known[model.0];
        let loaded = catch_unwind(AssertUnwindSafe(|| self.load.load(&known.item, within)));
        let event = match loaded {
            Ok(Ok(loaded)) => match self.resident(known, loaded) {
                Ok(resident) => {
                    let seconds = (self.clock.now() - before).as_secs_f64();
                    return self.move_in(model, resident, seconds);
                }
                Err(why) => Event::LoadFailed(model, why),
            },
            Ok(Err(LoadError::Larger(bytes))) => Event::Resized(model, bytes),
            Ok(Err(LoadError::Failed(why))) => Event::LoadFailed(model, why),
            Err(_) => {
                let why = "loading it panicked, which is a mistake of ours; the log says where";
                Event::LoadFailed(model, why.into())
            }
        };
        self.apply(&mut self.lock(), event);
    }

    fn resident(&self, known: &Known, loaded: Loaded) -> Result<Resident, String> {
        let Loaded { mut served, engine } = loaded;
        served.name.clone_from(&known.item.name);
        served.aliases.clone_from(&known.aliases);
        let name = served.name.clone();
        match Model::new(served, self.agents.clone(), self.now) {
            Ok(model) => Ok(Resident { model: Arc::new(model), engine }),
            Err(why) => {
                engine.stop();
                Err(format!(
                    "model `{name}`: its chat template is not valid: {why}; give another one"
                ))
            }
        }
    }

    fn move_in(self: &Arc<Self>, model: ModelId, resident: Resident, seconds: f64) {
        let mut inside = self.lock();
        if inside.is_ending {
            drop(inside);
            return resident.engine.stop();
        }
        inside.models[model.0] = Some(resident);
        self.apply(&mut inside, Event::Loaded(model, seconds));
    }

    /// Waits until a model has answered, and frees its memory; on a thread of its own.
    fn unload(self: Arc<Self>, model: ModelId) {
        let resident = loop {
            let mut inside = self.lock();
            match &inside.models[model.0] {
                // The fleet has ended.
                None => return,
                Some(resident) if !resident.is_in_use() => {
                    break inside.take(model);
                }
                Some(_) => {}
            }
            drop(inside);
            std::thread::sleep(DRAIN_POLL);
        };
        if let Some(resident) = resident {
            resident.engine.stop();
        }
        self.apply(&mut self.lock(), Event::Unloaded(model));
    }
}

impl Inside {
    /// Takes a model out, but keeps what it counted.
    fn take(&mut self, model: ModelId) -> Option<Resident> {
        let resident = self.models[model.0].take()?;
        let mut counted = Counted::of(&resident.model);
        if let Some(before) = &self.before[model.0] {
            counted.add(before);
        }
        self.before[model.0] = Some(counted);
        Some(resident)
    }

    /// Models that should answer, and whose engines failed. Those that leave do so anyway, and at
    /// the end all engines end.
    fn dead(&self) -> Vec<ModelId> {
        let residents = self.models.iter().zip(self.manager.entries()).enumerate();
        let dead = residents.filter(|(_, (resident, entry))| {
            let is_dead = resident.as_ref().is_some_and(|resident| !resident.engine.is_alive());
            is_dead && entry.state == State::In && !self.is_ending
        });
        dead.map(|(i, _)| ModelId(i)).collect()
    }

    /// Answers who waits, with the model or why it cannot be had.
    fn answer(&mut self, ticket: Ticket, refusal: Option<Refusal>) {
        let Some((model, sender)) = self.waiting.remove(&ticket) else { return };
        let answer = match refusal {
            Some(Refusal::TooLarge(why)) => Err(Unavailable::TooLarge(why)),
            Some(Refusal::Failed(why)) => Err(Unavailable::Failed(why)),
            Some(Refusal::QueueFull) => Err(Unavailable::QueueFull(self.manager.limits().waiting)),
            None => {
                let resident = self.models[model.0].as_ref();
                Ok(Lease::new(&resident.expect("what is served is in memory").model))
            }
        };
        // Who has gone needs no answer.
        let _ = sender.send(answer);
    }
}

impl Models for Fleet {
    fn list(&self) -> Vec<Listed> {
        let inside = self.shared.lock();
        let listed =
            self.shared.known.iter().zip(inside.manager.entries()).map(|(known, entry)| {
                let facts = known.facts.as_ref().ok();
                Listed {
                    name: known.item.name.clone(),
                    aliases: known.aliases.clone(),
                    created: facts.map_or(0, |facts| facts.created),
                    context_len: facts.map_or(0, |facts| facts.context_len),
                    describe: facts.map_or_else(String::new, |facts| facts.describe.clone()),
                    fingerprint: facts.map_or_else(String::new, |f| f.fingerprint.clone()),
                    evidence: known.evidence.clone(),
                    status: match entry.state {
                        State::Out => Status::Unloaded,
                        State::Loading => Status::Loading,
                        State::In => Status::Loaded,
                        State::Leaving => Status::Unloading,
                    },
                    failure: known.facts.as_ref().err().or(entry.failure.as_ref()).cloned(),
                    is_pinned: entry.spec.is_pinned,
                    memory: facts.map_or_else(Vec::new, |facts| facts.memory.clone()),
                    expires: entry.expires().map(|time| time.as_secs()),
                }
            });
        listed.collect()
    }

    fn ready(&self) -> Vec<Arc<Model>> {
        let inside = self.shared.lock();
        inside.models.iter().flatten().map(|resident| resident.model.clone()).collect()
    }

    fn past(&self) -> Vec<Past> {
        let inside = self.shared.lock();
        let all = self.shared.known.iter().zip(&inside.models).zip(&inside.before);
        let past = all.filter(|((_, resident), before)| resident.is_some() || before.is_some());
        let past = past.map(|((known, resident), before)| Past {
            name: known.item.name.clone(),
            model: resident.as_ref().map(|resident| resident.model.clone()),
            before: before.clone().unwrap_or_default(),
        });
        past.collect()
    }

    fn want(&self, name: &str, agent: Option<&str>) -> Option<Waiting> {
        let model = self.id(name)?;
        let (sender, waiting) = oneshot::channel();
        let mut inside = self.shared.lock();
        if let Err(why) = &self.shared.known[model.0].facts {
            let _ = sender.send(Err(Unavailable::Failed(why.clone())));
        } else if !inside.is_ending {
            let ticket = inside.next_ticket;
            inside.next_ticket += 1;
            inside.waiting.insert(ticket, (model, sender));
            let agent = agent.map(str::to_owned);
            self.shared.apply(&mut inside, Event::Request { ticket, model, agent });
        }
        Some(waiting)
    }

    fn unload(&self, name: &str) -> bool {
        let Some(model) = self.id(name) else { return false };
        let mut inside = self.shared.lock();
        let is_in = inside.manager.entries()[model.0].is_evictable();
        self.shared.apply(&mut inside, Event::Unload(model));
        is_in
    }

    fn keep(&self, name: &str, keep_alive: KeepAlive) {
        if let Some(model) = self.id(name) {
            self.shared.apply(&mut self.shared.lock(), Event::Keep(model, keep_alive));
        }
    }

    fn pin(&self, name: &str, is_pinned: bool) {
        if let Some(model) = self.id(name) {
            let event = if is_pinned { Event::Pin(model) } else { Event::Unpin(model) };
            self.shared.apply(&mut self.shared.lock(), event);
        }
    }

    fn set_limit(&self, bytes: u64) {
        self.shared.apply(&mut self.shared.lock(), Event::Limit(bytes));
    }

    fn stats(&self) -> CacheStats {
        let inside = self.shared.lock();
        let (manager, now) = (&inside.manager, self.shared.time());
        let counters = manager.counters();
        let limit = manager.limits().bytes;
        let held = manager.entries().iter().filter(|entry| entry.state == State::In);
        let mut models: Vec<InMemory> = held
            .map(|entry| InMemory {
                name: entry.spec.name.clone(),
                bytes: entry.spec.bytes,
                accesses: entry.accesses,
                agents: entry.agents.len(),
                efficiency_score: entry.usage(now).efficiency_score(),
                eviction_score: entry.usage(now).eviction_score(limit),
            })
            .collect();
        models.sort_by(|a, b| b.efficiency_score.total_cmp(&a.efficiency_score));
        let evictions =
            Reason::ALL.map(|reason| (reason.name(), counters.evictions[reason as usize]));
        let counted = counters.models_of.iter();
        CacheStats {
            limit_bytes: (limit < u64::MAX).then_some(limit),
            used_bytes: manager.held(),
            peak_bytes: counters.peak_bytes,
            hits: counters.hits,
            misses: counters.misses,
            evictions: evictions.to_vec(),
            load_seconds: counters.load_seconds.clone(),
            preload_useful_bytes: counters.useful_bytes,
            preload_wasted_bytes: counters.wasted_bytes,
            preload: (manager.trial().is_won(), manager.trial().interval().map(Into::into)),
            models,
            agent_models: counted.map(|(agent, models)| (agent.clone(), models.len())).collect(),
        }
    }

    fn is_ending(&self) -> bool {
        self.shared.lock().is_ending
    }
}
