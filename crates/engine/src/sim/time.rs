//! The core in simulated time: deadlines and the response cache.

use super::*;
use crate::CacheControl;
use crate::core::Said;
use crate::speculation::Drafted;
use crate::stats::Histogram;

/// What a batch takes on the simulated machine.
fn cost(batch: &Batch) -> Duration {
    let n_decoding = batch.parts.iter().filter(|part| part.is_decode).count();
    let n_prompt = batch.n_rows() - n_decoding;
    Duration::from_secs_f64(0.020 + 0.0005 * n_prompt as f64 + 0.001 * n_decoding as f64)
}

/// Runs requests that come at these times; when each was answered, and who was refused.
pub fn replay(
    core: &mut Core,
    device: &mut Device,
    requests: Vec<(Duration, Request)>,
) -> (BTreeMap<RequestId, Duration>, Vec<EngineError>) {
    let (mut answered, mut failed) = (BTreeMap::new(), Vec::new());
    play(core, device, requests, cost, |now, (id, output)| match output {
        Output::Finished(_) => drop(answered.insert(id, now)),
        Output::Failed(why) => failed.push(why),
        Output::Token { .. } | Output::Prompt(_) => {}
    });
    (answered, failed)
}

/// The same on a machine that takes so long for a batch; passes on what is said, and when.
pub fn play(
    core: &mut Core,
    device: &mut Device,
    requests: Vec<(Duration, Request)>,
    mut cost: impl FnMut(&Batch) -> Duration,
    mut hear: impl FnMut(Duration, Said),
) {
    let mut now = Duration::ZERO;
    let mut arriving = requests.into_iter().enumerate().peekable();
    while arriving.peek().is_some() || !core.is_idle() {
        let mut said = Vec::new();
        if core.is_idle()
            && let Some((_, (at, _))) = arriving.peek()
        {
            now = now.max(*at);
        }
        while let Some((which, (_, request))) = arriving.next_if(|(_, (at, _))| *at <= now) {
            said.extend(core.submit(now, RequestId(which as u64), request));
        }
        said.extend(core.expire(now));
        let batch = core.plan(now);
        if !batch.parts.is_empty() {
            let logits = device.run(core, &batch);
            core.pool(&batch, &device.hidden);
            let took = cost(&batch);
            now += took;
            said.extend(core.complete(now, took, &batch, &logits));
        }
        said.into_iter().for_each(|said| hear(now, said));
    }
}

fn machine() -> (Core, Device) {
    let limits = Limits { max_running: 16, ..roomy() };
    (Core::new(limits, tokenizer()), Device::new(limits.n_pages))
}

// proves B31
#[test]
fn at_three_times_the_load_the_machine_is_still_of_use() {
    let mut rng = StdRng::seed_from_u64(11);
    let prefix = tokens(&mut rng, 64);
    // Every other one begins as the others do.
    let mut n_drawn = 0;
    let mut request = |deadline| {
        n_drawn += 1;
        let prompt = [&prefix[..n_drawn % 2 * 64], &tokens(&mut rng, 40)].concat();
        Request { deadline, ..plain(prompt, 16, "agent", Class::Default) }
    };
    let (mut core, mut device) = machine();
    let flood = (0..300).map(|_| (Duration::ZERO, request(None))).collect();
    let (answered, _) = replay(&mut core, &mut device, flood);
    let capacity = 300.0 / answered.values().max().unwrap().as_secs_f64();

    let (mut core, mut device) = machine();
    let deadline = Duration::from_secs(2);
    let n = (60.0 * 3.0 * capacity) as usize;
    let at = |i: usize| Duration::from_secs_f64(i as f64 / (3.0 * capacity));
    let requests: Vec<_> = (0..n).map(|i| (at(i), request(Some(deadline)))).collect();
    let (answered, failed) = replay(&mut core, &mut device, requests);
    assert_eq!(answered.len() + failed.len(), n, "everybody is told");
    let in_time = answered.iter().filter(|(id, time)| **time <= at(id.0 as usize) + deadline);
    let goodput = in_time.count() as f64 / 60.0;
    assert!(goodput >= 0.9 * capacity, "{goodput} of {capacity} a second");
    // Nearly all who cannot be served hear so when they ask, with a time to come again.
    let early = |why: &&EngineError| matches!(why, EngineError::TooLate { retry_after: 1.., .. });
    let n_early = failed.iter().filter(early).count();
    assert!(n_early * 10 >= failed.len() * 9, "{n_early} of {}", failed.len());
    assert_eq!(core.stats().deadlines.iter().sum::<u64>(), failed.len() as u64);
}

