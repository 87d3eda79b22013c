//! Profiles by hand: sums, shares, the table and the trace.

use super::trace::{Event, Trace};
use super::*;
use expect_test::expect;
use std::time::Duration;

const ROOFS: Roofs =
    Roofs { read: Some(1e10), int8: Some(4e11), bf16: Some(2e11), f32: Some(1e11) };

fn step(name: &str, kind: &str, layer: Option<usize>, ms: f64, work: Work) -> StepTime {
    let (name, kind) = (name.into(), kind.into());
    StepTime { name, kind, layer, n_calls: 4.0, seconds: ms / 1e3, work }
}

fn int8(bytes: f64, flops: f64) -> Work {
    Work { bytes, flops, int8_flops: flops, bf16_flops: 0.0 }
}

fn steps() -> Vec<StepTime> {
    let none = Work::default();
    let attention = Work { bytes: 1e7, flops: 5e8, int8_flops: 0.0, bf16_flops: 0.0 };
    vec![
        step("token_embd", "embed", None, 1.0, none),
        step("blk.0.attn_norm.prepare", "prepare", Some(0), 2.0, none),
        step("blk.0.ffn_down", "linear", Some(0), 20.0, int8(1e8, 4e9)),
        step("blk.1.attn", "attention", Some(1), 10.0, attention),
        step("blk.1.attn_norm.prepare", "prepare", Some(1), 2.0, none),
        step("blk.1.ffn_down", "linear", Some(1), 30.0, int8(1e8, 4e9)),
        step("output", "linear", None, 30.0, int8(2e8, 1e9)),
    ]
}

// proves P-10: per op time, bytes and operations, with the rest of the wall in sight.
#[test]
fn a_table_that_adds_up() {
    let profile = Profile::new(0.1, steps(), ROOFS).unwrap();
    expect![[r#"
        op                             calls          ms  of wall     GB/s     GOP/s  of roofline
        linear ffn_down                    8      50.000    50.0%     4.00    160.00        40.0%
        linear output                      4      30.000    30.0%     6.67     33.33        66.7%
        attention attn                     4      10.000    10.0%     1.00     50.00        50.0%
        prepare                            8       4.000     4.0%        -         -            -
        embed                              4       1.000     1.0%        -         -            -
        (between steps)                            5.000     5.0%
        wall                                     100.000   100.0%                           45.0%

        layer                          calls          ms  of wall     GB/s     GOP/s  of roofline
        layer 0                            8      22.000    22.0%     4.55    181.82        45.5%
        layer 1                           12      42.000    42.0%     2.62    107.14        35.7%
        (outside layers)                   8      31.000    31.0%     6.45     32.26        64.5%

        steps account for 95.0% of the wall (wanted: at least 90%, met)
        per-step overhead, neither linear layers nor attention: 10.0% (wanted of a 110M model: below 8%)
        roofline: read 10.0 GB/s, int8 400.0 GOP/s, bf16 200.0 GFLOP/s, f32 100.0 GFLOP/s
    "#]]
    .assert_eq(&profile.table());
    let parts: f64 = profile.ops.iter().map(|row| row.seconds).sum();
    assert!((parts + profile.between_seconds - profile.wall_seconds).abs() < 1e-12);
    let layers: f64 = profile.layers.iter().map(|row| row.seconds).sum();
    assert!((layers - parts).abs() < 1e-12, "each step is in one layer and in one op");
}

// proves B-13: exclusive times never sum to more than the wall.
// proves P-10: a sum that misses the wall by more than a tenth is called missed.
#[test]
fn what_does_not_add_up_is_said() {
    let of = |wall: f64| Profile::new(wall, steps(), ROOFS);
    assert!(of(0.095).is_ok() && of(0.0949).is_err() && of(0.0).is_err());
    let error = of(0.05).unwrap_err().to_string();
    assert!(error.contains("0.09500 s of 0.05000 s on the wall"), "{error}");
    assert!(of(0.105).unwrap().table().contains("(wanted: at least 90%, met)"));
    assert!(of(0.106).unwrap().table().contains("(wanted: at least 90%, missed)"));
}

#[test]
fn the_roofline_is_the_slower_of_reading_and_computing() {
    assert_eq!(ROOFS.seconds(&int8(1e10, 1e9)), Some(1.0));
    assert_eq!(ROOFS.seconds(&int8(1.0, 8e11)), Some(2.0));
    let mixed = Work { bytes: 0.0, flops: 7e11, int8_flops: 4e11, bf16_flops: 2e11 };
    assert_eq!(ROOFS.seconds(&mixed), Some(3.0), "each on its own peak");
    assert_eq!(ROOFS.seconds(&Work::default()), None);
    let unknown = Roofs { read: None, ..ROOFS };
    assert_eq!(unknown.seconds(&int8(1.0, 1e9)), None, "an unknown roof is not an infinite one");
    let profile = Profile::new(0.1, steps(), Roofs::default()).unwrap();
    assert_eq!(profile.share_of_roofline, None);
    assert!(profile.table().contains("read not measured"));
    let fast = Profile::new(0.1, steps(), Roofs { read: Some(1e9), ..ROOFS }).unwrap();
    assert!(fast.table().contains("above 100%"), "{}", fast.table());
}

#[test]
fn a_trace_is_what_the_viewers_read() {
    let event = |worker: Option<usize>, start: u64, end: u64| Event {
        name: "blk.0.ffn_down",
        kind: "linear",
        layer: Some(0),
        batch: 2,
        worker,
        start: Duration::from_nanos(start),
        end: Duration::from_nanos(end),
        work: int8(1e4, 4e5),
    };
    let mut trace = Trace::default();
    let events = [event(None, 1_000, 5_000), event(Some(0), 1_500, 4_900)];
    trace.run("tg32", 1, &ROOFS, events.into_iter());
    let text = trace.to_json().replace("},{\"ph\"", "},\n{\"ph\"");
    expect![[r#"
        {"displayTimeUnit":"ns","traceEvents":[{"ph":"M","name":"process_name","pid":1,"tid":0,"args":{"name":"tg32"}},
        {"ph":"M","name":"thread_name","pid":1,"tid":0,"args":{"name":"steps"}},
        {"ph":"M","name":"thread_name","pid":1,"tid":1,"args":{"name":"worker 0"}},
        {"ph":"X","name":"blk.0.ffn_down","cat":"linear","pid":1,"tid":0,"ts":1.0,"dur":4.0,"args":{"kind":"linear","layer":0,"batch":2,"bytes":10000.0,"flops":400000.0,"share_of_roofline":0.25}},
        {"ph":"X","name":"blk.0.ffn_down","cat":"linear","pid":1,"tid":1,"ts":1.5,"dur":3.4,"args":{"kind":"linear","layer":0,"batch":2}}]}
    "#]]
    .assert_eq(&text);
}
