//! Every way to write a dishonest figure, and the JSON of the honest ones.

use super::*;
use crate::testing::fold;
use expect_test::expect;

fn samples(values: &[f64]) -> Samples {
    Samples::new("t", values.to_vec()).unwrap()
}

#[test]
fn json_of_each_source() {
    let measured = Figure::measured(
        "ttft_ms",
        Unit::Milliseconds,
        "30 prompts of 512 tokens",
        &samples(&[3.0, 1.0, 2.0]),
    );
    let watts = Figure::unavailable("power", Unit::Watts, "RAPL", "no powercap in this container");
    let all = [
        measured.unwrap(),
        Figure::read("pss_bytes", Unit::Bytes, "smaps_rollup", 4096.0).unwrap(),
        Figure::computed("file_bytes", Unit::Bytes, "sum over tensors", 10.0).unwrap(),
        Figure::target("drop", Unit::Percent, "--max-drop", 1.0).unwrap(),
        watts.unwrap(),
    ];
    let lines: Vec<String> = all.iter().map(|f| serde_json::to_string(f).unwrap()).collect();
    let fields: Vec<String> = lines.iter().map(|line| line.replace(",\"", ", \"")).collect();
    expect![[r#"
        {"name":"ttft_ms", "value":2.0, "unit":"ms", "source":"measured", "method":"30 prompts
          of 512 tokens", "n":3, "mean":2.0, "median":2.0, "p95":null, "p99":null, "stddev":1.0,
          "ci95":null}
        {"name":"pss_bytes", "value":4096.0, "unit":"bytes", "source":"measured",
          "method":"smaps_rollup", "n":1, "mean":null, "median":null, "p95":null, "p99":null,
          "stddev":null, "ci95":null}
        {"name":"file_bytes", "value":10.0, "unit":"bytes", "source":"computed", "method":"sum
          over tensors", "n":0, "mean":null, "median":null, "p95":null, "p99":null,
          "stddev":null, "ci95":null}
        {"name":"drop", "value":1.0, "unit":"%", "source":"target", "method":"--max-drop",
          "n":0, "mean":null, "median":null, "p95":null, "p99":null, "stddev":null, "ci95":null}
        {"name":"power", "value":null, "unit":"W", "source":"unavailable", "method":"RAPL",
          "n":0, "mean":null, "median":null, "p95":null, "p99":null, "stddev":null, "ci95":null,
          "reason":"no powercap in this container"}"#]]
    .assert_eq(&fold(&fields.join("\n")));
    for (figure, line) in all.iter().zip(&lines) {
        assert_eq!(&serde_json::from_str::<Figure>(line).unwrap(), figure);
    }
    let printed: Vec<String> = all.iter().map(Figure::line).collect();
    expect![[r#"
        ttft_ms 2.000 ms (measured, n=3)
        pss_bytes 4096 bytes (measured, n=1)
        file_bytes 10 bytes (computed)
        drop 1.000 % (target)
        power unavailable: no powercap in this container"#]]
    .assert_eq(&fold(&printed.join("\n")));
}

#[test]
fn a_lying_figure_cannot_be_made() {
    let interval = |low, high| Some(Interval { low, high });
    let refused = [
        Figure::read("top1_accuracy", Unit::Fraction, "labels", 1.2),
        Figure::read("top1_accuracy", Unit::Percent, "labels", 91.0),
        Figure::read("flip_agreement", Unit::Ratio, "argmax", 0.5),
        Figure::read("nll", Unit::NatsPerToken, "score", f64::NAN),
        Figure::read("nll", Unit::NatsPerToken, "score", -1.0),
        Figure::read("speed", Unit::TokensPerSecond, "", 1.0),
        Figure::read(" ", Unit::Count, "m", 1.0),
        Figure::estimated("ppl", Unit::Perplexity, "score", 5.0, 0, None),
        Figure::estimated("ppl", Unit::Perplexity, "score", 5.0, 9, interval(6.0, 7.0)),
        Figure::estimated("ppl", Unit::Perplexity, "score", 5.0, 9, interval(f64::NAN, 7.0)),
        Figure::computed("bytes", Unit::Bytes, "sum", f64::INFINITY),
        Figure::unavailable("power", Unit::Watts, "RAPL", ""),
    ];
    let text: Vec<String> = refused.into_iter().map(|f| f.unwrap_err().to_string()).collect();
    expect![[r#"
        top1_accuracy: 1.2 fraction is impossible (a fraction is in 0..=1); the method is wrong
        top1_accuracy: 91 % is impossible (an accuracy or agreement is a fraction in 0..=1); the
          method is wrong
        flip_agreement: 0.5 ratio is impossible (an accuracy or agreement is a fraction in
          0..=1); the method is wrong
        nll: NaN nats/token is impossible (a figure is a finite number); the method is wrong
        nll: -1 nats/token is impossible (it cannot be negative); the method is wrong
        speed: its method is empty; say how the number came about
        : its name is empty; say how the number came about
        ppl: no samples were taken, so there is nothing to report; run at least one round
        ppl: 5 perplexity is impossible (a value lies inside its own 95% interval); the method
          is wrong
        ppl: NaN perplexity is impossible (a figure is a finite number); the method is wrong
        bytes: inf bytes is impossible (a figure is a finite number); the method is wrong
        power: its reason is empty; say how the number came about"#]]
    .assert_eq(&fold(&text.join("\n")));
}

#[test]
fn json_from_elsewhere_passes_the_same_checks() {
    let honest = Figure::read("top1_accuracy", Unit::Fraction, "labels", 0.9).unwrap();
    let json = serde_json::to_string(&honest).unwrap();
    for (honest_part, lie) in [
        (r#""value":0.9"#, r#""value":9.9"#),
        (r#""n":1"#, r#""n":0"#),
        (r#""value":0.9"#, r#""value":null"#),
        (r#""source":"measured""#, r#""source":"unavailable""#),
        (r#""source":"measured""#, r#""source":"computed""#),
        (r#""source":"measured""#, r#""source":"assumed""#),
        (r#""n":1"#, r#""n":1,"bonus":2"#),
    ] {
        let forged = json.replace(honest_part, lie);
        assert_ne!(forged, json);
        assert!(serde_json::from_str::<Figure>(&forged).is_err(), "{forged}");
    }
}

#[test]
fn enough_samples_bring_an_interval_and_tails() {
    let values: Vec<f64> = (0..100).map(f64::from).collect();
    let figure = Figure::measured("itl_ms", Unit::Milliseconds, "decode", &samples(&values));
    let figure = figure.unwrap();
    let interval = figure.ci95().unwrap();
    assert!(interval.contains(49.5) && interval.half_width() < 12.0);
    assert_eq!((figure.p95(), figure.p99()), (Some(94.05), Some(98.01)));
}

#[test]
fn short_numbers() {
    let shown: Vec<String> =
        [0.0, 1.0, 12.345, 0.12345, 0.001234, 99999.4, 1.5e9, -2.5, 3e-9].map(short).into();
    expect!["0.0 1.000 12.35 0.1235 0.001234 99999 1.500e9 -2.500 3.000e-9"]
        .assert_eq(&fold(&shown.join(" ")));
}
