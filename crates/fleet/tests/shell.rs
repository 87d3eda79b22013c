//! The fleet over a loader that loads nothing: who waits for what, and what ends when.

#[path = "../../server/tests/common/vocabulary.rs"]
mod vocabulary;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use sterna_engine::{EngineError, Flushed, Reply, Request, RequestId, SessionError, Sink, Stats};
use sterna_fleet::{
    Eviction, Facts, Fleet, Item, KeepAlive, Known, Limits, Load, LoadError, Loaded, Running,
    SetupError, Watch,
};
use sterna_server::{
    Agent, Agents, Backend, Evidence, Models, Served, Status, Unavailable, Waiting,
};

fn noon() -> SystemTime {
    UNIX_EPOCH + std::time::Duration::from_secs(1_795_262_400)
}

/// An engine that nobody asks.
struct Mute;

impl Backend for Mute {
    fn submit(&self, _: Vec<(Request, Sink)>) -> Result<Vec<RequestId>, EngineError> {
        Err(EngineError::Draining)
    }

    fn cancel(&self, _: RequestId) {}

    fn stats(&self) -> Stats {
        Stats { batches: 3, running: 1, ..Stats::default() }
    }

    fn fork(&self, _: &str, _: &str, reply: Reply<Result<usize, SessionError>>) {
        reply(Ok(0));
    }

    fn end_session(&self, _: &str, reply: Reply<bool>) {
        reply(false);
    }

    fn flush(&self, reply: Reply<Flushed>) {
        reply(Flushed::default());
    }
}

/// What the engines of a fleet do, and did.
#[derive(Default)]
struct Stage {
    /// What was loaded and what ended, in order.
    log: Mutex<Vec<String>>,
    /// Requests that each engine has.
    n_open: AtomicUsize,
    /// The engine that failed.
    dead: Mutex<Option<String>>,
}

impl Stage {
    fn note(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }

    fn has(&self, line: &str) -> bool {
        self.log.lock().unwrap().iter().any(|there| there == line)
    }
}

struct Engine(String, Arc<Stage>);

impl Running for Engine {
    fn n_open(&self) -> usize {
        self.1.n_open.load(Ordering::Relaxed)
    }

    fn is_alive(&self) -> bool {
        self.1.dead.lock().unwrap().as_ref() != Some(&self.0)
    }

    fn drain(&self) {
        self.1.note(format!("drain {}", self.0));
    }

    fn stop(self: Box<Self>) {
        self.1.note(format!("stop {}", self.0));
    }
}

/// Loads by name: `torn` fails, `odd` has a template that is none, `grown` takes 70.
struct Loader(Arc<Stage>);

impl Load for Loader {
    fn load(&self, item: &Item, within: u64) -> Result<Loaded, LoadError> {
        let name = item.name.clone();
        self.0.note(format!("load {name} in {within}"));
        // A new engine lives.
        self.0.dead.lock().unwrap().take_if(|dead| *dead == name);
        match name.as_str() {
            "torn" => return Err(LoadError::Failed("it is torn".into())),
            "grown" if within < 70 => return Err(LoadError::Larger(70)),
            "buggy" => panic!("as the script says"),
            _ => {}
        }
        let served = Served {
            name: "replaced".into(),
            aliases: Vec::new(),
            tokenizer: Arc::new(vocabulary::tokenizer()),
            context_len: 100,
            chat_template: (name == "odd").then(|| "{% if %}".to_owned()),
            bos: None,
            eos: None,
            fingerprint: "f".into(),
            created: 7,
            engine: Arc::new(Mute),
            describe: "a fake".into(),
            memory: vec![("weights", 60)],
            pooling: None,
            is_encoder: false,
        };
        Ok(Loaded { served, engine: Box::new(Engine(name, self.0.clone())) })
    }
}

fn known(name: &str) -> Known {
    let facts = Facts {
        memory: vec![("weights", 60)],
        created: 7,
        context_len: 100,
        describe: "a fake".into(),
        fingerprint: "f".into(),
    };
    let (item, aliases) = (Item { name: name.into(), path: PathBuf::from(name) }, Vec::new());
    let keep_alive = KeepAlive::Forever;
    Known {
        item,
        aliases,
        facts: Ok(facts),
        evidence: Evidence::NONE,
        is_pinned: false,
        keep_alive,
    }
}

/// A fleet of models of 60 bytes each, with room for 100.
fn fleet(names: &[&str]) -> (Fleet, Arc<Stage>) {
    let stage = Arc::<Stage>::default();
    let known = names.iter().map(|name| known(name)).collect();
    let limits =
        Limits { bytes: 100, models: usize::MAX, waiting: 1000, eviction: Eviction::Score };
    let loader = Box::new(Loader(stage.clone()));
    (Fleet::new(known, loader, limits, Arc::default(), noon, Watch::default()).unwrap(), stage)
}