// What is there already takes no time.
#[test]
fn a_prompt_that_is_cached_or_shared_meets_a_deadline_in_which_it_could_not_be_read() {
    let mut rng = StdRng::seed_from_u64(16);
    let prefix = tokens(&mut rng, 2_000);
    let mut request = |n_prefix, n_new, deadline| {
        let prompt = [&prefix[..n_prefix], &tokens(&mut rng, 16)].concat();
        let deadline = Some(Duration::from_millis(deadline));
        Request { deadline, ..plain(prompt, n_new, "agent", Class::Default) }
    };
    let limits = Limits { max_running: 32, ..roomy() };
    let (mut core, mut device) = (Core::new(limits, tokenizer()), Device::new(limits.n_pages));
    let at = Duration::from_secs;
    let first = (1..5).map(|n| (at(0), request(0, 8 * n, 10_000))).collect();
    assert_eq!(replay(&mut core, &mut device, first).1, [], "the forecast learns");
    // All of them ask at once for what none of them has: the prefix is read once, in a second.
    let sharing = (0..32).map(|_| (at(10), request(2_000, 8, 2_300))).collect();
    assert_eq!(replay(&mut core, &mut device, sharing).1, []);
    // It is in the tree now, and is not read again.
    let cached = vec![(at(20), request(2_000, 8, 500))];
    assert_eq!(replay(&mut core, &mut device, cached).1, []);
    assert_eq!(core.stats().finished, [0, 37, 0, 0]);
    core.flush();
    let fresh = vec![(at(30), request(2_000, 8, 500))];
    let (_, failed) = replay(&mut core, &mut device, fresh);
    assert!(matches!(failed[..], [EngineError::TooLate { .. }]), "{failed:?}");
}

#[test]
fn times_count_from_before_a_request_came_to_the_engine() {
    let (mut core, mut device) = machine();
    let (now, waited) = (Duration::from_secs(10), Duration::from_secs(2));
    let prompt = tokens(&mut StdRng::seed_from_u64(14), 40);
    let early = Request { waited, ..plain(prompt, 4, "agent", Class::Default) };
    let late = Request { deadline: Some(waited), ..early.clone() };
    let (answered, failed) = replay(&mut core, &mut device, vec![(now, early), (now, late)]);
    assert_eq!(failed, [EngineError::DeadlineMissed]);
    assert_eq!(answered.keys().collect::<Vec<_>>(), [&RequestId(0)]);
    let stats = core.stats();
    assert!(stats.queue.sum() == 2.0 && stats.ttft.sum() > 2.0, "{stats:?}");
}

#[test]
fn a_deadline_that_passes_ends_a_request_and_not_those_who_listen_longer() {
    let mut rng = StdRng::seed_from_u64(12);
    let (mut core, mut device) = machine();
    let patient = plain(tokens(&mut rng, 40), 64, "patient", Class::Default);
    let hasty = Request { deadline: Some(Duration::from_millis(100)), ..patient.clone() };
    let requests = vec![(Duration::ZERO, hasty), (Duration::ZERO, patient)];
    let (answered, failed) = replay(&mut core, &mut device, requests);
    assert_eq!(failed, [EngineError::DeadlineMissed]);
    assert_eq!(answered.keys().collect::<Vec<_>>(), [&RequestId(1)]);
    assert_eq!((core.stats().coalesced, core.stats().deadlines), (1, [0, 1]));
}

#[test]
fn a_draft_models_time_is_part_of_the_forecast() {
    let mut rng = StdRng::seed_from_u64(21);
    let mut refused = |reading| {
        let (mut core, mut device) = machine();
        let first = plain(tokens(&mut rng, 40), 16, "a", Class::Default);
        core.submit(Duration::ZERO, RequestId(0), first);
        while !core.is_idle() {
            core.propose(Drafted { reading, ..Drafted::default() });
            let batch = core.plan(Duration::ZERO);
            let logits = device.run(&core, &batch);
            core.complete(Duration::ZERO, Duration::from_millis(10), &batch, &logits);
        }
        let deadline = Some(Duration::from_secs(1));
        let hasty = plain(tokens(&mut rng, 40), 16, "a", Class::Default);
        !core.submit(Duration::ZERO, RequestId(1), Request { deadline, ..hasty }).is_empty()
    };
    assert!(!refused(Duration::ZERO) && refused(Duration::from_millis(100)));
}

