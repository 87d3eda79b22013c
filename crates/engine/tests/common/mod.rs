//! A real model, an engine of it, and requests.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use sterna_engine::disk::store::Room;
use sterna_engine::{
    AnswerLimits, Class, Drafter, Extras, Finished, Grammars, Handle, Limits, Output, Request,
    Speculate, Stop, TokenLogprob, Wanted, When, disk, start_with,
};
use sterna_model::{Model, Tokenizer};
use sterna_runtime::settings::PAGE_LEN;
use sterna_runtime::{Program, Runner, SamplerSettings, Settings};

/// Tokens of a sequence.
pub const CONTEXT: usize = 256;

/// A model of this repository.
pub fn model(name: &str) -> Model {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    Model::open(&models.join(name)).unwrap()
}

/// Settings in which its context is shorter.
pub fn settings(n_pages: usize) -> Settings {
    Settings { kv_positions: Some(n_pages * PAGE_LEN), ..Settings::default() }
}

fn compiled(model: &Model, settings: Settings) -> Arc<Program> {
    let threads = settings.threads.or(Some(2));
    let (context_len, max_batch_rows, hidden) = (CONTEXT, 64, true);
    let settings = Settings { context_len, max_batch_rows, threads, hidden, ..settings };
    Arc::new(Program::compile(&model.graph, model, &settings, None).unwrap())
}

/// A smaller model of the same vocabulary, to guess.
pub fn drafter() -> Drafter {
    let n_pages = Drafter::positions(CONTEXT) / PAGE_LEN;
    let program = compiled(&model("austen-4m-ternary.gguf"), settings(n_pages));
    Drafter::new(Runner::new(program).unwrap())
}

/// A model made ready to be run.
pub struct Machine {
    pub program: Arc<Program>,
    pub tokenizer: Arc<Tokenizer>,
}

impl Machine {
    /// With so many pages of KV cache.
    pub fn new(n_pages: usize) -> Self {
        Self::with(settings(n_pages))
    }

    pub fn with(settings: Settings) -> Self {
        let model = model("austen-4m.gguf");
        let program = compiled(&model, settings);
        Self { program, tokenizer: Arc::new(model.tokenizer().unwrap().clone()) }
    }

    /// An engine that does not guess.
    pub fn engine(&self, max_running: usize) -> Handle {
        self.speculating(max_running, Speculate::default())
    }

    /// An engine that guesses.
    pub fn speculating(&self, max_running: usize, speculate: Speculate) -> Handle {
        let runner = Runner::new(self.program.clone()).unwrap();
        let drafter = (speculate.model != When::Never).then(drafter);
        let extras = Extras { speculate, drafter, ..Extras::default() };
        self.start(runner, max_running, extras).0
    }

    /// With pages kept in a folder.
    pub fn engine_on(&self, folder: &Path, identity: &str) -> (Handle, JoinHandle<()>) {
        let mut runner = Runner::new(self.program.clone()).unwrap();
        let config = disk::Config {
            folder: folder.to_owned(),
            limit: 1 << 30,
            room: Room::default(),
            identity: identity.into(),
            // Nothing takes any time, so that nothing is too slow.
            clock: Box::new(|| Duration::ZERO),
            log: Box::new(|said| eprintln!("{said}")),
        };
        let kept = Some(disk::open(config, &mut runner).unwrap());
        self.start(runner, 4, Extras { kept, ..Extras::default() })
    }

    fn start(
        &self,
        runner: Runner,
        max_running: usize,
        extras: Extras,
    ) -> (Handle, JoinHandle<()>) {
        let limits = Limits {
            n_pages: self.program.settings().n_pages(),
            context_len: CONTEXT,
            max_rows: 64,
            max_running,
            max_queue: 200,
            vocabulary: self.program.vocabulary(),
            reads_whole: self.program.is_encoder(),
            itl_target: None,
            answers: AnswerLimits::default(),
        };
        let ticks = AtomicU64::new(0);
        let clock = move || Duration::from_millis(ticks.fetch_add(1, Ordering::Relaxed));
        let tokenizer = self.tokenizer.clone();
        start_with(runner, tokenizer, limits, Box::new(clock), extras).unwrap()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub tokens: Vec<u32>,
    pub text: String,
    pub logprobs: Vec<TokenLogprob>,
    pub finished: Option<Finished>,
}

pub fn ask(engine: &Handle, request: Request) -> Receiver<Output> {
    let (sender, receiver) = channel();
    engine.submit(request, Box::new(move |output| sender.send(output).is_ok())).unwrap();
    receiver
}

pub fn hear(answer: Receiver<Output>) -> Answer {
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

/// Different in length, sampling, class, agent and what holds them; many with a common beginning.
pub fn requests(tokenizer: &Tokenizer) -> Vec<Request> {
    let common = "It is a truth universally acknowledged, that a single man in possession of a good \
                  fortune, must be in want of a wife. However little known the feelings or views";
    let ends = ["", " of such a man", " may be on his first", ", my dear Mr. Bennet,", " said"];
    let grammars = Grammars::new(tokenizer).unwrap();
    let regex = Wanted::Regex("[a-z]{2,9}( [a-z]{2,9}){3,12}\\.".into());
    let held = grammars.compile(&regex).unwrap();
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
            constraint: (i % 8 == 3 && !i.is_multiple_of(5)).then(|| held.clone()),
            logprobs: i.is_multiple_of(7).then_some(2),
            prompt_logprobs: i.is_multiple_of(13).then_some(1),
            agent: format!("agent-{}", i % 5),
            class: Class::ALL[i % 3],
            ..Request::default()
        }
    };
    (0..64).map(one).collect()
}