/// A fleet of models of 60 bytes each, with room for ten, that looks every 2 ms at the time and at
/// the memory of a machine under `root`.
fn watchful(n_models: usize, keep_alive: KeepAlive, root: &Path) -> Fleet {
    let models = (0..n_models).map(|i| Known { keep_alive, ..known(&format!("m{i}")) });
    let limits =
        Limits { bytes: 600, models: usize::MAX, waiting: 1000, eviction: Eviction::Score };
    let loader = Box::new(Loader(Arc::default()));
    let beat = Duration::from_millis(2);
    let watch = Watch { root: root.to_owned(), beat, beats_per_reading: 1 };
    Fleet::new(models.collect(), loader, limits, Arc::default(), noon, watch).unwrap()
}

fn evicted(fleet: &Fleet, reason: &str) -> u64 {
    let stats = fleet.stats();
    stats.evictions.iter().find(|(name, _)| *name == reason).unwrap().1
}

#[test]
fn a_machine_short_of_memory_lets_a_model_go() {
    let files = |path: &'static str, fine: &'static str, short: &'static str| (path, fine, short);
    let meminfo = files(
        "proc/meminfo",
        "MemTotal: 1000 kB\nMemAvailable: 500 kB\n",
        "MemTotal: 1000 kB\nMemAvailable: 50 kB\n",
    );
    let stalls = files(
        "proc/pressure/memory",
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
        "full avg10=25.00 avg60=0.00 avg300=0.00 total=0\n",
    );
    let group = files("sys/fs/cgroup/box/memory.current", "500\n", "950\n");
    for (path, fine, short) in [meminfo, stalls, group] {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            // Whole at once: somebody reads it all the time.
            let new = path.with_extension("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, path).unwrap();
        };
        write("proc/self/cgroup", "0::/box\n");
        write("sys/fs/cgroup/box/memory.max", "1000\n");
        write("sys/fs/cgroup/box/memory.stat", "inactive_file 0\n");
        write(path, fine);
        let fleet = watchful(4, KeepAlive::Forever, root.path());
        (0..4).for_each(|i| fleet.load_now(&format!("m{i}")).unwrap());
        fleet.pin("m0", true);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(evicted(&fleet, "pressure"), 0, "{path}");
        write(path, short);
        // A fifth of what is held at a time, until only what is pinned is there.
        while evicted(&fleet, "pressure") < 3 {
            std::thread::yield_now();
        }
        write(path, fine);
        assert_eq!(status(&fleet, "m0"), Status::Loaded, "{path}");
        assert!(want(&fleet, "m2").blocking_recv().unwrap().is_ok());
    }
}

// proves B28: on threads and a clock, too, what comes next is there before it is asked for
#[test]
fn what_an_agent_asks_for_next_is_there_already() {
    let root = tempfile::tempdir().unwrap();
    let fleet = watchful(8, KeepAlive::For(Duration::from_millis(150)), root.path());
    // Round and round; each is gone again when its turn comes.
    for i in 0..200 {
        let model = want(&fleet, &format!("m{}", i % 8)).blocking_recv().unwrap().ok().unwrap();
        drop(model);
        std::thread::sleep(Duration::from_millis(30));
    }
    let stats = fleet.stats();
    let (is_on, gain) = stats.preload;
    assert!(is_on && gain.unwrap()[0] > 0.0, "{gain:?}");
    assert!(stats.hits > 60, "{} hits, {} misses", stats.hits, stats.misses);
    assert!(stats.preload_useful_bytes >= 60 * 60, "{}", stats.preload_useful_bytes);
    assert!(stats.preload_wasted_bytes <= stats.preload_useful_bytes / 2);
}

#[test]
fn how_long_a_model_stays_may_change() {
    let root = tempfile::tempdir().unwrap();
    let fleet = watchful(2, KeepAlive::Forever, root.path());
    fleet.load_now("m0").unwrap();
    let expires = |fleet: &Fleet| fleet.list()[0].expires;
    assert_eq!(expires(&fleet), None);
    fleet.keep("m0", KeepAlive::For(Duration::from_secs(3600)));
    let noon = noon().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!((noon + 3600..noon + 4000).contains(&expires(&fleet).unwrap()));
    fleet.keep("m0", KeepAlive::For(Duration::ZERO));
    while status(&fleet, "m0") != Status::Unloaded {
        std::thread::yield_now();
    }
    assert_eq!(evicted(&fleet, "idle"), 1);
}

