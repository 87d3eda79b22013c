//! The core under a seeded simulator: random requests at random times on a device whose pages keep
//! a hash of all tokens up to each position, as keys and values depend on all of them, so that a
//! page shared wrongly, or read after it was written over, gives wrong answers.

use crate::batch::Batch;
use crate::embedding::Pooling;
use crate::guess::Source;
use crate::request::{Class, Finished, Output, Request, RequestId, Stop};
use crate::schedule::Schedule;
use crate::speculation::Speculate;
use crate::{AnswerLimits, Core, EngineError, Limits, Stats, logits_rows};
use device::{Device, embedded, expected};
use guesses::{draft, how, predicted, sampling};
use plain::{plain, roomy};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use sterna_model::Tokenizer;
use sterna_runtime::SamplerSettings;
use sterna_runtime::settings::PAGE_LEN;

mod constraints;
mod device;
mod disk;
mod encoder;
mod guesses;
mod load_step;
mod packing;
mod plain;
mod sessions;
mod time;

/// Tokens of plain text in the tokenizer of the tests.
const FIRST: u32 = 300;
const VOCABULARY: usize = 340;

fn tokenizer() -> Arc<Tokenizer> {
    static SHARED: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
        let json = include_str!("../../../models/tokenizer.json");
        Arc::new(Tokenizer::from_json_text(json).unwrap())
    });
    SHARED.clone()
}

/// A schedule: what comes when, on which machine.
struct Scenario {
    limits: Limits,
    /// By time in batches.
    requests: Vec<(usize, Request)>,
    /// A request by its place, and the batch after which its client goes away.
    cancels: Vec<(usize, usize)>,
    /// What a batch takes.
    step: Duration,
    /// What a row more adds, in parts of that.
    row: f64,
    speculate: Speculate,
}

impl Scenario {
    fn random(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let n_pages = rng.random_range(8..40);
        let limits = Limits {
            n_pages,
            context_len: 8 * PAGE_LEN,
            max_rows: [16, 64, 256][rng.random_range(0..3)],
            max_running: rng.random_range(1..9),
            max_queue: 1000,
            vocabulary: VOCABULARY,
            reads_whole: false,
            itl_target: [None, Some(10), Some(50), Some(10_000)][rng.random_range(0..4)]
                .map(Duration::from_millis),
            answers: AnswerLimits {
                bytes: rng.random_range(0..2) << 14,
                ttl: Duration::from_secs(rng.random_range(1..60)),
            },
        };
        // Prompts are made of the same few pages in any order, so that equal pages follow different
        // ones.
        let blocks: Vec<Vec<u32>> = (0..3).map(|_| tokens(&mut rng, PAGE_LEN)).collect();
        let prefixes: Vec<Vec<u32>> = (0..3)
            .map(|_| {
                let n_blocks = rng.random_range(0..5);
                let mut prefix: Vec<u32> =
                    (0..n_blocks).flat_map(|_| blocks[rng.random_range(0..3)].clone()).collect();
                let len = rng.random_range(1..PAGE_LEN);
                prefix.extend(tokens(&mut rng, len));
                prefix
            })
            .collect();
        let n_requests = rng.random_range(1..24);
        let mut requests: Vec<(usize, Request)> =
            (0..n_requests).map(|_| request(&mut rng, &prefixes)).collect();
        for at in 1..n_requests {
            if rng.random_bool(0.2) {
                let (same, agent) = (requests[rng.random_range(0..at)].1.clone(), "copy");
                requests[at].1 = Request { agent: agent.into(), ..same };
            }
        }
        requests.sort_by_key(|(at, _)| *at);
        let mut cancels = Vec::new();
        for (which, (at, _)) in requests.iter().enumerate() {
            if rng.random_bool(0.1) {
                cancels.push((which, at + rng.random_range(0..10)));
            }
        }
        let step = [Duration::from_millis(20), Duration::from_secs(2)][rng.random_range(0..2)];
        let row = [0.0, 0.1, 1.0][rng.random_range(0..3)];
        let speculate = how(&mut rng);
        Self { limits, requests, cancels, step, row, speculate }
    }
}

fn tokens(rng: &mut impl Rng, len: usize) -> Vec<u32> {
    (0..len).map(|_| rng.random_range(FIRST..VOCABULARY as u32)).collect()
}

