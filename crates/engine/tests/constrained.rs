//! Answers that are held to grammars, on a real model: they always are what was asked for, and
//! company changes nothing about them.

use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use sterna_engine::constraint::Held;
use sterna_engine::{
    AnswerLimits, Constraint, Core, FinishReason, Grammars, Handle, Limits, Output, Request,
    RequestId, Stop, Wanted, start,
};
use sterna_formats::{Array, Metadata, Value as Entry};
use sterna_model::{Model, Tokenizer};
use sterna_runtime::settings::PAGE_LEN;
use sterna_runtime::{Program, Runner, SamplerSettings, Settings};

const CONTEXT: usize = 384;

struct Machine {
    handle: Handle,
    tokenizer: Arc<Tokenizer>,
    grammars: Grammars,
}

impl Machine {
    fn new(n_pages: usize, max_running: usize) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/austen-4m.gguf");
        let model = Model::open(&file).unwrap();
        let settings = Settings {
            context_len: CONTEXT,
            max_batch_rows: 64,
            kv_positions: Some(n_pages * PAGE_LEN),
            threads: Some(2),
            ..Settings::default()
        };
        let program = Arc::new(Program::compile(&model.graph, &model, &settings, None).unwrap());
        let limits = Limits {
            max_running,
            n_pages: program.settings().n_pages(),
            vocabulary: program.vocabulary(),
            ..limits()
        };
        let tokenizer = Arc::new(model.tokenizer().unwrap().clone());
        let ticks = AtomicU64::new(0);
        let clock = move || Duration::from_millis(ticks.fetch_add(1, Ordering::Relaxed));
        let runner = Runner::new(program).unwrap();
        let handle = start(runner, tokenizer.clone(), limits, Box::new(clock)).unwrap().0;
        let grammars = Grammars::new(&tokenizer).unwrap();
        Self { handle, tokenizer, grammars }
    }

    fn request(&self, wanted: &Wanted, seed: u64) -> Request {
        let sampling = SamplerSettings {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed,
            ..SamplerSettings::default()
        };
        Request {
            prompt: self.tokenizer.encode("It is a truth universally acknowledged, that", true),
            max_tokens: 300,
            sampling,
            is_seeded: true,
            constraint: Some(self.grammars.compile(wanted).unwrap()),
            ..Request::default()
        }
    }

    fn ask(&self, request: Request) -> Receiver<Output> {
        let (sender, receiver) = channel();
        let sink = Box::new(move |output| sender.send(output).is_ok());
        self.handle.submit(request, sink).unwrap();
        receiver
    }
}

fn limits() -> Limits {
    Limits {
        n_pages: 64,
        context_len: CONTEXT,
        max_rows: 64,
        max_running: 16,
        max_queue: 100,
        vocabulary: 2048,
        reads_whole: false,
        itl_target: None,
        answers: AnswerLimits::default(),
    }
}

/// Tokens, text and the reason of the end.
fn hear(answer: Receiver<Output>) -> (Vec<u32>, String, FinishReason) {
    let (mut tokens, mut all) = (Vec::new(), String::new());
    for output in answer {
        match output {
            Output::Prompt(_) => {}
            Output::Token { id, text, .. } => {
                tokens.push(id);
                all += &text;
            }
            Output::Finished(end) => return (tokens, all + &end.text, end.reason),
            Output::Failed(why) => panic!("{why}"),
        }
    }
    panic!("an answer has an end")
}

fn person() -> Wanted {
    Wanted::Json(json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 12 },
            "age": { "type": "integer", "minimum": 0, "maximum": 150 },
            "traits": {
                "type": "array", "items": { "$ref": "#/$defs/trait" }, "minItems": 1, "maxItems": 3,
            },
            "is_rich": { "type": "boolean" },
        },
        "required": ["name", "age", "traits", "is_rich"],
        "additionalProperties": false,
        "$defs": { "trait": { "enum": ["pride", "prejudice", "sense"] } },
    }))
}