fn want(fleet: &Fleet, name: &str) -> Waiting {
    fleet.want(name, Some("somebody")).unwrap()
}

fn status(fleet: &Fleet, name: &str) -> Status {
    fleet.list().iter().find(|model| model.name == name).unwrap().status
}

fn failure(waiting: Waiting) -> String {
    match waiting.blocking_recv().unwrap() {
        Err(Unavailable::Failed(why) | Unavailable::TooLarge(why)) => why,
        Err(full) => panic!("{full:?}"),
        Ok(lease) => panic!("{} was loaded", lease.model().served.name),
    }
}

#[test]
fn a_model_that_answers_somebody_leaves_when_it_has() {
    let (fleet, stage) = fleet(&["a", "b"]);
    let [first, second] = [want(&fleet, "a"), want(&fleet, "a")];
    let held = first.blocking_recv().unwrap().ok().unwrap();
    assert_eq!(held.model().served.name, "a");
    assert!(Arc::ptr_eq(held.model(), second.blocking_recv().unwrap().ok().unwrap().model()));
    let mut other = want(&fleet, "b");
    assert_eq!(status(&fleet, "a"), Status::Unloading);
    // It is still there for who has it, and not for who comes.
    let mut late = want(&fleet, "a");
    assert!(fleet.ready().iter().any(|model| model.served.name == "a"));
    assert!(other.try_recv().is_err() && late.try_recv().is_err());
    drop(late);
    // It was asked while it was held.
    stage.n_open.store(1, Ordering::Relaxed);
    drop(held);
    std::thread::sleep(Duration::from_millis(20));
    assert!(other.try_recv().is_err());
    stage.n_open.store(0, Ordering::Relaxed);
    let other = other.blocking_recv().unwrap().ok().unwrap();
    assert_eq!(other.model().served.name, "b");
    let log = ["load a in 60", "stop a", "load b in 60"];
    assert_eq!(*stage.log.lock().unwrap(), log);
    let stats = fleet.stats();
    assert_eq!((stats.used_bytes, stats.limit_bytes), (60, Some(100)));
    // Whether the second found it there already is up to the thread that loads.
    assert_eq!((stats.hits + stats.misses, stats.evictions[0]), (4, ("room", 1)));
    assert_eq!(stats.agent_models["somebody"], 2);
}

#[test]
fn to_look_at_a_model_or_to_read_what_it_said_does_not_keep_it() {
    let (fleet, _) = fleet(&["a", "b"]);
    fleet.load_now("a").unwrap();
    let read = fleet.ready();
    let lease = want(&fleet, "b").blocking_recv().unwrap().ok().unwrap();
    assert_eq!((read[0].served.name.as_str(), status(&fleet, "a")), ("a", Status::Unloaded));
    drop(lease);
    // Nor is it a use.
    let root = tempfile::tempdir().unwrap();
    let watched = watchful(1, KeepAlive::For(Duration::from_millis(10)), root.path());
    watched.load_now("m0").unwrap();
    let looked = watched.ready();
    while status(&watched, "m0") != Status::Unloaded {
        std::thread::yield_now();
    }
    assert_eq!((looked.len(), evicted(&watched, "idle")), (1, 1));
}

#[test]
fn what_a_model_counted_is_kept_when_it_leaves() {
    let (fleet, stage) = fleet(&["a", "b"]);
    let check = |expected: &[&str]| {
        let all = fleet.past().into_iter().map(|past| (past.counted().stats, past.name));
        let all = all.map(|(stats, name)| format!("{name} {} {}", stats.batches, stats.running));
        assert_eq!(all.collect::<Vec<_>>(), expected);
    };
    fleet.load_now("a").unwrap();
    check(&["a 3 1"]);
    fleet.load_now("b").unwrap();
    check(&["a 3 0", "b 3 1"]);
    fleet.load_now("a").unwrap();
    check(&["a 6 1", "b 3 0"]);
    *stage.dead.lock().unwrap() = Some("a".into());
    fleet.load_now("a").unwrap();
    check(&["a 9 1", "b 3 0"]);
}

