//! Who makes room, against caches written down here as their textbooks have them, and against the
//! best that there can be.

use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const N_MODELS: usize = 60;
const N_PLACES: usize = 12;
const N_REQUESTS: usize = 20_000;

/// Models that are asked for, the `n`-th of them with a probability of `1/n`: Zipf(1.0).
fn zipf(seed: u64) -> Vec<usize> {
    let mut rng = StdRng::seed_from_u64(seed);
    let all: f64 = (1..=N_MODELS).map(|n| 1.0 / n as f64).sum();
    let mut draw = || {
        let mut left = rng.random_range(0.0..all);
        let found = (1..=N_MODELS).position(|n| {
            left -= 1.0 / n as f64;
            left < 0.0
        });
        found.unwrap_or(N_MODELS - 1)
    };
    (0..N_REQUESTS).map(|_| draw()).collect()
}

/// Hits of the manager, of a request a second by two agents in turn.
fn hits(eviction: Eviction, trace: &[usize]) -> u64 {
    let keep_alive = KeepAlive::Forever;
    let spec = |i| Spec { name: format!("m{i}"), bytes: 10, is_pinned: false, keep_alive };
    let bytes = 10 * N_PLACES as u64;
    let limits = Limits { bytes, models: usize::MAX, waiting: 9, eviction };
    let mut manager = Manager::new((0..N_MODELS).map(spec).collect(), limits);
    for (i, &model) in trace.iter().enumerate() {
        let now = Duration::from_secs(i as u64);
        let agent = Some(["a", "b"][i % 2].to_owned());
        let asked = Event::Request { ticket: i as u64, model: ModelId(model), agent };
        let mut actions = VecDeque::from(manager.handle(now, asked));
        while let Some(action) = actions.pop_front() {
            actions.extend(match action {
                Action::Load(model, _) => manager.handle(now, Event::Loaded(model, 0.1)),
                Action::Unload(model, _) => manager.handle(now, Event::Unloaded(model)),
                Action::Serve(_) => Vec::new(),
                Action::Refuse(_, why) => panic!("{why:?}"),
            });
        }
    }
    let counters = manager.counters();
    assert_eq!(counters.hits + counters.misses, trace.len() as u64);
    assert_eq!(counters.useful_bytes + counters.wasted_bytes, 0, "nothing is loaded ahead");
    counters.hits
}

/// Hits of a cache from which the model goes that `victim` finds in the list of those held, the
/// first that came first, at a request.
fn reference(trace: &[usize], mut victim: impl FnMut(&[usize], usize) -> usize) -> u64 {
    let mut held: Vec<usize> = Vec::new();
    let mut n_hits = 0;
    for (i, &model) in trace.iter().enumerate() {
        if held.contains(&model) {
            n_hits += 1;
        } else {
            if held.len() == N_PLACES {
                held.remove(victim(&held, i));
            }
            held.push(model);
        }
    }
    n_hits
}

/// The place of the least by a number.
fn least(held: &[usize], number: impl Fn(usize) -> i64) -> usize {
    (0..held.len()).min_by_key(|&at| number(held[at])).expect("it is full")
}

/// The last request for a model before one.
fn last_use(trace: &[usize], i: usize, model: usize) -> i64 {
    trace[..i].iter().rposition(|&m| m == model).map_or(-1, |at| at as i64)
}

// proves B-8 (of caches: each policy does what its textbook says)
#[test]
fn each_policy_hits_as_often_as_its_textbook() {
    let trace = &zipf(1)[..4_000];
    assert_eq!(hits(Eviction::Fifo, trace), reference(trace, |_, _| 0));
    let lru = reference(trace, |held, i| least(held, |model| last_use(trace, i, model)));
    assert_eq!(hits(Eviction::Lru, trace), lru);
    let mut came = [0; N_MODELS];
    let lfu = reference(trace, |held, i| {
        // Uses since it came: since the request after which it was held without a break.
        let uses = |model: usize| trace[came[model]..i].iter().filter(|&&m| m == model).count();
        let key = |model| (uses(model) * N_REQUESTS) as i64 + last_use(trace, i, model);
        let at = least(held, key);
        came[held[at]] = i;
        at
    });
    assert_eq!(hits(Eviction::Lfu, trace), lfu);
}

// proves P-14 (of models in memory: the trace, the distance to the best)
#[test]
fn the_score_beats_a_plain_lru_where_some_models_are_asked_for_more() {
    let mut totals = [0; Eviction::ALL.len()];
    let mut best = 0;
    for seed in 1..=5 {
        let trace = zipf(seed);
        for (total, eviction) in totals.iter_mut().zip(Eviction::ALL) {
            *total += hits(eviction, &trace);
        }
        best += reference(&trace, |held, i| {
            // Belady 1966: the one that is not asked for longest.
            let next = |model| trace[i..].iter().position(|&m| m == model).unwrap_or(usize::MAX);
            (0..held.len()).max_by_key(|&at| next(held[at])).expect("it is full")
        });
    }
    let rate = |n: u64| n as f64 / (5 * N_REQUESTS) as f64;
    for (total, eviction) in totals.into_iter().zip(Eviction::ALL) {
        let (name, distance) = (eviction.name(), rate(best) - rate(total));
        println!("{name:>5}: {:.3} of requests hit, {distance:.3} below Belady's", rate(total));
    }
    let [score, lru, ..] = totals;
    assert!(rate(score) > rate(lru) + 0.02, "{score} and {lru}");
    assert!(score < best && rate(best) < 1.0, "nothing beats Belady's");
}