fn check_person(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"));
    let object = value.as_object().unwrap();
    let keys: HashSet<&str> = object.keys().map(String::as_str).collect();
    assert_eq!(keys, HashSet::from(["name", "age", "traits", "is_rich"]), "{text}");
    assert!(value["name"].as_str().unwrap().chars().count() <= 12, "{text}");
    assert!(value["age"].as_u64().unwrap() <= 150, "{text}");
    let traits = value["traits"].as_array().unwrap();
    assert!((1..=3).contains(&traits.len()), "{text}");
    assert!(traits.iter().all(|t| ["pride", "prejudice", "sense"].contains(&t.as_str().unwrap())));
    assert!(value["is_rich"].is_boolean(), "{text}");
}

// proves A15
#[test]
fn a_schema_holds_at_any_seed_and_in_any_company() {
    let solo = Machine::new(96, 1);
    let alone: Vec<_> = (0..20).map(|seed| hear(solo.ask(solo.request(&person(), seed)))).collect();
    for (seed, (_, text, reason)) in alone.iter().enumerate() {
        assert_eq!(*reason, FinishReason::Stop, "seed {seed}: {text}");
        check_person(text);
    }
    let texts: HashSet<&String> = alone.iter().map(|(_, text, _)| text).collect();
    assert!(texts.len() > 10, "the model still chooses: {texts:?}");
    // The context is 12 pages, so that 20 make sequences give way to each other.
    for (n_pages, max_running) in [(96, 16), (20, 8)] {
        let machine = Machine::new(n_pages, max_running);
        let free = |seed| Request {
            constraint: None,
            stop: Stop { ignore_eos: true, ..Stop::default() },
            ..machine.request(&person(), seed)
        };
        let company: Vec<_> = (0..4).map(|seed| machine.ask(free(seed))).collect();
        let asked: Vec<_> =
            (0..20).map(|seed| machine.ask(machine.request(&person(), seed))).collect();
        for (seed, (answer, alone)) in asked.into_iter().zip(&alone).enumerate() {
            assert_eq!(hear(answer), *alone, "seed {seed} on {n_pages} pages");
        }
        assert!(company.into_iter().all(|free| hear(free).2 == FinishReason::Length));
        let preempted = machine.handle.stats().preemptions > 0;
        assert_eq!(preempted, n_pages == 20, "the second machine is the small one");
    }
}

#[test]
fn every_kind_of_grammar_is_followed_to_its_end() {
    let machine = Machine::new(64, 8);
    let ask = |wanted: &Wanted, seed| {
        let (_, text, reason) = hear(machine.ask(machine.request(wanted, seed)));
        assert_eq!(reason, FinishReason::Stop, "{text}");
        text
    };
    for seed in 0..10 {
        let text = ask(&Wanted::Regex("[a-c]{2,5}-[0-9]{1,9}x".into()), seed);
        let (letters, digits) = text.split_once('-').unwrap();
        assert!((2..=5).contains(&letters.len()) && letters.bytes().all(|b| b"abc".contains(&b)));
        let digits = digits.strip_suffix('x').unwrap();
        assert!(!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()), "{text}");
        let choices = ["yes", "yes, of course", "no", "\"peut-être\"\n"].map(str::to_owned);
        let text = ask(&Wanted::Choice(choices.to_vec()), seed);
        assert!(choices.contains(&text), "{text}");
        let sum = "start: term (\" + \" term){1,3}\nterm: /[0-9]/ | \"(\" term \" * \" term \")\"";
        let text = ask(&Wanted::Lark(sum.into()), seed);
        let terms = text.matches(" + ").count() + 1;
        assert!((2..=4).contains(&terms), "{text}");
        assert_eq!(text.matches('(').count(), text.matches(')').count(), "{text}");
        assert_eq!(text.matches('(').count(), text.matches(" * ").count(), "{text}");
    }
    let object: Value = serde_json::from_str(&ask(
        &Wanted::Json(json!({ "type": "object", "maxProperties": 0 })),
        1,
    ))
    .unwrap();
    assert_eq!(object, json!({}));
}

