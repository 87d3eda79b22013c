//! The engine on a real model: whatever the company, a request gets the tokens it gets alone.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use sterna_engine::{
    AnswerLimits, Class, FinishReason, Finished, Handle, Limits, Output, Request, Stop,
    TokenLogprob, disk, start_with_disk,
};
use sterna_model::{Model, Tokenizer};
use sterna_runtime::settings::PAGE_LEN;
use sterna_runtime::{KvEncoding, Program, Runner, SamplerSettings, Settings};

const CONTEXT: usize = 256;

fn model() -> Model {
    Model::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/austen-4m.gguf")).unwrap()
}

struct Machine {
    program: Arc<Program>,
    tokenizer: Arc<Tokenizer>,
}

impl Machine {
    /// With so many pages of KV cache.
    fn new(n_pages: usize) -> Self {
        Self::with(Settings { kv_positions: Some(n_pages * PAGE_LEN), ..Settings::default() })
    }

    fn with(settings: Settings) -> Self {
        let model = model();
        let threads = settings.threads.or(Some(2));
        let settings = Settings { context_len: CONTEXT, max_batch_rows: 64, threads, ..settings };
        let program = Arc::new(Program::compile(&model.graph, &model, &settings, None).unwrap());
        Self { program, tokenizer: Arc::new(model.tokenizer().unwrap().clone()) }
    }

    fn engine(&self, max_running: usize) -> Handle {
        let runner = Runner::new(self.program.clone()).unwrap();
        self.start(runner, max_running, None).0
    }

    /// With pages kept in a folder.
    fn engine_on(&self, folder: &Path, identity: &str) -> (Handle, JoinHandle<()>) {
        let mut runner = Runner::new(self.program.clone()).unwrap();
        let config = disk::Config {
            folder: folder.to_owned(),
            limit: 1 << 30,
            identity: identity.into(),
            // Nothing takes any time, so that nothing is too slow.
            clock: Box::new(|| Duration::ZERO),
            log: Box::new(|said| eprintln!("{said}")),
        };
        let kept = disk::open(config, &mut runner).unwrap();
        self.start(runner, 4, Some(kept))
    }

    fn start(
        &self,
        runner: Runner,
        max_running: usize,
        kept: Option<disk::Kept>,
    ) -> (Handle, JoinHandle<()>) {
        let limits = Limits {
            n_pages: self.program.settings().n_pages(),
            context_len: CONTEXT,
            max_rows: 64,
            max_running,
            max_queue: 100,
            vocabulary: self.program.vocabulary(),
            itl_target: None,
            answers: AnswerLimits::default(),
        };
        let ticks = AtomicU64::new(0);
        let clock = move || Duration::from_millis(ticks.fetch_add(1, Ordering::Relaxed));
        let tokenizer = self.tokenizer.clone();
        start_with_disk(runner, tokenizer, limits, Box::new(clock), kept).unwrap()
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Answer {
    tokens: Vec<u32>,
    text: String,
    logprobs: Vec<TokenLogprob>,
    finished: Option<Finished>,
}

fn ask(engine: &Handle, request: Request) -> Receiver<Output> {
    let (sender, receiver) = channel();
    engine.submit(request, Box::new(move |output| sender.send(output).is_ok())).unwrap();
    receiver
}

fn hear(answer: Receiver<Output>) -> Answer {
    let (tokens, text, logprobs) = Default::default();
    let mut all = Answer { tokens, text, logprobs, finished: None };
    for output in answer {
        assert!(all.finished.is_none(), "nothing follows the end");
        match output {
            Output::Prompt(logprobs) => all.logprobs.extend(logprobs),
            Output::Token { id, text, logprob } => {
                all.tokens.push(id);
                all.text += &text;
                all.logprobs.extend(logprob);
            }
            Output::Finished(finished) => {
                all.text += &finished.text;
                all.finished = Some(finished);
            }
            Output::Failed(why) => panic!("{why}"),
        }
    }
    all
}

/// Different in length, sampling, class and agent; many with a common beginning.
fn requests(tokenizer: &Tokenizer) -> Vec<Request> {
    let common = "It is a truth universally acknowledged, that a single man in possession of a good \
                  fortune, must be in want of a wife. However little known the feelings or views";
    let ends = ["", " of such a man", " may be on his first", ", my dear Mr. Bennet,", " said"];
    let one = |i: usize| {
        let text = match i % 3 {
            0 => format!("{common}{}", ends[i % ends.len()]),
            1 => format!("{}{}", &common[..40 + i], ends[i % ends.len()]),
            _ => format!("Chapter {i}. {}", &common[i..2 * i + 20]),
        };
        let temperature = if i.is_multiple_of(2) { 0.0 } else { 1.0 };
        Request {
            prompt: tokenizer.encode(&text, true),
            max_tokens: 8 + 3 * (i % 11),
            sampling: SamplerSettings {
                temperature,
                seed: i as u64,
                frequency_penalty: (i % 4) as f32 * 0.1,
                ..SamplerSettings::default()
            },
            is_seeded: true,
            stop: Stop { strings: vec!["dear".into()], ignore_eos: i.is_multiple_of(5) },
            logprobs: i.is_multiple_of(7).then_some(2),
            prompt_logprobs: i.is_multiple_of(13).then_some(1),
            agent: format!("agent-{}", i % 5),
            class: Class::ALL[i % 3],
            ..Request::default()
        }
    };
    (0..64).map(one).collect()
}

// proves A15
#[test]
fn company_pages_and_preemption_change_no_token() {
    let roomy = Machine::new(64);
    let requests = requests(&roomy.tokenizer);
    let solo = roomy.engine(1);
    let alone: Vec<Answer> =
        requests.iter().map(|request| hear(ask(&solo, request.clone()))).collect();
    // The context is 8 pages, so that 12 make sequences give way to each other.
    for (n_pages, max_running) in [(64, 16), (12, 8)] {
        let machine = Machine::new(n_pages);
        let engine = machine.engine(max_running);
        let asked: Vec<_> = requests.iter().map(|r| ask(&engine, r.clone())).collect();
        for (i, (answer, alone)) in asked.into_iter().zip(&alone).enumerate() {
            let answer = hear(answer);
            assert_eq!(answer.tokens, alone.tokens, "request {i} on {n_pages} pages");
            assert_eq!(answer.text, alone.text, "request {i}");
            assert_eq!(answer.logprobs, alone.logprobs, "request {i}: bit for bit");
            let reason = |answer: &Answer| answer.finished.as_ref().map(|f| f.reason);
            assert_eq!(reason(&answer), reason(alone), "request {i}");
        }
        let stats = engine.stats();
        assert_eq!((stats.waiting, stats.running), (0, 0));
        assert_eq!(stats.pages_used, stats.pages_cached, "no page is held by nobody");
        assert!(stats.cached_tokens > 0);
    }
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
