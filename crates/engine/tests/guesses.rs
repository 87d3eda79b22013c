//! Guesses on a real model: they change no token, and what they came to is counted.

mod common;

use common::{Answer, Machine, ask, hear, model, requests};
use std::cell::Cell;
use std::time::Duration;
use sterna_engine::speculation::Wanted;
use sterna_engine::{Drafter, Guessed, Request, Speculate, Stop, When, drafter};
use sterna_runtime::SamplerSettings;

const NEVER: Speculate = Speculate { lookup: When::Never, model: When::Never, most: 5 };

// proves A15: speculation changes no token and no bit of a log probability, greedy and sampled
#[test]
fn guesses_change_no_token() {
    let machine = Machine::new(12);
    let mut requests = requests(&machine.tokenizer);
    let alone = |requests: &[Request]| {
        let solo = machine.engine(1);
        requests.iter().map(|r| hear(ask(&solo, r.clone()))).collect::<Vec<_>>()
    };
    // Answers are there to be quoted: the prompt is what was answered.
    let answers = alone(&requests);
    for (request, answer) in requests.iter_mut().zip(answers).step_by(2) {
        let again = request.prompt.clone();
        request.prompt.extend(answer.tokens);
        request.prompt.extend(again);
    }
    let expected = alone(&requests);
    let always = |lookup, model| Speculate { lookup, model, ..NEVER };
    for (max_running, speculate) in [
        (1, always(When::Always, When::Never)),
        (8, always(When::Always, When::Never)),
        (1, always(When::Never, When::Always)),
        (8, always(When::Always, When::Always)),
        (3, always(When::Measured, When::Measured)),
    ] {
        let engine = machine.speculating(max_running, speculate);
        let asked: Vec<_> = requests.iter().map(|r| ask(&engine, r.clone())).collect();
        for (i, (answer, expected)) in asked.into_iter().zip(&expected).enumerate() {
            let answer = hear(answer);
            assert_eq!(answer.tokens, expected.tokens, "request {i}, {speculate:?}");
            assert_eq!(answer.text, expected.text, "request {i}");
            assert_eq!(answer.logprobs, expected.logprobs, "request {i}: bit for bit");
            let reason = |answer: &Answer| answer.finished.as_ref().map(|f| f.reason);
            assert_eq!(reason(&answer), reason(expected), "request {i}");
        }
        let stats = engine.stats();
        let sum = |counts: [u64; 3]| counts.iter().sum::<u64>();
        let (drafted, accepted) = (sum(stats.spec.drafted), sum(stats.spec.accepted));
        assert_eq!(accepted, stats.spec.accepted_at.iter().sum::<u64>());
        if speculate.lookup != When::Measured {
            assert!(accepted > 0 && accepted < drafted, "{accepted} of {drafted}");
        }
        assert_eq!(stats.draft_failure, None);
        assert_eq!(stats.pages_used, stats.pages_cached, "no page is held by nobody");
    }
}

#[test]
fn reading_counts_and_what_was_guessed_right_is_read_with_the_next_round() {
    let draft = |drafter: &mut Drafter, tokens: &[u32]| {
        let asked = Cell::new(0);
        let clock = || Duration::from_secs([0, 5, 6][asked.replace(asked.get() + 1)]);
        let drafted = drafter.draft(&[Wanted { key: 0, tokens, most: 3 }], &clock).unwrap();
        assert_eq!((drafted.reading.as_secs(), drafted.took.as_secs()), (5, 1));
        assert_eq!(drafted.n_rounds, 3);
        drafted.guesses[0].1.clone()
    };
    let (mut drafter, mut tokens) = (common::drafter(), (300..340).collect::<Vec<u32>>());
    for _ in 0..3 {
        let guess = draft(&mut drafter, &tokens);
        assert_eq!(guess, draft(&mut common::drafter(), &tokens), "as if it were new");
        tokens.extend(guess);
        tokens.push(300);
    }
}

#[test]
fn what_a_client_expects_saves_steps_and_is_counted() {
    let machine = Machine::new(64);
    let request = Request {
        prompt: machine.tokenizer.encode("She had been", true),
        max_tokens: 40,
        sampling: SamplerSettings::greedy(),
        stop: Stop { ignore_eos: true, ..Stop::default() },
        ..Request::default()
    };
    let plain = hear(ask(&machine.engine(1), request.clone()));
    assert_eq!(plain.finished.as_ref().unwrap().predicted, None);
    let always = Speculate { lookup: When::Always, ..NEVER };
    let predicted = |prediction: Vec<u32>| {
        let engine = machine.speculating(1, always);
        let request = Request { prediction: prediction.into(), ..request.clone() };
        let answer = hear(ask(&engine, request));
        assert_eq!(answer.tokens, plain.tokens);
        let end = answer.finished.unwrap();
        let predicted = end.predicted.unwrap();
        assert!(predicted.drafted <= end.guessed.drafted);
        (predicted, engine.stats().batches)
    };
    let (right, batches) = predicted(plain.tokens.clone());
    // The first token comes with the prompt; of the others, 5 of 6 are guessed.
    assert_eq!(right, Guessed { drafted: 32, accepted: 32 });
    assert_eq!(batches, 1 + 7);
    let (wrong, more) = predicted(vec![7; 40]);
    assert_eq!(wrong, Guessed::default(), "it is not what the answer begins with");
    assert!(more > batches);
    let mut changed = plain.tokens.clone();
    changed[20] = if changed[20] == 7 { 8 } else { 7 };
    let (mixed, _) = predicted(changed);
    assert!(mixed.accepted > 20 && mixed.accepted < mixed.drafted, "{mixed:?}");
}

#[test]
fn a_draft_model_must_have_the_same_vocabulary() {
    let (one, other) = (model("austen-4m.gguf"), model("austen-4m-ternary.gguf"));
    let (one, other) = (one.tokenizer().unwrap(), other.tokenizer().unwrap());
    assert_eq!(drafter::same_vocabulary(one, other), Ok(()));
    let mut longer = other.clone();
    longer.pad(other.vocab_len() + 1);
    let why = drafter::same_vocabulary(one, &longer).unwrap_err();
    assert!(why.contains("the same vocabulary"), "{why}");
}