fn request(rng: &mut StdRng, prefixes: &[Vec<u32>]) -> (usize, Request) {
    let mut prompt = prefixes[rng.random_range(0..prefixes.len())].clone();
    let len = rng.random_range(0..PAGE_LEN);
    prompt.extend(tokens(rng, len));
    let class = Class::ALL[rng.random_range(0..3)];
    let embed = [Pooling::Last, Pooling::Mean][rng.random_range(0..2)];
    let embed = rng.random_bool(0.1).then_some(embed);
    let max_tokens = rng.random_range(0..2 * PAGE_LEN);
    let request = Request {
        prediction: predicted(rng, &prompt, max_tokens),
        prompt,
        max_tokens: if embed.is_some() { 0 } else { max_tokens },
        embed,
        sampling: sampling(rng),
        is_seeded: rng.random_bool(0.5),
        stop: Stop { ignore_eos: true, ..Stop::default() },
        prompt_logprobs: (embed.is_none() && rng.random_bool(0.1)).then_some(1),
        agent: format!("agent-{}", rng.random_range(0..4)),
        class,
        cache_salt: rng.random_bool(0.3).then(|| format!("salt-{}", rng.random_range(0..2))),
        public_tokens: rng.random_range(0..4) * PAGE_LEN,
        session: rng.random_bool(0.2).then(|| format!("session-{}", rng.random_range(0..3))),
        ..Request::default()
    };
    (rng.random_range(0..30), request)
}

/// What a request got.
#[derive(Default)]
struct Answer {
    tokens: Vec<u32>,
    n_logprobs: usize,
    embedding: Option<Vec<f32>>,
    n_ends: usize,
}

/// Runs a random scenario to its end; what it came to.
fn run(seed: u64) -> Stats {
    play(seed, &Scenario::random(seed), None)
}

/// Runs a scenario to its end, checking what always holds; what it came to.
fn play(seed: u64, scenario: &Scenario, mut fake: Option<&mut disk::Fake>) -> Stats {
    let limits = scenario.limits;
    let tier = fake.as_mut().map(|fake| fake.tier());
    let core = Core::with_disk(limits, tokenizer(), tier);
    let mut core = core.with_speculation(scenario.speculate);
    let mut device = Device::new(limits.n_pages);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut answers: BTreeMap<RequestId, Answer> = BTreeMap::new();
    let mut gone: Vec<RequestId> = Vec::new();
    let mut arriving = scenario.requests.iter().enumerate().peekable();
    let work: usize = scenario.requests.iter().map(|(_, r)| r.prompt.len() + r.max_tokens).sum();
    let mut step = 0;
    while arriving.peek().is_some() || !core.is_idle() {
        let now = scenario.step * step as u32;
        let mut said = Vec::new();
        while let Some((which, (_, request))) = arriving.next_if(|(_, (at, _))| *at <= step) {
            if limits.check(request).is_ok() {
                said.extend(core.submit(now, RequestId(which as u64), request.clone()));
                answers.entry(RequestId(which as u64)).or_default();
            }
        }
        for &(which, _) in scenario.cancels.iter().filter(|(_, at)| *at == step) {
            let ended = core.cancel(now, RequestId(which as u64));
            if let Some(ended) = ended {
                gone.push(ended.0);
                said.push(ended);
            }
        }
        if let Some(fake) = &mut fake {
            fake.tell(&mut core, &mut device, step);
        }
        draft(&mut core, &mut rng);
        let batch = core.plan(now);
        check_batch(&core, &batch, seed);
        if !batch.parts.is_empty() {
            let logits = device.run(&core, &batch);
            let took = scenario.step.mul_f64(1.0 + scenario.row * batch.n_rows() as f64);
            core.pool(&batch, &device.hidden);
            said.extend(core.complete(now, took, &batch, &logits));
        }
        if let Some(fake) = &mut fake {
            fake.obey(core.orders(), &device, step);
        }
        for (id, output) in said {
            let answer = answers.get_mut(&id).unwrap();
            assert_eq!(answer.n_ends, 0, "seed {seed}: nothing follows the end");
            match output {
                Output::Prompt(logprobs) => answer.n_logprobs += logprobs.len(),
                Output::Token { id, .. } => answer.tokens.push(id),
                Output::Finished(end) => {
                    answer.n_ends += 1;
                    check_guessed(&end, seed);
                    answer.embedding = end.embedding;
                }
                Output::Failed(why) => panic!("seed {seed}: {why}"),
            }
        }
        step += 1;
        assert!(step < 200 + 20 * work, "seed {seed}: somebody starves");
    }
    check_answers(scenario, &answers, &gone, seed);
    let stats = core.stats();
    check_pages(core, seed);
    stats
}

