//! The arithmetic of arrivals.

use super::*;
use crate::load::prompt::Vocabulary;

const SHAPE: Shape = Shape { n_agents: 16, n_requests: 2, n_prefix: 240, n_own: 16, n_gen: 64 };

fn of(traffic: Traffic, seed: u64) -> Arrivals {
    Arrivals::of(&traffic, seed).unwrap()
}

#[test]
fn agents_start_together_and_send_one_after_the_other() {
    let arrivals = of(Traffic::Closed(SHAPE), 1);
    assert_eq!((arrivals.lanes.len(), arrivals.n_requests()), (16, 32));
    for (agent, lane) in arrivals.lanes.iter().enumerate() {
        assert!(lane.iter().all(|r| r.agent == agent && r.at.is_none() && r.n_gen == 64));
    }
    let vocabulary = Vocabulary::new(32_000).unwrap();
    let ids: Vec<_> =
        arrivals.lanes.iter().flatten().map(|r| r.prompt.ids(1, vocabulary)).collect();
    for (i, prompt) in ids.iter().enumerate() {
        assert_eq!(prompt[..240], ids[0][..240]);
        assert!(ids[..i].iter().all(|other| other[240..] != prompt[240..]));
    }
    let no_prefix = of(Traffic::Closed(Shape { n_prefix: 0, ..SHAPE }), 1);
    assert_eq!(no_prefix.lanes[0][0].prompt.parts.len(), 1);
}

#[test]
fn poisson_arrivals_keep_their_rate_and_their_seed() {
    let shape = Shape { n_agents: 10, n_requests: 2000, ..SHAPE };
    let arrivals = of(Traffic::Poisson { shape, rate: 4.0 }, 9);
    let times: Vec<f64> =
        arrivals.lanes.iter().map(|lane| lane[0].at.unwrap().as_secs_f64()).collect();
    assert!(times.is_sorted());
    let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    // The mean of 20,000 gaps has a standard error of 0.25 / sqrt(20,000) = 0.0018.
    assert!((mean - 0.25).abs() < 0.008, "seed 9: {mean}");
    // An exponential gap is above its mean with probability 1/e.
    let above = gaps.iter().filter(|gap| **gap > 0.25).count() as f64 / gaps.len() as f64;
    assert!((above - (-1.0f64).exp()).abs() < 0.015, "seed 9: {above}");
    assert!((0..20).all(|i| arrivals.lanes[i][0].agent == i % 10));
    assert_eq!(arrivals, of(Traffic::Poisson { shape, rate: 4.0 }, 9));
    assert_ne!(arrivals, of(Traffic::Poisson { shape, rate: 4.0 }, 10));
}

fn records() -> Vec<Record> {
    let record = |at, n_prompt, blocks: &[u64]| {
        let blocks = blocks.to_vec();
        Record { at, n_prompt, n_gen: 100, blocks }
    };
    vec![
        record(0.0, 1100, &[7, 8, 9]),
        record(4.0, 1024, &[7, 8]),
        record(10.0, 600, &[7, 10]),
        record(20.0, 3, &[]),
    ]
}

const REPLAY: Replay = Replay { n_agents: 3, time_scale: 1.0, token_scale: 1.0, duration: None };

#[test]
fn a_trace_is_played_at_its_times_and_lengths() {
    let replay = Replay { time_scale: 0.5, token_scale: 0.25, ..REPLAY };
    let arrivals = of(Traffic::Replay { records: records(), replay }, 1);
    let flat: Vec<&Request> = arrivals.lanes.iter().flatten().collect();
    let seen: Vec<_> = flat
        .iter()
        .map(|r| (r.agent, r.at.unwrap().as_secs_f64(), r.prompt.n_tokens(), r.n_gen))
        .collect();
    assert_eq!(seen, [(0, 0.0, 275, 25), (1, 2.0, 256, 25), (2, 5.0, 150, 25), (0, 10.0, 1, 25)]);
    let vocabulary = Vocabulary::new(32_000).unwrap();
    let ids: Vec<_> = flat.iter().map(|r| r.prompt.ids(1, vocabulary)).collect();
    assert_eq!(ids[0][..256], ids[1][..256]);
    assert_eq!(ids[0][..128], ids[2][..128]);
    assert_ne!(ids[0][128..150], ids[2][128..150]);
    let short = Replay { duration: Some(Duration::from_secs(5)), ..replay };
    assert_eq!(of(Traffic::Replay { records: records(), replay: short }, 1).n_requests(), 2);
}

