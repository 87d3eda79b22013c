//! Starts by hand: the table, its targets, and what could not be told.

use super::*;
use expect_test::expect;

fn samples() -> StartSamples {
    let warm = [0.110, 0.112, 0.108].map(|s| Start { first_token: s, prefill: 0.080 });
    StartSamples {
        model: "model.gguf".into(),
        n_threads: 2,
        file_bytes: 600_000_000,
        weight_bytes: 590_000_000,
        image_bytes: 600_000_000,
        is_shared: true,
        read_seconds: vec![0.30, 0.31, 0.29],
        memory_read: vec![3e10, 3e10],
        cold: vec![Start { first_token: 0.7, prefill: 0.080 }],
        warm: warm.to_vec(),
        pairs: Ok(vec![Pair { alone: 7e8, both: 7.118e8 }]),
    }
}

// proves A21 (the judgement): the second process's PSS is held against 5% of the weights.
#[test]
fn starts_stand_beside_their_targets() {
    let report = StartReport::new(&samples()).unwrap();
    expect![[r#"
        model.gguf: 600.0 MB of files, 590.0 MB of weights, 2 threads
                                         median         95% interval        n  target
        read_file_ms                   300.0 ms                             3
        pack_at_memory_speed_ms        40.00 ms                      computed
        cold_first_token_ms            700.0 ms                             1  at most 510.0 ms: missed
        warm_first_token_ms            110.0 ms                             3
        prefill_ms                     80.00 ms                             3
        warm_beyond_prefill_ms         30.00 ms                             3  at most 50.00 ms: met
        second_process_percent          2.000 %                             1  at most 5.000 %: met
    "#]]
    .assert_eq(&report.table());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["targets"][2]["status"], "met");
    assert_eq!(json["metrics"][6]["name"], "second_process_percent");
}

#[test]
fn what_is_not_shared_or_not_told_is_said() {
    let apart = StartSamples {
        is_shared: false,
        pairs: Ok(vec![Pair { alone: 7e8, both: 13e8 }]),
        ..samples()
    };
    let table = StartReport::new(&apart).unwrap().table();
    assert!(table.contains("at most 5.000 %: missed"), "{table}");
    assert!(table.contains("each process packs its own"), "{table}");
    let untold = StartSamples { pairs: Err("no smaps_rollup".into()), ..samples() };
    let table = StartReport::new(&untold).unwrap().table();
    assert!(table.contains("not evaluated (no smaps_rollup)"), "{table}");
    let none = StartSamples { cold: vec![], ..samples() };
    assert!(StartReport::new(&none).unwrap_err().to_string().contains("no samples"));
}