#[test]
fn other_grammars_are_other_requests() {
    let json = include_str!("../../../models/tokenizer.json");
    let tokenizer = Arc::new(Tokenizer::from_json_text(json).unwrap());
    let grammars = Grammars::new(&tokenizer).unwrap();
    let with = |constraint: Option<Constraint>| Request {
        prompt: vec![300],
        sampling: SamplerSettings::greedy(),
        constraint,
        ..Request::default()
    };
    let regex = |text: &str| Some(grammars.compile(&Wanted::Regex(text.into())).unwrap());
    let mut core = Core::new(limits(), tokenizer);
    let requests = [None, regex("a"), regex("b"), regex("a"), None, regex("b")];
    for (id, constraint) in (0..).zip(requests) {
        core.submit(Duration::ZERO, RequestId(id), with(constraint));
    }
    assert_eq!(core.stats().coalesced, 3);
    let endless =
        Request { stop: Stop { ignore_eos: true, ..Stop::default() }, ..with(regex("a")) };
    let refused = limits().check(&endless).unwrap_err().to_string();
    assert!(refused.contains("ignore_eos"), "{refused}");
}

/// As SentencePiece has it: bytes are `<0xNN>`, `▁` is a space.
fn sentencepiece() -> Tokenizer {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(["▁", "a", "▁a", "[TOOL]"].map(str::to_owned));
    let n_tokens = tokens.len();
    let kind = |id: usize| match id {
        0 => 2,
        1 | 2 => 3,
        3..259 => 6,
        262 => 3,
        _ => 1,
    };
    let mut metadata = Metadata::default();
    metadata.set("tokenizer.ggml.model", Entry::Str("llama".into()));
    metadata.set("tokenizer.ggml.tokens", Entry::Array(Array::Str(tokens)));
    metadata.set("tokenizer.ggml.scores", Entry::Array(Array::F32(vec![0.0; n_tokens])));
    let kinds = (0..n_tokens).map(kind).collect();
    metadata.set("tokenizer.ggml.token_type", Entry::Array(Array::I32(kinds)));
    Tokenizer::from_metadata(&metadata).unwrap()
}

#[test]
fn tokens_are_the_bytes_that_they_add() {
    let grammars = Grammars::new(&sentencepiece()).unwrap();
    let constraint = grammars.compile(&Wanted::Regex(" a a\n|é".into())).unwrap();
    let mut held = Held::new(&constraint);
    let byte = |b: u8| 3 + u32::from(b);
    let (space, a, space_a, end) = (259, 260, 261, 2);
    let allowed = |held: &mut Held| -> Vec<u32> {
        let allowed = held.allowed().unwrap();
        (0..300).filter(|&token| allowed.has(token)).collect()
    };
    // A space is a token and a byte; a byte token is a part of a character. Nothing ends yet, and
    // control tokens never come.
    assert_eq!(allowed(&mut held), [byte(b' '), byte(0xc3), space, space_a]);
    held.accept(space_a).unwrap();
    assert_eq!(allowed(&mut held), [byte(b' '), space, space_a]);
    held.accept(space).unwrap();
    assert_eq!(allowed(&mut held), [byte(b'a'), a]);
    held.accept(a).unwrap();
    assert_eq!(allowed(&mut held), [byte(b'\n')]);
    assert!(!held.is_over());
    held.accept(byte(b'\n')).unwrap();
    assert!(held.is_over());
    // Where more may follow, so may the end.
    let constraint = grammars.compile(&Wanted::Regex("a+".into())).unwrap();
    let mut held = Held::new(&constraint);
    assert_eq!(allowed(&mut held), [byte(b'a'), a]);
    held.accept(a).unwrap();
    assert_eq!(allowed(&mut held), [end, byte(b'a'), a]);
    assert!(held.accept(space).is_err());
}

