//! The core with sessions: who keeps which pages, and who makes room.

use super::time::replay;
use super::*;

/// Pages of a small machine.
const N_PAGES: usize = 64;

fn small(answers: AnswerLimits) -> (Core, Device) {
    let limits = Limits { n_pages: N_PAGES, answers, ..roomy() };
    (Core::new(limits, tokenizer()), Device::new(N_PAGES))
}

fn of_session(session: &str, prompt: &[u32]) -> Request {
    let session = Some(session.to_owned());
    Request { session, ..plain(prompt.to_vec(), 4, "a", Class::Default) }
}

// proves B32
#[test]
fn forks_of_a_session_take_no_pages_until_they_part() {
    let mut rng = StdRng::seed_from_u64(14);
    let (mut core, mut device) = (Core::new(roomy(), tokenizer()), Device::new(4096));
    let prompt = tokens(&mut rng, 1_000);
    let session = Some("a".to_owned());
    let first = Request { session, ..plain(prompt.clone(), 1, "a", Class::Default) };
    replay(&mut core, &mut device, vec![(Duration::ZERO, first)]);
    let used = core.stats().pages_used;
    for child in 0..8 {
        assert_eq!(core.fork("a", &format!("child-{child}")), Ok(1_000));
    }
    assert_eq!(core.stats().pages_used, used);
    assert!(core.fork("b", "c").is_err());
    // Others fill the cache; what the session holds stays.
    for i in 0..80 {
        let other = plain(tokens(&mut rng, 900), 1, "b", Class::Default);
        replay(&mut core, &mut device, vec![(Duration::from_secs(i), other)]);
    }
    let before = core.stats().prefilled_tokens;
    let children = (0..8).map(|i| {
        let prompt = [&prompt[..], &tokens(&mut rng, 5)].concat();
        let session = Some(format!("child-{i}"));
        (Duration::from_secs(99), Request { session, ..plain(prompt, 1, "a", Class::Default) })
    });
    replay(&mut core, &mut device, children.collect());
    assert_eq!(core.stats().prefilled_tokens - before, 8 * 5);
    assert!(core.end_session("a") && !core.end_session("a"));
}

#[test]
fn as_many_forks_as_may_be_make_room_on_a_small_stack() {
    let forks = || {
        let mut rng = StdRng::seed_from_u64(18);
        let (mut core, mut device) = small(AnswerLimits::default());
        let first = of_session("a", &tokens(&mut rng, 30 * PAGE_LEN));
        replay(&mut core, &mut device, vec![(Duration::ZERO, first)]);
        let made = (0..20_000).filter(|child| core.fork("a", &format!("a-{child}")).is_ok());
        assert_eq!(made.count() + 1, crate::sessions::MOST);
        let large = plain(tokens(&mut rng, (N_PAGES - 2) * PAGE_LEN), 4, "b", Class::Default);
        replay(&mut core, &mut device, vec![(Duration::from_secs(9), large)]);
        assert_eq!((core.stats().finished[1], core.stats().sessions), (2, 0));
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(forks).unwrap().join().unwrap();
}

#[test]
fn a_request_for_which_there_is_no_room_yet_ends_no_session() {
    let mut rng = StdRng::seed_from_u64(19);
    let (mut core, mut device) = small(AnswerLimits::default());
    let kept = of_session("a", &tokens(&mut rng, 10 * PAGE_LEN));
    replay(&mut core, &mut device, vec![(Duration::ZERO, kept)]);
    let running = plain(tokens(&mut rng, 20 * PAGE_LEN), 64, "b", Class::Default);
    let large = plain(tokens(&mut rng, 56 * PAGE_LEN), 4, "b", Class::Default);
    for (id, request) in [running, large].into_iter().enumerate() {
        core.submit(Duration::ZERO, RequestId(id as u64), request);
    }
    for _ in 0..30 {
        let batch = core.plan(Duration::ZERO);
        assert_eq!(batch.parts.len(), 1, "the large one waits");
        let logits = device.run(&core, &batch);
        core.complete(Duration::ZERO, Duration::ZERO, &batch, &logits);
        assert_eq!(core.stats().sessions, 1);
    }
    first_tokens(&mut core, &mut device);
    assert_eq!((core.stats().finished[1], core.stats().sessions), (3, 0));
}

// A session is its requests', whoever computed their answers.
#[test]
fn requests_that_are_answered_by_another_make_their_sessions_too() {
    let mut rng = StdRng::seed_from_u64(20);
    let answers = AnswerLimits { bytes: 1 << 20, ttl: Duration::from_secs(100) };
    let (mut core, mut device) = small(answers);
    let prompt = tokens(&mut rng, 100);
    let at = |second| Duration::from_secs(second);
    let together = ["a", "b"].map(|session| (at(0), of_session(session, &prompt)));
    replay(&mut core, &mut device, together.into());
    assert_eq!((core.stats().coalesced, core.stats().sessions), (1, 2));
    replay(&mut core, &mut device, vec![(at(1), of_session("c", &prompt))]);
    assert_eq!((core.stats().answers.hits, core.stats().sessions), (1, 3));
    // All but the last token of the answer, whose keys and values nobody needed.
    for session in ["a", "b", "c"] {
        assert_eq!(core.fork(session, &format!("{session}-fork")), Ok(103));
    }
    // What a session alone holds outlives a flush; what nobody holds is computed again.
    for session in ["a", "b", "c", "a-fork", "b-fork"] {
        assert!(core.end_session(session));
    }
    core.flush();
    let asked = core.stats().prefilled_tokens;
    replay(&mut core, &mut device, vec![(at(2), of_session("d", &prompt))]);
    assert_eq!(core.stats().prefilled_tokens - asked, 1);
    assert!(core.end_session("c-fork") && core.end_session("d"));
    let Schedule { tree, pool, .. } = core.schedule_mut();
    tree.clear(pool);
    let hits = core.stats().answers.hits;
    replay(&mut core, &mut device, vec![(at(3), of_session("e", &prompt))]);
    assert_eq!((core.stats().answers.hits, core.stats().prefilled_tokens - asked), (hits, 101));
    assert_eq!(core.fork("e", "e-fork"), Ok(103));
}
