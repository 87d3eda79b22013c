//! Models that are in memory or not, as a script says.

use super::{Client, Fake, noon, served};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use sterna_engine::Histogram;
use sterna_server::{
    Agent, Agents, CacheStats, Counted, Evidence, KeepAlive, LOAD_BOUNDS, Lease, Listed, Model,
    Models, Options, Past, Served, Status, Unavailable, Waiting, router,
};
use tokio::sync::oneshot;

/// Where somebody hears what became of the model that he waits for.
pub type Answer = oneshot::Sender<Result<Lease, Unavailable>>;

/// Models that are there, as a script says.
pub struct Scripted {
    pub models: Vec<Arc<Model>>,
    /// Models that have to be loaded first, and those who wait for them.
    pub away: Mutex<Vec<(Arc<Model>, Vec<Answer>)>>,
    /// What operators asked for.
    pub orders: Mutex<Vec<String>>,
    /// Whether the server ends.
    pub is_ending: AtomicBool,
    /// What models counted before.
    pub before: Mutex<Vec<(String, Counted)>>,
}

impl Scripted {
    /// These are in memory, and those are not.
    pub fn new(here: Vec<Served>, away: Vec<Served>, agents: &Arc<Agents>) -> Arc<Self> {
        let model = |served| Arc::new(Model::new(served, agents.clone(), noon).unwrap());
        let away = away.into_iter().map(|served| (model(served), Vec::new()));
        Arc::new(Self {
            models: here.into_iter().map(model).collect(),
            away: Mutex::new(away.collect()),
            orders: Mutex::default(),
            is_ending: AtomicBool::new(false),
            before: Mutex::default(),
        })
    }

    /// Ends the load of the first that is away.
    pub fn arrive(&self, result: Result<(), Unavailable>) {
        let (model, waiting) = self.away.lock().unwrap().remove(0);
        for sender in waiting {
            drop(sender.send(result.clone().map(|()| Lease::new(&model))));
        }
    }
}

fn listed(model: &Model, status: Status) -> Listed {
    Listed {
        evidence: Evidence::NONE,
        name: model.served.name.clone(),
        aliases: model.served.aliases.clone(),
        created: model.served.created,
        context_len: model.served.context_len,
        describe: model.served.describe.clone(),
        fingerprint: model.served.fingerprint.clone(),
        status,
        failure: None,
        is_pinned: false,
        memory: model.served.memory.clone(),
        expires: None,
    }
}

/// One model, in memory.
pub fn models(model: Served, options: &Options) -> Arc<dyn Models> {
    Scripted::new(vec![model], Vec::new(), &options.agents)
}

/// A server of `here`, and of `org/away`, which has to be loaded.
pub fn here_and_away(fake: Arc<Fake>, agents: Vec<Agent>) -> (Client, Arc<Scripted>) {
    let agents = Arc::new(Agents::new(agents, Agent::default()));
    let of = |name: &str| vec![served(name, None, fake.clone())];
    let models = Scripted::new(of("here"), of("org/away"), &agents);
    let options = Options { agents, now: noon, ..Options::default() };
    (Client { router: router(models.clone(), options).unwrap(), fake }, models)
}

impl Models for Scripted {
    fn list(&self) -> Vec<Listed> {
        let orders = self.orders.lock().unwrap();
        let is_pinned = |name: &str| orders.contains(&format!("pin {name} true"));
        let here = self.models.iter().map(|model| Listed {
            is_pinned: is_pinned(&model.served.name),
            ..listed(model, Status::Loaded)
        });
        let away = self.away.lock().unwrap();
        here.chain(away.iter().map(|(model, _)| listed(model, Status::Unloaded))).collect()
    }

    fn ready(&self) -> Vec<Arc<Model>> {
        self.models.clone()
    }

    fn past(&self) -> Vec<Past> {
        let before = self.before.lock().unwrap();
        let of = |name: &str| before.iter().find(|(of, _)| of == name).map(|(_, c)| c.clone());
        let here = self.models.iter().map(|model| Past {
            name: model.served.name.clone(),
            model: Some(model.clone()),
            before: of(&model.served.name).unwrap_or_default(),
        });
        let away = self.away.lock().unwrap();
        let gone = away.iter().filter_map(|(model, _)| {
            let (name, model) = (model.served.name.clone(), None);
            Some(Past { before: of(&name)?, name, model })
        });
        here.chain(gone).collect()
    }

    fn want(&self, name: &str, _agent: Option<&str>) -> Option<Waiting> {
        let (sender, waiting) = oneshot::channel();
        let is_it = |model: &Arc<Model>| model.names().any(|known| known == name);
        if let Some(model) = self.models.iter().find(|model| is_it(model)) {
            drop(sender.send(Ok(Lease::new(model))));
            return Some(waiting);
        }
        let mut away = self.away.lock().unwrap();
        away.iter_mut().find(|(model, _)| is_it(model))?.1.push(sender);
        Some(waiting)
    }

    fn unload(&self, name: &str) -> bool {
        self.orders.lock().unwrap().push(format!("unload {name}"));
        self.models.iter().any(|model| model.served.name == name)
    }

    fn keep(&self, name: &str, keep_alive: KeepAlive) {
        self.orders.lock().unwrap().push(format!("keep {name} {keep_alive:?}"));
    }

    fn pin(&self, name: &str, is_pinned: bool) {
        self.orders.lock().unwrap().push(format!("pin {name} {is_pinned}"));
    }

    fn set_limit(&self, bytes: u64) {
        self.orders.lock().unwrap().push(format!("limit {bytes}"));
    }

    fn stats(&self) -> CacheStats {
        CacheStats {
            limit_bytes: None,
            used_bytes: 1_000,
            peak_bytes: 2_000,
            hits: 3,
            misses: 1,
            evictions: vec![("room", 5)],
            load_seconds: Histogram::new(LOAD_BOUNDS),
            preload_useful_bytes: 0,
            preload_wasted_bytes: 0,
            preload: (false, None),
            models: Vec::new(),
            agent_models: Default::default(),
        }
    }

    fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }
}
