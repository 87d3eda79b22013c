//! The engine on a real model: whatever the company, a request gets the tokens it gets alone.

mod common;

use common::{Answer, Machine, ask, hear, requests};
use std::path::Path;
use std::sync::mpsc::channel;
use sterna_engine::{Class, EngineError, FinishReason, Request, Speculate, Stop, When};
use sterna_runtime::{KvEncoding, Runner, SamplerSettings, Settings};

// proves A15: 64 mixed requests, each asked twice at once, so that they coalesce, on so few pages
// that they give way to each other, and with guesses of every kind: token by token and bit by bit
// what they get alone.
#[test]
fn company_pages_preemption_and_guesses_change_no_token() {
    let roomy = Machine::new(64);
    let requests = requests(&roomy.tokenizer);
    let solo = roomy.engine(1);
    let alone: Vec<Answer> =
        requests.iter().map(|request| hear(ask(&solo, request.clone()))).collect();
    let guessing = |when| Speculate { lookup: when, model: when, most: 5 };
    for (n_pages, max_running, when) in [
        (64, 16, When::Never),
        (12, 8, When::Never),
        (12, 8, When::Always),
        (12, 3, When::Measured),
    ] {
        let machine = Machine::new(n_pages);
        let engine = machine.speculating(max_running, guessing(when));
        // Whoever can wait comes first, so that those who cannot take their places.
        let (patient, others): (Vec<_>, Vec<_>) =
            requests.iter().zip(&alone).partition(|(request, _)| request.class == Class::Batch);
        let mut asked = Vec::new();
        for group in [patient, others] {
            for (request, alone) in group.into_iter().flat_map(|one| [one, one]) {
                asked.push((ask(&engine, request.clone()), alone));
            }
            while engine.stats().new_tokens == 0 {
                std::thread::yield_now();
            }
        }
        for (i, (answer, alone)) in asked.into_iter().enumerate() {
            let answer = hear(answer);
            let which = format!("answer {i} on {n_pages} pages, guesses {when:?}");
            assert_eq!(answer.tokens, alone.tokens, "{which}");
            assert_eq!(answer.text, alone.text, "{which}");
            assert_eq!(answer.logprobs, alone.logprobs, "{which}: bit for bit");
            let reason = |answer: &Answer| answer.finished.as_ref().map(|f| f.reason);
            assert_eq!(reason(&answer), reason(alone), "{which}");
        }
        let stats = engine.stats();
        assert_eq!((stats.waiting, stats.running), (0, 0));
        assert_eq!(stats.pages_used, stats.pages_cached, "no page is held by nobody");
        assert!(stats.cached_tokens > 0 && stats.coalesced > 32, "{} coalesced", stats.coalesced);
        assert!(stats.preemptions > 0, "nobody gave way: {n_pages} pages, guesses {when:?}");
        assert_eq!(stats.draft_failure, None);
        if when == When::Always {
            let [_, lookup, model] = stats.spec.accepted;
            assert!(lookup > 0 && model > 0, "{:?}", stats.spec);
        }
    }
}

#[test]
fn an_engine_that_panicked_says_so_instead_of_ending() {
    let engine = Machine::new(64).engine(1);
    engine.flush(Box::new(|_| panic!("as the test says")));
    let request = Request { prompt: vec![1], ..Request::default() };
    let why = loop {
        match engine.submit(request.clone(), Box::new(|_| true)) {
            Ok(_) | Err(EngineError::QueueFull { .. }) => std::thread::yield_now(),
            Err(why) => break why,
        }
    };
    assert!(matches!(&why, EngineError::Internal(why) if why.contains("panicked")), "{why}");
}

#[test]
fn the_answer_is_what_the_runner_gives_by_itself() {
    let machine = Machine::new(64);
    let prompt = machine.tokenizer.encode("She had been", true);
    let mut runner = Runner::new(machine.program.clone()).unwrap();
    let sequence = runner.new_sequence();
    let mut tokens = prompt.clone();
    for _ in 0..20 {
        let len = runner.len(sequence).unwrap();
        let chunk = sterna_runtime::Chunk {
            sequence,
            tokens: &tokens[len..],
            logits: sterna_runtime::Logits::Last,
        };
        let logits = runner.forward(&[chunk]).unwrap();
        tokens.push(sterna_runtime::sample::argmax(logits).unwrap() as u32);
    }
    let request = Request {
        prompt: prompt.clone(),
        max_tokens: 20,
        sampling: SamplerSettings::greedy(),
        stop: Stop { ignore_eos: true, ..Stop::default() },
        ..Request::default()
    };
    let engine = machine.engine(4);
    assert_eq!(hear(ask(&engine, request)).tokens, tokens[prompt.len()..]);
}