#[test]
fn an_engine_that_failed_is_noticed_and_there_again_for_who_asks() {
    let (fleet, stage) = fleet(&["a", "b"]);
    fleet.load_now("a").unwrap();
    let held = want(&fleet, "a").blocking_recv().unwrap();
    // What it had is open for ever, and somebody is about to ask it.
    stage.n_open.store(1, Ordering::Relaxed);
    *stage.dead.lock().unwrap() = Some("a".into());
    assert!(want(&fleet, "a").blocking_recv().unwrap().is_ok());
    assert_eq!(*stage.log.lock().unwrap(), ["load a in 60", "stop a", "load a in 60"]);
    assert_eq!(evicted(&fleet, "died"), 1);
    drop(held);
    // One that is pinned does not wait to be asked for.
    fleet.pin("a", true);
    *stage.dead.lock().unwrap() = Some("a".into());
    while evicted(&fleet, "died") < 2 || status(&fleet, "a") != Status::Loaded {
        std::thread::sleep(Duration::from_millis(1));
    }
    // It does not keep others waiting that need its room.
    fleet.pin("a", false);
    let leaving = want(&fleet, "b");
    *stage.dead.lock().unwrap() = Some("a".into());
    assert!(leaving.blocking_recv().unwrap().is_ok());
}

#[test]
fn a_load_that_fails_answers_all_who_wait_with_the_reason() {
    let (fleet, stage) = fleet(&["torn", "odd", "buggy", "grown"]);
    assert_eq!(failure(want(&fleet, "torn")), "it is torn");
    let why = failure(want(&fleet, "odd"));
    assert!(why.starts_with("model `odd`: its chat template is not valid: "), "{why}");
    assert!(failure(want(&fleet, "buggy")).contains("mistake of ours"));
    let failures: Vec<bool> = fleet.list().iter().map(|model| model.failure.is_some()).collect();
    assert_eq!(failures, [true, true, true, false]);
    assert_eq!(fleet.stats().used_bytes, 0);
    // What takes more than its header said is admitted anew with what it takes.
    assert!(want(&fleet, "grown").blocking_recv().unwrap().is_ok());
    assert_eq!(fleet.stats().used_bytes, 70);
    let log = stage.log.lock().unwrap();
    assert_eq!(log[log.len() - 2..], ["load grown in 60", "load grown in 70"]);
}

#[test]
fn what_is_pinned_stays() {
    let (fleet, _) = fleet(&["a", "b"]);
    fleet.load_now("a").unwrap();
    fleet.pin("a", true);
    let why = failure(want(&fleet, "b"));
    assert!(why.contains("`b` takes 60 bytes") && why.contains("unpin"), "{why}");
    fleet.pin("a", false);
    assert!(want(&fleet, "b").blocking_recv().unwrap().is_ok());
    assert!(fleet.unload("b"));
    assert!(!fleet.unload("b") && !fleet.unload("none"));
    assert!(fleet.want("../a", None).is_none());
}

#[test]
fn the_end_is_told_to_who_waits_and_to_the_engines() {
    let (fleet, stage) = fleet(&["a", "b"]);
    fleet.load_now("a").unwrap();
    let held = want(&fleet, "a").blocking_recv().unwrap();
    let waiting = want(&fleet, "b");
    stage.n_open.store(2, Ordering::Relaxed);
    assert_eq!(fleet.drain(), 2);
    assert!(waiting.blocking_recv().is_err());
    assert!(want(&fleet, "a").blocking_recv().is_err());
    drop(held);
    fleet.end();
    assert!(stage.has("drain a"));
    // Either by the end or by the thread that waited until it had answered.
    while !stage.has("stop a") {
        std::thread::yield_now();
    }
}

#[test]
fn models_and_agents_that_do_not_go_together_are_refused() {
    let anybody = |model: Option<&str>| Agent { model: model.map(Into::into), ..Agent::default() };
    let with = |models: Vec<Known>, agents: Vec<Agent>, anybody: Agent| {
        let limits =
            Limits { bytes: 100, models: usize::MAX, waiting: 1000, eviction: Eviction::Score };
        let loader = Box::new(Loader(Arc::default()));
        let agents = Arc::new(Agents::new(agents, anybody));
        Fleet::new(models, loader, limits, agents, noon, Watch::default()).err()
    };
    let new = |models, agents| with(models, agents, anybody(None));
    assert_eq!(new(Vec::new(), Vec::new()), Some(SetupError::NoModel));
    let twice = Known { aliases: vec!["a".into()], ..known("b") };
    assert_eq!(new(vec![known("a"), twice], Vec::new()), Some(SetupError::SameName("a".into())));
    let agent = Agent { name: "x".into(), model: Some("llana".into()), ..Agent::default() };
    let wrong = new(vec![known("llama")], vec![agent.clone()]).unwrap().to_string();
    let expected = "agent `x` is given model `llana`, which is not here; did you mean `llama`?";
    assert_eq!(wrong, expected);
    assert_eq!(new(vec![known("llana")], vec![agent]), None);
    let wrong = with(vec![known("llama")], Vec::new(), anybody(Some("llana"))).unwrap();
    let expected = "[anonymous] is given model `llana`, which is not here; did you mean `llama`?";
    assert_eq!(wrong.to_string(), expected);
}