// proves A16
#[test]
fn what_is_wrong_with_a_grammar_is_said_with_its_place() {
    let grammars = Grammars::new(&sentencepiece()).unwrap();
    let refused = |wanted: &Wanted| grammars.compile(wanted).err().unwrap();
    let bad = json!({
        "type": "object",
        "properties": {
            "fine": { "type": "string" },
            "list": { "type": "array", "items": { "anyOf": [
                { "type": "null" }, { "type": "strange" },
            ] } },
        },
    });
    let (place, why) = refused(&Wanted::Json(bad));
    assert_eq!(place, ".properties.list.items.anyOf[1]");
    assert!(why.contains("strange"), "{why}");
    let (place, why) = refused(&Wanted::Json(json!({ "type": "integer", "minimum": "low" })));
    assert_eq!(place, "");
    assert!(why.contains("minimum"), "{why}");
    for wanted in [
        Wanted::Regex("a(".into()),
        Wanted::Choice(Vec::new()),
        Wanted::Lark("start: absent".into()),
        Wanted::Json(json!(7)),
        Wanted::Json(json!({ "type": "string", "format": "no-such-format" })),
    ] {
        let (_, why) = refused(&wanted);
        assert!(!why.is_empty() && !why.contains("non-verbose"), "{why}");
    }
    // Too large for the limits, and said so.
    let (_, why) = refused(&Wanted::Regex("a".repeat(300_000)));
    assert!(why.contains("too large"), "{why}");
}

/// Grammars of hostile shapes: each is compiled or refused, and followed, and nothing overflows.
#[test]
fn deep_grammars_are_refused_or_followed() {
    let grammars = Grammars::new(&sentencepiece()).unwrap();
    let chain = |body: &str| -> String {
        let rule = |i: usize| {
            format!(
                "{}\n",
                body.replace("{i}", &i.to_string()).replace("{next}", &(i + 1).to_string())
            )
        };
        let last = body.split(':').next().unwrap().replace("{i}", "3000");
        format!(
            "start: {}\n{}{last}: \"b\"",
            last.replace("3000", "0"),
            (0..3_000).map(rule).collect::<String>()
        )
    };
    let refs =
        (0..3_000).map(|i| (format!("d{i}"), json!({ "$ref": format!("#/$defs/d{}", i + 1) })));
    let mut defs: serde_json::Map<String, Value> = refs.collect();
    defs.insert("d3000".into(), json!({ "type": "null" }));
    let deep = |n: usize| format!("{}a{}", "(".repeat(n), "?b)?".repeat(n));
    let wanted = [
        Wanted::Lark(chain("T{i}: T{next} \"a\"")),
        Wanted::Lark(chain("T{i}: (T{next} \"a\")? \"b\"")),
        Wanted::Lark(chain("t{i}: t{next} \"a\"")),
        Wanted::Lark(chain("t{i}: (t{next} \"a\")? \"b\"")),
        Wanted::Lark(format!("start: {}\"a\"{}", "(".repeat(30_000), ")".repeat(30_000))),
        Wanted::Lark("start: s\ns: s s s | s s | \"a\" | \"\"".into()),
        Wanted::Regex(deep(20_000)),
        Wanted::Regex(deep(100)),
        Wanted::Regex("a?".repeat(1_000)),
        Wanted::Regex("(((a?){100}b?){100}c?){100}".into()),
        Wanted::Regex("(a|b)*a(a|b){2000}".into()),
        Wanted::Choice((0..5_000).map(|i| format!("{i}")).collect()),
        Wanted::Json(json!({ "$ref": "#/$defs/d0", "$defs": defs })),
        Wanted::Json(
            json!({ "type": "array", "maxItems": 1_000_000, "items": { "type": "integer" } }),
        ),
    ];
    let mut n_followed = 0;
    for wanted in &wanted {
        let Ok(constraint) = grammars.compile(wanted) else { continue };
        let mut held = Held::new(&constraint);
        for _ in 0..20 {
            let Ok(allowed) = held.allowed() else { break };
            let Some(token) = (3..300).find(|&token| allowed.has(token)) else { break };
            n_followed += usize::from(held.accept(token).is_ok());
        }
    }
    assert!(n_followed > 50, "most of them work: {n_followed}");
}