// proves A19, P-21 (a cached reply is equal), T-13
#[test]
fn an_answer_that_is_kept_is_told_without_computing() {
    let mut rng = StdRng::seed_from_u64(13);
    let answers = AnswerLimits { bytes: 1 << 20, ttl: Duration::from_secs(10) };
    let limits = Limits { answers, ..roomy() };
    let (mut core, mut device) = (Core::new(limits, tokenizer()), Device::new(limits.n_pages));
    let request = plain(tokens(&mut rng, 40), 8, "a", Class::Default);
    let fresh = CacheControl { no_cache: true, ..CacheControl::default() };
    let at = Duration::from_secs;
    let asked = vec![
        (at(0), request.clone()),
        (at(5), request.clone()),
        (at(6), Request { cache: fresh, ..request.clone() }),
        (at(20), request.clone()),
    ];
    let batches = |core: &Core| core.stats().batches;
    let (mut seen, mut texts) = (Vec::new(), Vec::new());
    for (at, request) in asked {
        let said = core.submit(at, RequestId(seen.len() as u64), request);
        let told = said.iter().filter(|(_, output)| matches!(output, Output::Token { .. }));
        let age = said.iter().find_map(|(_, output)| match output {
            Output::Finished(end) => end.age,
            _ => None,
        });
        seen.push((told.count(), age));
        let mut outputs: Vec<_> = said.into_iter().map(|(_, output)| output).collect();
        while !core.is_idle() {
            let batch = core.plan(at);
            let logits = device.run(&core, &batch);
            let said = core.complete(at, Duration::ZERO, &batch, &logits);
            outputs.extend(said.into_iter().map(|(_, output)| output));
        }
        outputs.retain(|output| matches!(output, Output::Token { .. }));
        texts.push(outputs);
    }
    assert!(texts.iter().all(|told| told.len() == 8 && told == &texts[0]), "{texts:?}");
    assert_eq!(seen, [(0, None), (8, Some(at(5))), (0, None), (0, None)]);
    let stats = core.stats().answers;
    assert_eq!((stats.hits, stats.misses, stats.entries), (1, 2, 1));
    // A request that is answered is counted once, however it was.
    let counted = core.stats();
    let all = [&counted.ttft, &counted.e2e, &counted.queue, &counted.prefill, &counted.answer_len];
    assert_eq!(all.map(Histogram::count), [4; 5]);
    assert_eq!((batches(&core), core.flush().answers), (24, 1));
    assert_eq!(core.stats().pages_used, 0);
}

// proves T-13
#[test]
fn a_kept_embedding_is_the_same_and_has_no_first_token_to_wait_for() {
    let mut rng = StdRng::seed_from_u64(17);
    let answers = AnswerLimits { bytes: 1 << 20, ttl: Duration::from_secs(10) };
    let limits = Limits { answers, ..roomy() };
    let (mut core, mut device) = (Core::new(limits, tokenizer()), Device::new(limits.n_pages));
    let prompt = plain(tokens(&mut rng, 40), 0, "a", Class::Default);
    let read = Request { embed: Some(Pooling::Mean), ..prompt };
    let mut embeddings = Vec::new();
    for _ in 0..2 {
        play(
            &mut core,
            &mut device,
            vec![(Duration::ZERO, read.clone())],
            cost,
            |_, (_, output)| {
                if let Output::Finished(end) = output {
                    embeddings.push(end.embedding.expect("one was asked for"));
                }
            },
        );
    }
    assert!(embeddings.len() == 2 && embeddings[0] == embeddings[1], "{embeddings:?}");
    assert_eq!(Some(&embeddings[0]), embedded(&read).as_ref());
    let counted = core.stats();
    assert_eq!((counted.answers.hits, counted.ttft.count(), counted.e2e.count()), (1, 0, 2));
}

// proves B25
#[test]
fn what_one_tenant_sent_does_not_show_in_the_work_for_another() {
    let mut rng = StdRng::seed_from_u64(15);
    let system = tokens(&mut rng, 10 * PAGE_LEN);
    let private = [&system[..], &tokens(&mut rng, 100)].concat();
    let ask = |salt: &str, prompt: &[u32]| Request {
        cache_salt: Some(salt.into()),
        public_tokens: system.len(),
        ..plain(prompt.to_vec(), 1, salt, Class::Default)
    };
    let other = [&system[..], &tokens(&mut rng, 100)].concat();
    // The work for a probe, by whether the first tenant has sent what it guesses.
    let probe = |sent: &[u32]| {
        let (mut core, mut device) = machine();
        replay(&mut core, &mut device, vec![(Duration::ZERO, ask("first", sent))]);
        let before = core.stats();
        let guess = vec![(Duration::from_secs(9), ask("second", &private))];
        let (answered, _) = replay(&mut core, &mut device, guess);
        let after = core.stats();
        let rows = after.rows - before.rows;
        (rows, after.batches - before.batches, after.cached_tokens, answered)
    };
    assert_eq!(probe(&private), probe(&other));
    // The system prompt is shared all the same.
    assert_eq!(probe(&private).0, 100);
}
