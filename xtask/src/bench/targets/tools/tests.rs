//! The figures in what commands print, and reasons where they print something else.

use super::super::rows;
use super::*;
use serde_json::json;

fn row(figure: &str) -> Row {
    let text = format!(
        "[[row]]\nname = \"a\"\nwhat = \"b\"\nfigure = \"{figure}\"\nat_least = 0.7\n\
         shapes = [\"smoke\"]\nencodings = [\"Q4_0\"]\ntests = [\"pp16\"]\n"
    );
    rows::parse(&text).unwrap().remove(0)
}

#[test]
fn kernels_are_found_by_encoding_and_rows_and_the_slowest_counts() {
    let row = row("kernel_share");
    let case = Case { row: &row, shape: "smoke", encoding: "Q4_0", tests: &row.tests };
    let printed = json!([
        {"encoding": "q4_0", "shape": "256x512", "rows": 16, "share": 0.9},
        {"encoding": "Q4_0", "shape": "512x256", "rows": 16, "share": 0.6},
        {"encoding": "Q4_0", "shape": "512x256", "rows": 1, "share": 0.1},
        {"encoding": "Q8_0", "shape": "512x256", "rows": 16, "share": 0.2},
    ]);
    let (share, words) = kernel_share(&printed, &case).unwrap();
    assert_eq!((share, words.as_str()), (0.6, "slowest: 512x256 at 60%"));
    assert!(kernel_share(&json!([]), &case).unwrap_err().contains("no kernel of Q4_0"));
    assert!(kernel_share(&json!({}), &case).is_err());
}

#[test]
fn races_give_share_and_ratio_or_the_reason_of_who_failed() {
    let entrant =
        |summary: Value, reason: Option<&str>| json!({"summary": summary, "unavailable": reason});
    let race = |ours: Value, theirs: Value| json!({"rows": [{"entrants": [ours, theirs]}]});
    let ran = |ratio: Option<f64>| entrant(json!({"share": 0.5, "ratio": ratio}), None);
    let good = race(ran(None), ran(Some(2.0)));
    assert_eq!((ours(&good, "share"), ratio(&good)), (Ok(0.5), Ok(2.0)));
    let crashed = race(ran(None), entrant(Value::Null, Some("it crashed")));
    assert_eq!(ours(&crashed, "share"), Ok(0.5));
    assert_eq!(ratio(&crashed), Err("llama.cpp: it crashed".into()));
    assert!(ratio(&json!({})).unwrap_err().contains("no ratio"));
}

#[test]
fn the_speed_of_one_engine_is_the_median_of_its_runs() {
    let ran = |samples: Value| json!([{"samples_ts": samples}]);
    assert_eq!(median_speed(&ran(json!([30.0, 10.0, 20.0]))), Ok(20.0));
    assert_eq!(median_speed(&ran(json!([30.0, 10.0]))), Ok(20.0));
    assert!(median_speed(&ran(json!([]))).unwrap_err().contains("no sample"));
}

#[test]
fn profiles_give_overhead_attention_and_the_longest_ops() {
    let op = |name: &str, seconds: f64, roof: Option<f64>| {
        let share_of_wall = seconds;
        json!({
            "name": name,
            "seconds": seconds,
            "share_of_wall": share_of_wall,
            "share_of_roofline": roof,
        })
    };
    let ops = json!([
        op("linear ffn_down", 0.5, Some(0.8)),
        op("attention", 0.2, Some(0.6)),
        op("norm", 0.1, None),
        op("rope", 0.05, None),
    ]);
    let printed = json!({"tests": [{"profile": {"overhead": 0.15, "ops": ops}}]});
    assert_eq!(overhead(&printed), Ok(0.15));
    assert!((attention_share(&printed).unwrap() - 0.6).abs() < 1e-12);
    let words = "linear ffn_down 50% of time at 80% of roofline; attention 20% of time at 60% of \
                 roofline; norm 10% of time at no roofline";
    assert_eq!(profile_words(&printed).unwrap(), words);
    assert!(attention_share(&json!({})).is_err() && overhead(&json!({})).is_err());
}

#[test]
fn starts_give_their_metrics_or_reasons() {
    let metric_of = |name: &str, value: f64| json!({"name": name, "value": value});
    let printed = json!({"metrics": [
        metric_of("cold_first_token_ms", 300.0),
        metric_of("read_file_ms", 150.0),
        metric_of("pack_at_memory_speed_ms", 50.0),
        {"name": "second_process_percent", "value": null, "reason": "no smaps_rollup"},
    ]});
    assert_eq!(cold_start_ratio(&printed), Ok(1.5));
    assert_eq!(metric(&printed, "second_process_percent"), Err("no smaps_rollup".into()));
    assert!(metric(&printed, "warm_beyond_prefill_ms").unwrap_err().contains("has no warm"));
}

#[test]
fn what_a_command_says_becomes_the_reason() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "echo note >&2; echo 'error: no such flag' >&2; echo tip >&2; exit 2"]);
    assert_eq!(run(&mut shell), Err("exit status: 2: no such flag".into()));
    let mut shell = Command::new("sh");
    shell.args(["-c", "echo '[1]'; exit 1"]);
    assert_eq!(run(&mut shell), Ok(json!([1])));
}