fn check_batch(core: &Core, batch: &Batch, seed: u64) {
    let schedule = core.schedule();
    let limits = schedule.limits;
    assert!(batch.n_rows() <= limits.max_rows, "seed {seed}: too many rows");
    let n_logits: usize = batch.parts.iter().map(|part| part.logits.count(part.n_tokens)).sum();
    assert!(n_logits <= logits_rows(limits.max_running), "seed {seed}: too many logits");
    assert!(schedule.running.len() <= limits.max_running, "seed {seed}: too many in work");
    // Everybody holds what is in its table, and no page that is written to is another's.
    let mut holders: BTreeMap<u32, u32> = BTreeMap::new();
    for page in schedule.running.iter().flat_map(|s| &s.pages).copied().chain(schedule.tree.pages())
    {
        *holders.entry(page).or_default() += 1;
    }
    for (page, n) in schedule.sessions.pages() {
        *holders.entry(page).or_default() += n;
    }
    for (&page, &n) in &holders {
        assert_eq!(schedule.pool.holders(page), n, "seed {seed}: holders of page {page}");
    }
    assert_eq!(schedule.pool.n_free() + holders.len(), limits.n_pages, "seed {seed}: a leak");
    for part in &batch.parts {
        let sequence = &schedule.running[schedule.at(part.key).unwrap()];
        let end = sequence.n_computed + part.n_tokens;
        for at in sequence.n_computed / PAGE_LEN..end.div_ceil(PAGE_LEN) {
            let page = sequence.pages[at];
            let others = schedule.running.iter().filter(|s| s.key != part.key);
            let is_shared = others.flat_map(|s| &s.pages).any(|&other| other == page);
            assert!(!is_shared, "seed {seed}: page {page} is written to and shared");
        }
    }
}

/// What was right of guesses is part of the answer.
fn check_guessed(end: &Finished, seed: u64) {
    let Finished { guessed, predicted, new_tokens, .. } = end;
    let predicted = predicted.unwrap_or_default();
    for one in [*guessed, predicted] {
        assert!(one.accepted <= one.drafted.min(*new_tokens), "seed {seed}: {end:?}");
    }
    assert!(predicted.drafted <= guessed.drafted, "seed {seed}: {end:?}");
}

fn check_answers(
    scenario: &Scenario,
    answers: &BTreeMap<RequestId, Answer>,
    gone: &[RequestId],
    seed: u64,
) {
    for (id, answer) in answers {
        let request = &scenario.requests[id.0 as usize].1;
        let expected = expected(request);
        assert_eq!(answer.n_ends, 1, "seed {seed}: request {id:?} ends once");
        if gone.contains(id) {
            assert!(expected.starts_with(&answer.tokens), "seed {seed}: request {id:?}");
            continue;
        }
        assert_eq!(answer.tokens, expected, "seed {seed}: request {id:?}");
        assert_eq!(answer.embedding, embedded(request), "seed {seed}: request {id:?}");
        let n_logprobs = request.prompt_logprobs.map_or(0, |_| request.prompt.len() - 1);
        assert_eq!(answer.n_logprobs, n_logprobs, "seed {seed}: request {id:?}");
    }
}

fn check_pages(mut core: Core, seed: u64) {
    let schedule = core.schedule_mut();
    while schedule.sessions.drop_oldest(&mut schedule.pool) {}
    let (free, cached) = (schedule.pool.n_free(), schedule.pool.n_cached());
    assert_eq!(free + cached, schedule.pool.len(), "seed {seed}: a page is held by nobody");
    schedule.tree.clear(&mut schedule.pool);
    assert_eq!(schedule.pool.n_free(), schedule.pool.len(), "seed {seed}: the tree keeps a page");
}

