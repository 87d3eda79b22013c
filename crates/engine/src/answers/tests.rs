//! What the response cache keeps, for how long, and for whom.

use super::*;
use crate::request::{FinishReason, Request};
use std::hash::{BuildHasherDefault, Hasher};
use sterna_runtime::SamplerSettings;

/// All keys have the same hash.
#[derive(Default)]
struct Collides;

impl Hasher for Collides {
    fn finish(&self) -> u64 {
        7
    }

    fn write(&mut self, _bytes: &[u8]) {}
}

type Colliding = Answers<BuildHasherDefault<Collides>>;

const SECOND: Duration = Duration::from_secs(1);

fn key(token: u32) -> AnswerKey {
    let sampling = SamplerSettings::greedy();
    AnswerKey::of(&Request { prompt: vec![token], sampling, ..Request::default() }).unwrap()
}

fn end(text: &str) -> Finished {
    Finished {
        reason: FinishReason::Stop,
        text: text.into(),
        prompt_tokens: 1,
        cached_tokens: 0,
        new_tokens: 1,
        queue_seconds: 0.0,
        prefill_seconds: 0.0,
        decode_seconds: 0.0,
        embedding: None,
        guessed: Default::default(),
        predicted: Default::default(),
        is_coalesced: false,
        age: None,
        stop_text: None,
    }
}

fn cache(bytes: usize) -> Colliding {
    Answers::new(AnswerLimits { bytes, ttl: 300 * SECOND })
}

fn text(cache: &mut Colliding, now: Duration, token: u32) -> Option<String> {
    let found = cache.find(now, &key(token), &CacheControl::default());
    found.map(|(kept, _)| kept.finished.text)
}

// proves A19
#[test]
fn requests_with_the_same_hash_get_their_own_answers() {
    let mut cache = cache(1 << 20);
    let control = CacheControl::default();
    for token in 0..50 {
        cache.insert(Duration::ZERO, &key(token), &control, vec![], end(&token.to_string()));
    }
    for token in 0..50 {
        assert_eq!(text(&mut cache, SECOND, token), Some(token.to_string()));
    }
    assert_eq!(text(&mut cache, SECOND, 50), None);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.entries), (50, 1, 50));
}

// proves A19, S-11
#[test]
fn answers_end_with_their_time_and_clients_decide_for_themselves() {
    let mut cache = cache(1 << 20);
    let control = CacheControl::default();
    cache.insert(Duration::ZERO, &key(1), &control, vec![], end("one"));
    assert_eq!(text(&mut cache, 299 * SECOND, 1).as_deref(), Some("one"));
    assert_eq!(text(&mut cache, 300 * SECOND, 1), None);
    let short = CacheControl { ttl: Some(2 * SECOND), ..CacheControl::default() };
    cache.insert(Duration::ZERO, &key(2), &short, vec![], end("two"));
    let (_, age) = cache.find(SECOND, &key(2), &control).unwrap();
    assert_eq!(age, SECOND);
    let fresh = CacheControl { max_age: Some(SECOND / 2), ..CacheControl::default() };
    assert!(cache.find(SECOND, &key(2), &fresh).is_none());
    let none = CacheControl { no_cache: true, ..CacheControl::default() };
    assert!(cache.find(SECOND, &key(2), &none).is_none());
    assert!(cache.find(2 * SECOND, &key(2), &control).is_none());
    let unstored = CacheControl { no_store: true, ..CacheControl::default() };
    cache.insert(Duration::ZERO, &key(3), &unstored, vec![], end("three"));
    assert_eq!(text(&mut cache, SECOND, 3), None);
}

// proves A19
#[test]
fn the_least_recently_used_make_room() {
    let mut cache = cache(4000);
    let control = CacheControl::default();
    for token in 0..100 {
        cache.insert(Duration::ZERO, &key(token), &control, vec![], end("text"));
        // The first stays, since it is asked for.
        assert!(text(&mut cache, Duration::ZERO, 0).is_some());
        assert!(cache.stats().bytes <= 4000);
    }
    let stats = cache.stats();
    assert!(stats.entries > 1);
    assert_eq!(stats.evictions as usize + stats.entries, 100);
    assert!(text(&mut cache, Duration::ZERO, 1).is_none());
    // What is larger than the whole cache is not kept, and drives nobody out.
    cache.insert(Duration::ZERO, &key(7), &control, vec![], end(&"x".repeat(5000)));
    assert_eq!(cache.stats().entries, stats.entries);
    assert_eq!((cache.clear(), cache.stats().bytes), (stats.entries, 0));
}

#[test]
fn what_is_over_takes_no_memory_until_somebody_asks() {
    let mut cache = cache(1 << 20);
    let control = CacheControl::default();
    let longer = CacheControl { ttl: Some(900 * SECOND), ..control.clone() };
    cache.insert(Duration::ZERO, &key(0), &longer, vec![], end("stays"));
    let one = cache.stats().bytes;
    for token in 1..50 {
        cache.insert(SECOND, &key(token), &control, vec![], end("goes!"));
    }
    assert_eq!(cache.stats().bytes, 50 * one);
    // Used since, which is no reason to stay.
    assert_eq!(text(&mut cache, 300 * SECOND, 7).as_deref(), Some("goes!"));
    cache.insert(301 * SECOND, &key(50), &control, vec![], end("comes"));
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.bytes, stats.evictions), (2, 2 * one, 49));
    assert_eq!(text(&mut cache, 302 * SECOND, 0).as_deref(), Some("stays"));
    assert_eq!((cache.order.len(), cache.ends.len()), (2, 2));
}