#[test]
fn tiny_scales_leave_a_token_and_large_ones_are_refused() {
    let tiny = Replay { token_scale: 1e-9, ..REPLAY };
    let arrivals = of(Traffic::Replay { records: records(), replay: tiny }, 1);
    let lengths = arrivals.lanes.iter().flatten().map(|r| (r.prompt.n_tokens(), r.n_gen));
    assert!(lengths.eq([(1, 1); 4]));
    let error = |traffic| Arrivals::of(&traffic, 1).unwrap_err().to_string();
    let large = Replay { token_scale: 1e4, ..REPLAY };
    let said = error(Traffic::Replay { records: records(), replay: large });
    assert!(said.contains("request 1 of the trace has 11000000 tokens"), "{said}");
    for wrong in [f64::NAN, -1.0, f64::INFINITY] {
        let replay = Replay { time_scale: wrong, ..REPLAY };
        assert!(error(Traffic::Replay { records: records(), replay }).contains("time scale"));
        assert!(error(Traffic::Poisson { shape: SHAPE, rate: wrong }).contains("per second"));
    }
    let none = Replay { duration: Some(Duration::ZERO), ..REPLAY };
    let said = error(Traffic::Replay { records: records(), replay: none });
    assert!(said.contains("no request of the trace is due"), "{said}");
    let said = error(Traffic::Closed(Shape { n_prefix: 0, n_own: 0, ..SHAPE }));
    assert!(said.contains("0 tokens in a prompt"), "{said}");
    let said = error(Traffic::Closed(Shape { n_agents: usize::MAX, ..SHAPE }));
    assert!(said.contains("1 to 1000000"), "{said}");
}

#[test]
fn warming_up_shares_nothing_with_the_run() {
    let arrivals = of(Traffic::Closed(SHAPE), 1);
    let warm_up = arrivals.warm_up(3);
    assert_eq!(warm_up.len(), 3);
    let vocabulary = Vocabulary::new(32_000).unwrap();
    let first = arrivals.lanes[0][0].prompt.ids(1, vocabulary);
    for request in &warm_up {
        let ids = request.prompt.ids(1, vocabulary);
        assert_eq!(ids.len(), first.len());
        assert_ne!(ids[..4], first[..4]);
    }
    assert_eq!(arrivals.warm_up(40).len(), 40);
    assert!(arrivals.warm_up(0).is_empty());
}

// proves A22 (in part: more agents mean more of the same load)
#[test]
fn more_agents_ask_as_often_each() {
    let (shape, rate) = (SHAPE, 3.0);
    let double = 2 * SHAPE.n_agents;
    let closed = Traffic::Closed(shape).with_agents(double);
    assert_eq!(closed, Traffic::Closed(Shape { n_agents: double, ..shape }));
    let Traffic::Poisson { shape, rate } = Traffic::Poisson { shape, rate }.with_agents(double)
    else {
        panic!("it stays random")
    };
    assert_eq!((shape.n_agents, rate), (double, 6.0));
    let trace = Traffic::Replay { records: records(), replay: REPLAY };
    let times = |traffic: Traffic| {
        let arrivals = of(traffic, 1);
        let at = arrivals.lanes.iter().flatten().map(|r| r.at.unwrap().as_secs_f64());
        at.collect::<Vec<_>>()
    };
    let (once, twice) = (times(trace.clone()), times(trace.with_agents(2 * REPLAY.n_agents)));
    assert!(once.iter().zip(&twice).all(|(a, b)| *a == 2.0 * b), "{once:?} {twice:?}");
}