// proves S-10, S-11, B-12, A14, A15, A18, P-13: answers do not depend on company, order, sharing,
// preemption, coalescing or guesses; all are answered exactly once; nothing leaks; nobody starves.
#[test]
fn random_schedules_keep_what_always_holds() {
    let all: Vec<Stats> = (0..10_000).map(run).collect();
    let sum = |of: fn(&Stats) -> u64| all.iter().map(of).sum::<u64>();
    // What is rare must have happened too.
    assert!(sum(|s| s.preemptions) > 1_000, "{} preemptions", sum(|s| s.preemptions));
    assert!(sum(|s| s.cached_tokens) > 100_000, "{} cached", sum(|s| s.cached_tokens));
    assert!(sum(|s| s.coalesced) > 1_000, "{} coalesced", sum(|s| s.coalesced));
    assert!(sum(|s| s.answers.hits) > 500, "{} kept answers", sum(|s| s.answers.hits));
    assert!(sum(|s| s.sessions as u64) > 1_000, "{} sessions", sum(|s| s.sessions as u64));
    assert!(sum(|s| s.finished[2]) > 1_000, "{} cancelled", sum(|s| s.finished[2]));
    for source in Source::ALL {
        let (drafted, accepted) = all.iter().fold((0, 0), |(drafted, accepted), stats| {
            let of = |counts: [u64; 3]| counts[source as usize];
            (drafted + of(stats.spec.drafted), accepted + of(stats.spec.accepted))
        });
        let is_mixed = accepted > 20_000 && drafted - accepted > 10_000;
        assert!(is_mixed, "{accepted} of {drafted} were right of {source:?}");
    }
}

#[test]
fn nobody_waits_for_ever_while_others_keep_coming() {
    let limits = Limits { n_pages: 24, max_running: 2, max_rows: 64, ..roomy() };
    let (mut core, mut device) = (Core::new(limits, tokenizer()), Device::new(24));
    let mut rng = StdRng::seed_from_u64(9);
    let patient = plain(tokens(&mut rng, 600), 40, "patient", Class::Batch);
    core.submit(Duration::ZERO, RequestId(0), patient);
    for step in 1.. {
        assert!(step < 2_000, "the batch request starves");
        let now = Duration::from_millis(100 * step);
        let urgent = plain(tokens(&mut rng, 50), 4, "human", Class::Interactive);
        core.submit(now, RequestId(step), urgent);
        let batch = core.plan(now);
        let logits = device.run(&core, &batch);
        let said = core.complete(now, Duration::ZERO, &batch, &logits);
        if said.iter().any(|(id, o)| id.0 == 0 && matches!(o, Output::Finished(_))) {
            break;
        }
    }
}

#[test]
fn a_batch_that_fails_ends_its_requests_and_no_others() {
    let mut rng = StdRng::seed_from_u64(6);
    let limits = Limits { max_running: 2, ..roomy() };
    let (mut core, mut device) = (Core::new(limits, tokenizer()), Device::new(4096));
    for id in 0..3 {
        let request = plain(tokens(&mut rng, 20), 4, "a", Class::Default);
        core.submit(Duration::ZERO, RequestId(id), request);
    }
    let batch = core.plan(Duration::ZERO);
    let said = core.fail(&batch, &EngineError::Internal("planted".into()));
    assert_eq!(said.len(), 2);
    assert_eq!(first_tokens(&mut core, &mut device).len(), 1);
    assert_eq!((core.stats().finished[1], core.stats().finished[3]), (1, 2));
}

/// Computes until all is said; how many batches it took until each request's first token.
fn first_tokens(core: &mut Core, device: &mut Device) -> BTreeMap<RequestId, usize> {
    let mut first = BTreeMap::new();
    let mut step = 0;
    while !core.is_idle() {
        let batch = core.plan(Duration::from_millis(step as u64));
        let logits = device.run(core, &batch);
        for (id, output) in core.complete(Duration::ZERO, Duration::ZERO, &batch, &logits) {
            if matches!(output, Output::Token { .. }) {
                first.entry(id).or_insert(step);
            }
        }
        step += 1;
    }
    first
}

// proves A14
#[test]
fn a_prefix_that_many_share_is_computed_once() {
    let mut rng = StdRng::seed_from_u64(3);
    let prefix = tokens(&mut rng, 2_000);
    let (mut core, mut device) = (Core::new(roomy(), tokenizer()), Device::new(4096));
    for agent in 0..32 {
        let mut prompt = prefix.clone();
        prompt.extend(tokens(&mut rng, 50));
        let request = plain(prompt, 8, &format!("agent-{agent}"), Class::Default);
        assert_eq!(core.submit(Duration::ZERO, RequestId(agent), request), []);
    }
    first_tokens(&mut core, &mut device);
    let stats = core.stats();
    assert_eq!(stats.finished[1], 32);
    assert!(stats.prefilled_tokens <= 2_000 + 32 * 60, "{}", stats.prefilled_tokens);
    assert_eq!(stats.prefilled_tokens + stats.cached_tokens, 32 * 2_050);
    assert_eq!(stats.looked_up_tokens, 32 * 2_050);
}

