//! The arithmetic of summaries.

use super::*;
use crate::load::outcome::{End, Failure};

fn answered(sent: f64, ttft: f64, itl: &[f64]) -> Outcome {
    let seconds = ttft + itl.iter().sum::<f64>();
    let answer = Answer {
        ttft,
        itl: itl.to_vec(),
        e2e: seconds,
        n_generated: 1 + itl.len(),
        n_prompt: Some(257),
        n_cached: Some(240),
    };
    outcome(sent, seconds, End::Answered(answer))
}

fn outcome(sent: f64, seconds: f64, end: End) -> Outcome {
    Outcome { agent: 0, n_prompt: 256, n_asked: 3, sent, late: sent / 10.0, seconds, end }
}

fn failed(sent: f64, failure: Failure) -> Outcome {
    outcome(sent, 1.0, End::Failed(failure))
}

fn busy(message: &str) -> Failure {
    Failure::Status { code: 429, retry_after: Some(1.0), message: message.into() }
}

#[test]
fn a_run_is_summed_up() {
    let run = [
        failed(1.0, Failure::Timeout),
        answered(1.0, 0.5, &[0.25, 0.25]),
        answered(2.0, 2.5, &[0.5]),
        failed(3.0, busy("a")),
        failed(4.0, busy("b")),
    ];
    let slo: Slo = "ttft=2s,itl=400ms".parse().unwrap();
    let summary = Summary::of(&[&run], Some(slo));
    assert_eq!((summary.n_requests, summary.n_done, summary.n_failed), (5, 2, 3));
    // Sent from 1 s on, the last ends at 5 s; 5 tokens.
    assert_eq!((summary.wall_seconds, summary.tokens_per_second), (4.0, 1.25));
    assert_eq!((summary.requests_per_second, summary.n_short), (0.5, 1));
    let ttft = summary.ttft.unwrap();
    assert_eq!((ttft.n, ttft.p50, ttft.max, ttft.p95), (2, 1.5, 2.5, None));
    assert_eq!(summary.itl.unwrap().mean, 1.0 / 3.0);
    assert_eq!(summary.e2e.unwrap().max, 3.0);
    let goodput = summary.goodput.unwrap();
    assert_eq!((goodput.requests_per_second, goodput.share), (0.25, 0.2));
    assert_eq!((summary.prompt_tokens, summary.cached_prompt_tokens), (514, Some(480)));
    assert_eq!(summary.late_seconds_max, 0.4);
    let errors: Vec<_> = summary.errors.iter().map(|e| (e.kind.as_str(), e.count)).collect();
    assert_eq!(errors, [("HTTP 429", 2), ("timeout", 1)]);
    assert_eq!(summary.errors[0].example, "HTTP 429: a");
}

#[test]
fn runs_are_pooled_and_tails_need_samples() {
    let run: Vec<Outcome> = (0..10).map(|i| answered(0.0, f64::from(i), &[])).collect();
    let one = Summary::of(&[&run], None);
    let two = Summary::of(&[&run, &run], None);
    assert_eq!((one.ttft.unwrap().p95, one.goodput), (None, None));
    assert!((two.ttft.unwrap().p95.unwrap() - 9.0).abs() < 1e-9);
    assert_eq!((two.ttft.unwrap().p99, two.itl), (None, None));
    assert_eq!((two.wall_seconds, two.tokens_per_second), (18.0, one.tokens_per_second));
}

#[test]
fn nothing_answered_is_no_division_by_zero() {
    let summary = Summary::of(&[&[failed(1.0, Failure::Refused)]], Some(Slo::default()));
    assert_eq!((summary.tokens_per_second, summary.ttft), (0.0, None));
    assert_eq!(summary.goodput.unwrap().share, 0.0);
    let none = Summary::of(&[], None);
    assert_eq!((none.n_requests, none.wall_seconds, none.requests_per_second), (0, 0.0, 0.0));
    assert_eq!(summary.over(&summary).ttft_p50, None);
    assert_eq!(summary.over(&summary).tokens_per_second, None);
}

#[test]
fn ratios_above_one_are_better() {
    let slow = Summary::of(&[&[answered(0.0, 2.0, &[1.0, 1.0])]], Some(Slo::default()));
    let fast = Summary::of(&[&[answered(0.0, 0.5, &[0.25, 0.25])]], Some(Slo::default()));
    let ratios = fast.over(&slow);
    assert_eq!((ratios.tokens_per_second, ratios.requests_per_second), (Some(4.0), Some(4.0)));
    assert_eq!(
        (ratios.ttft_p50, ratios.itl_p50, ratios.e2e_p50),
        (Some(4.0), Some(4.0), Some(4.0))
    );
    assert_eq!(ratios.goodput, Some(4.0));
    assert_eq!(slow.over(&fast).ttft_p50, Some(0.25));
}
