//! The core in virtual time, on a machine of round numbers.

use super::*;
use crate::AnswerLimits;
use crate::request::Stop;
use sterna_runtime::SamplerSettings;
use sterna_runtime::settings::PAGE_LEN;

const VOCABULARY: usize = 340;

fn tokenizer() -> Arc<Tokenizer> {
    let json = include_str!("../../../../models/tokenizer.json");
    Arc::new(Tokenizer::from_json_text(json).unwrap())
}

fn limits() -> Limits {
    Limits {
        n_pages: 1024,
        context_len: 64 * PAGE_LEN,
        max_rows: 512,
        max_running: 64,
        max_queue: 1000,
        vocabulary: VOCABULARY,
        reads_whole: false,
        itl_target: None,
        answers: AnswerLimits::default(),
    }
}

/// 10 ms for a batch, and 1 ms for each row.
fn simple(work: &Work) -> Duration {
    Duration::from_millis(match work.prompt_rows + work.decode_rows {
        0 => 0,
        rows => 10 + rows as u64,
    })
}

/// A prompt that no other number has.
fn request(number: u32, n_prompt: usize, max_tokens: usize) -> Request {
    let digit = |place: u32| 300 + (number / 40u32.pow(place % 2)) % 40;
    Request {
        prompt: (0..n_prompt as u32).map(digit).collect(),
        max_tokens,
        sampling: SamplerSettings::greedy(),
        stop: Stop { ignore_eos: true, ..Stop::default() },
        agent: format!("agent-{number}"),
        ..Request::default()
    }
}

fn lane(numbers: std::ops::Range<u32>, n_prompt: usize, max_tokens: usize) -> Vec<Due> {
    numbers.map(|n| Due { at: None, request: request(n, n_prompt, max_tokens) }).collect()
}

fn play(limits: Limits, lanes: Vec<Vec<Due>>) -> Run {
    Rehearsal::new(limits, tokenizer(), &simple, Duration::from_millis(1)).play(lanes)
}

fn ms(duration: Duration) -> u128 {
    duration.as_millis()
}

// proves A22 (in part: a lane alone takes the time of its batches)
#[test]
fn a_lane_alone_takes_what_its_batches_cost() {
    let run = play(limits(), vec![lane(0..2, 100, 3)]);
    let [first, second] = &run.lanes[0][..] else { panic!("two requests: {run:?}") };
    let times = |played: &Played| played.tokens.iter().copied().map(ms).collect::<Vec<_>>();
    // A prompt of 100 rows, then a row for each token after the first.
    assert_eq!((ms(first.sent), times(first), ms(first.end)), (0, vec![110, 121, 132], 132));
    // The client takes a millisecond to ask again.
    assert_eq!((ms(second.sent), times(second)), (133, vec![243, 254, 265]));
    assert_eq!((ms(run.wall), ms(run.busy)), (265, 264));
    assert_eq!(run.pages_peak, 102usize.div_ceil(PAGE_LEN));
    let spent = Spent { prompts: Duration::from_millis(110), ..Spent::default() };
    assert_eq!(first.before_first, spent);
    let spent = Spent { generation: Duration::from_millis(22), ..Spent::default() };
    assert_eq!(first.after_first, spent);
}

// proves A22 (in part: what comes is answered once, whatever is short)
#[test]
fn every_request_is_answered_once() {
    for limits in [
        limits(),
        Limits { max_running: 3, ..limits() },
        Limits { n_pages: 12, ..limits() },
        Limits { n_pages: 9, max_rows: 32, ..limits() },
    ] {
        let due = |n: u32| Due {
            at: Some(Duration::from_millis(u64::from(n * 7919 % 3000))),
            request: request(n, 40 + n as usize, 20 + n as usize % 30),
        };
        let lanes: Vec<Vec<Due>> =
            (0..60).map(|n| vec![due(n)]).chain([lane(60..80, 50, 9)]).collect();
        let asked: Vec<usize> = lanes.iter().flatten().map(|due| due.request.max_tokens).collect();
        let run = play(limits, lanes);
        let played: Vec<&Played> = run.lanes.iter().flatten().collect();
        let got: Vec<usize> = played.iter().map(|played| played.tokens.len()).collect();
        assert_eq!(got, asked, "{limits:?}");
        for played in played {
            assert!(played.answer.is_ok() && played.tokens.is_sorted(), "{played:?}");
            assert!(played.sent < played.tokens[0] && played.tokens.last() == Some(&played.end));
            let spent = played.before_first;
            let waited = played.tokens[0] - played.sent;
            // The batch that was running when it came began before.
            let most = waited + Duration::from_millis(10 + limits.max_rows as u64);
            assert!(spent.prompts + spent.generation <= most, "{played:?}");
        }
        assert!(run.busy <= run.wall && run.pages_peak <= limits.n_pages);
    }
}