// proves A17
#[test]
fn a_flood_of_batch_requests_delays_nobody_interactive() {
    let mut rng = StdRng::seed_from_u64(4);
    let (mut core, mut device) = (Core::new(roomy(), tokenizer()), Device::new(4096));
    for id in 0..500 {
        let request = plain(tokens(&mut rng, 100), 32, "flood", Class::Batch);
        core.submit(Duration::ZERO, RequestId(id), request);
    }
    for _ in 0..5 {
        let batch = core.plan(Duration::ZERO);
        let logits = device.run(&core, &batch);
        core.complete(Duration::ZERO, Duration::ZERO, &batch, &logits);
    }
    let urgent = plain(tokens(&mut rng, 100), 4, "human", Class::Interactive);
    core.submit(Duration::ZERO, RequestId(999), urgent);
    let batch = core.plan(Duration::ZERO);
    // Alone it would have taken one batch of 100 rows; it still does.
    assert_eq!((batch.parts.len(), batch.n_rows()), (1, 100));
    let logits = device.run(&core, &batch);
    let said = core.complete(Duration::ZERO, Duration::ZERO, &batch, &logits);
    assert!(said.iter().any(|(id, _)| *id == RequestId(999)));
    first_tokens(&mut core, &mut device);
    assert_eq!(core.stats().finished[1], 501, "the flood ends too");
}

// proves A18, S-11
#[test]
fn equal_requests_are_computed_once_and_all_are_answered() {
    let mut rng = StdRng::seed_from_u64(5);
    let prompt = tokens(&mut rng, 40);
    let (mut core, mut device) = (Core::new(roomy(), tokenizer()), Device::new(4096));
    let request = plain(prompt, 8, "same", Class::Default);
    let mut answers = BTreeMap::<RequestId, Vec<u32>>::new();
    let mut hear = |said: Vec<(RequestId, Output)>| {
        for (id, output) in said {
            if let Output::Token { id: token, .. } = output {
                answers.entry(id).or_default().push(token);
            }
        }
    };
    for id in 0..10 {
        hear(core.submit(Duration::ZERO, RequestId(id), request.clone()));
    }
    let mut step = 0;
    while !core.is_idle() {
        let batch = core.plan(Duration::ZERO);
        assert_eq!(batch.parts.len(), 1, "one execution");
        let logits = device.run(&core, &batch);
        hear(core.complete(Duration::ZERO, Duration::ZERO, &batch, &logits));
        step += 1;
        if step == 3 {
            core.cancel(Duration::ZERO, RequestId(0));
            for id in 10..20 {
                hear(core.submit(Duration::ZERO, RequestId(id), request.clone()));
            }
        }
    }
    let stats = core.stats();
    assert_eq!((stats.coalesced, stats.looked_up_tokens), (19, request.prompt.len() as u64));
    assert_eq!(stats.sequences, stats.batches, "one execution");
    for id in 1..20 {
        assert_eq!(answers[&RequestId(id)], expected(&request), "request {id}");
    }
    let other = Request { sampling: SamplerSettings::default(), ..request };
    core.submit(Duration::ZERO, RequestId(30), other.clone());
    core.submit(Duration::ZERO, RequestId(31), other);
    assert_eq!(core.stats().coalesced, 19, "sampled answers are each their own");
}

// proves A16
#[test]
fn what_cannot_be_served_is_said_at_once() {
    let limits = roomy();
    let check = |request: Request| limits.check(&request).unwrap_err().to_string();
    let good = plain(vec![FIRST], 4, "a", Class::Default);
    assert!(limits.check(&good).is_ok());
    assert!(check(Request { prompt: vec![], ..good.clone() }).contains("empty"));
    assert!(check(Request { max_tokens: usize::MAX, ..good.clone() }).contains("do not fit"));
    assert!(check(Request { prompt: vec![VOCABULARY as u32], ..good.clone() }).contains("token"));
    let sampling = SamplerSettings { top_p: 0.0, ..SamplerSettings::default() };
    assert!(check(Request { sampling, ..good }).contains("top-p"));
}