#[test]
fn clients_that_go_away_cost_nothing_more_and_the_rest_is_served() {
    let machine = Machine::new(64);
    let engine = machine.engine(4);
    let request = |text: &str| Request {
        prompt: machine.tokenizer.encode(text, true),
        max_tokens: 100,
        stop: Stop { ignore_eos: true, ..Stop::default() },
        ..Request::default()
    };
    let gone = ask(&engine, request("One"));
    drop(gone);
    let (sender, receiver) = channel();
    let sink = Box::new(move |output| sender.send(output).is_ok());
    let cancelled = engine.submit(request("Two"), sink).unwrap();
    engine.cancel(cancelled);
    let stays = hear(ask(&engine, request("Three")));
    assert_eq!(stays.tokens.len(), 100);
    assert_eq!(stays.finished.unwrap().reason, FinishReason::Length);
    assert!(receiver.iter().count() < 100);
    engine.drain();
    let refused = engine.submit(request("Four"), Box::new(|_| true));
    assert!(refused.unwrap_err().to_string().contains("shutting down"));
    while engine.n_open() > 0 {
        std::thread::yield_now();
    }
    assert_eq!(engine.stats().finished[2], 2);
}

/// Asks an engine with pages in a folder, and waits until it has written what it keeps: the answer
/// without the end, the tokens that it had, and those of them from the disk.
fn ask_on(
    machine: &Machine,
    folder: &Path,
    identity: &str,
    request: &Request,
) -> (Answer, usize, u64) {
    let (engine, thread) = machine.engine_on(folder, identity);
    let mut answer = hear(ask(&engine, request.clone()));
    let cached = answer.finished.take().unwrap().cached_tokens;
    let from_disk = engine.stats().disk_tokens;
    drop(engine);
    thread.join().unwrap();
    (answer, cached, from_disk)
}

// proves B24: pages survive the process, and only where the same bits would be computed.
#[test]
fn keys_and_values_survive_a_restart_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let machine = Machine::new(16);
    let request = Request {
        prompt: (0..203).map(|i| 300 + i * 37 % 1000).collect(),
        max_tokens: 20,
        sampling: SamplerSettings::greedy(),
        stop: Stop { ignore_eos: true, ..Stop::default() },
        logprobs: Some(2),
        ..Request::default()
    };
    let cold = hear(ask(&machine.engine(1), request.clone()));
    let cold = Answer { finished: None, ..cold };
    let on = |machine: &Machine, identity: &str, request: &Request| {
        let (answer, cached, from_disk) = ask_on(machine, folder, identity, request);
        assert_eq!(cached as u64, from_disk, "a new process has nothing else");
        (answer, cached)
    };
    assert_eq!(on(&machine, "a", &request), (cold.clone(), 0));
    assert_eq!(on(&machine, "a", &request), (cold.clone(), 192));
    // Other instructions and another number of threads compute the same bits.
    let scalar = Settings { isa: Some("scalar".into()), threads: Some(1), ..Settings::default() };
    assert_eq!(on(&Machine::with(scalar), "a", &request), (cold.clone(), 192));
    // Another file, another precision of the cache, another salt: nothing is taken.
    assert_eq!(on(&machine, "b", &request), (cold.clone(), 0));
    let exact = Machine::with(Settings { kv: KvEncoding::F32, ..Settings::default() });
    assert_eq!(on(&exact, "a", &request).1, 0);
    let salted = Request { cache_salt: Some("tenant".into()), ..request.clone() };
    assert_eq!(on(&machine, "a", &salted), (cold.clone(), 0));
    assert_eq!(on(&machine, "a", &salted), (cold.clone(), 192));
    // Damage is noticed, and what was damaged is computed and written again.
    for model in std::fs::read_dir(folder).unwrap() {
        for file in std::fs::read_dir(model.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let (answer, cached) = on(&machine, "a", &request);
    assert!(answer == cold && cached < 192, "{cached} tokens of a damaged file");
    assert_eq!(on(&machine, "a", &request), (cold, 192));
}