#[test]
fn what_is_short_is_what_was_waited_for() {
    let all = |limits| play(limits, (0..8).map(|n| lane(n..n + 1, 60, 40)).collect());
    let waited = |run: &Run| {
        let spent = run.lanes.iter().flatten().map(|played| played.before_first);
        spent.fold([Duration::ZERO; 3], |[a, b, c], s| {
            [a + s.no_pages, b + s.no_places, c + s.no_pace]
        })
    };
    assert_eq!(waited(&all(limits())), [Duration::ZERO; 3]);
    let [pages, places, pace] = waited(&all(Limits { max_running: 2, ..limits() }));
    assert!(
        pages.is_zero() && pace.is_zero() && places > Duration::from_secs(1),
        "{pages:?} {places:?}"
    );
    let [pages, places, pace] = waited(&all(Limits { n_pages: 10, ..limits() }));
    assert!(
        places.is_zero() && pace.is_zero() && pages > Duration::from_secs(1),
        "{pages:?} {places:?}"
    );
}

#[test]
fn what_cannot_be_served_is_refused_and_the_lane_goes_on() {
    let few = Limits { max_running: 1, max_queue: 0, ..limits() };
    let run = play(few, vec![lane(0..1, 60, 4), lane(1..3, 60, 4)]);
    assert_eq!(run.lanes[1].len(), 2);
    let refused = run.lanes[1][0].answer.as_ref().unwrap_err();
    assert!(refused.to_string().contains("--max-queue"), "{refused}");
    let long = play(limits(), vec![lane(0..1, 64 * PAGE_LEN, 1)]);
    assert!(matches!(long.lanes[0][0].answer, Err(EngineError::ContextLength { .. })));
}

// proves A22 (in part: what sequences share is fetched once for all of them)
#[test]
fn pages_that_are_shared_count_once() {
    let most = std::cell::Cell::new((0, 0));
    let cost = |work: &Work| {
        most.set(most.get().max((work.decode_rows, work.decode_pages)));
        simple(work)
    };
    let lanes: Vec<Vec<Due>> = (0..10)
        .map(|n| {
            let mut request = request(0, 4 * PAGE_LEN, 8);
            request.prompt.push(310 + n);
            vec![Due { at: None, request }]
        })
        .collect();
    Rehearsal::new(limits(), tokenizer(), &cost, Duration::ZERO).play(lanes);
    // Four pages for all, and one of its own for each.
    assert_eq!(most.get(), (10, 4 + 10));
}

#[test]
fn a_prefix_is_read_once_and_what_a_play_leaves_is_found() {
    let cost = |work: &Work| simple(work);
    let mut rehearsal = Rehearsal::new(limits(), tokenizer(), &cost, Duration::ZERO);
    let cached = |run: &Run| {
        let finished = run.lanes.iter().flatten().map(|played| played.answer.clone().unwrap());
        finished.map(|finished| finished.cached_tokens).collect::<Vec<_>>()
    };
    let first = rehearsal.play(vec![lane(7..8, 100, 2)]);
    let again = rehearsal.play(vec![lane(7..8, 100, 2)]);
    assert_eq!((cached(&first), cached(&again)), (vec![0], vec![99]));
    assert!(again.lanes[0][0].sent.is_zero(), "times are since the start of the play");
}
