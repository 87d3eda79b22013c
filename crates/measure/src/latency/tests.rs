//! Latencies by hand, and the benchmark's two written forms.

use super::*;
use expect_test::expect;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn figures_of_two_requests_by_hand() {
    let requests = [
        RequestTimes { sent: ms(0), tokens: vec![ms(100), ms(120), ms(150)] },
        RequestTimes { sent: ms(50), tokens: vec![ms(250), ms(290)] },
        RequestTimes { sent: ms(60), tokens: vec![] },
    ];
    let figures = request_figures(&requests, "toy").unwrap();
    let lines: Vec<String> = figures.iter().map(Figure::line).collect();
    expect![[r#"
        ttft_ms 150.0 ms (measured, n=2)
        itl_ms 30.00 ms (measured, n=3)
        e2e_ms 195.0 ms (measured, n=2)
        output_tokens_per_s 17.24 tokens/s (measured, n=2)"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn what_did_not_happen_is_not_reported_as_zero() {
    let one = [RequestTimes { sent: ms(5), tokens: vec![ms(5)] }];
    let figures = request_figures(&one, "toy").unwrap();
    assert_eq!((figures[1].value(), figures[3].value()), (None, None));
    assert!(figures[1].reason().unwrap().contains("one token"));
    let none = [RequestTimes { sent: ms(5), tokens: vec![] }];
    assert!(request_figures(&none, "toy").unwrap_err().to_string().contains("no samples"));
    let backwards = [RequestTimes { sent: ms(5), tokens: vec![ms(2)] }];
    assert!(request_figures(&backwards, "toy").unwrap_err().to_string().contains("negative"));
}

fn subject(model_type: &str, model_size: u64, model_n_params: u64) -> BenchSubject {
    BenchSubject {
        build_commit: "abc1234".into(),
        cpu_info: "Zen".into(),
        backends: "avx512".into(),
        model_filename: "m.gguf".into(),
        model_type: model_type.into(),
        model_size,
        model_n_params,
        n_threads: 2,
        type_k: "f16".into(),
        type_v: "f16".into(),
    }
}

fn result(n_prompt: usize, n_gen: usize, n_depth: usize, seconds: &[f64]) -> BenchResult {
    let subject = subject("llama 1B Q4_0", 637_699_456, 1_100_048_384);
    let time = "2026-11-21T12:00:00Z".to_string();
    let test = BenchTest { n_prompt, n_gen, n_depth, n_sequences: 1 };
    BenchResult::new(subject, test, time, seconds).unwrap()
}

#[test]
fn json_has_llama_bench_fields() {
    let result = result(512, 0, 0, &[4.0, 5.0]);
    let json = serde_json::to_string_pretty(&result).unwrap();
    expect![[r#"
        {
          "build_commit": "abc1234",
          "cpu_info": "Zen",
          "backends": "avx512",
          "model_filename": "m.gguf",
          "model_type": "llama 1B Q4_0",
          "model_size": 637699456,
          "model_n_params": 1100048384,
          "n_threads": 2,
          "type_k": "f16",
          "type_v": "f16",
          "n_prompt": 512,
          "n_gen": 0,
          "n_depth": 0,
          "depth": 0,
          "sequences": 1,
          "test_time": "2026-11-21T12:00:00Z",
          "avg_ns": 4500000000,
          "stddev_ns": 707106781,
          "avg_ts": 115.2,
          "stddev_ts": 18.101933598375613,
          "samples_ns": [
            4000000000,
            5000000000
          ],
          "samples_ts": [
            128.0,
            102.4
          ],
          "ceiling": null,
          "share": null,
          "share_samples": []
        }"#]]
    .assert_eq(&json);
    assert_eq!(serde_json::from_str::<BenchResult>(&json).unwrap(), result);
    let forged = json.replace("\"avg_ts\": 115", "\"avg_ts\": 215");
    assert_ne!(forged, json);
    assert!(serde_json::from_str::<BenchResult>(&forged).is_err());
}

#[test]
fn markdown_has_llama_bench_columns() {
    let mut small = result(0, 128, 1024, &[2.0]);
    small.0.subject = subject("llama 260K F32", 1_056_540, 264_128);
    let read = held("memory_read", Unit::BytesPerSecond, &[20.0, 30.0]);
    let rows = [result(512, 0, 0, &[4.0, 5.0]), result(8, 8, 0, &[1.0, 1.0]).held(read), small];
    let table = markdown(&rows);
    let widths: Vec<usize> = table.lines().map(|line| line.chars().count()).collect();
    assert_eq!(widths, [163; 5]);
    let cells = |line: &str| line.split('|').map(str::trim).collect::<Vec<_>>().join("|");
    let table = table.replace("-----", "=");
    let narrow: Vec<String> = table.lines().map(cells).collect();
    expect![[r#"
        |model|size|params|backend|threads|kv|test|t/s|share of ceiling|
        |======|=----:|=----:|==|=-:|----|===--:|===----:|=====-|
        |llama 1B Q4_0|608.16 MiB|1.10 B|avx512|2|f16|pp512|115.20 ± 18.10|not probed|
        |llama 1B Q4_0|608.16 MiB|1.10 B|avx512|2|f16|pp8+tg8|16.00 ± 0.00|50% of 25.0 GB/s read|
        |llama 260K F32|1.01 MiB|0.26 M|avx512|2|f16|tg128 @ d1024|64.00 ± n/a|not probed|"#]]
    .assert_eq(&narrow.join("\n"));
}

#[test]
fn the_figure_is_the_median_and_keeps_the_count() {
    let figure = result(0, 100, 0, &[1.0, 2.0, 4.0]).figure().unwrap();
    assert_eq!((figure.name(), figure.value(), figure.n()), ("tg100_tokens_per_s", Some(50.0), 3));
}

#[test]
fn nothing_to_time_is_an_error() {
    let of = |n_gen, seconds: &[f64]| {
        let test = BenchTest { n_prompt: 0, n_gen, n_depth: 0, n_sequences: 1 };
        BenchResult::new(subject("m", 1, 1), test, String::new(), seconds).is_err()
    };
    assert!(of(0, &[1.0]) && of(5, &[]) && of(5, &[0.0]) && of(5, &[-1.0]));
}

/// Two runs at 1 and 1.5 units per second, each beside a probe in units of 1e9.
fn held(name: &str, unit: Unit, probes: &[f64]) -> Held {
    let probes = probes.iter().map(|probe| probe * 1e9).collect();
    Held::new(name, unit, 1e10, &[1.0, 1.5], probes).unwrap()
}

#[test]
fn a_share_is_of_the_neighbouring_probe() {
    let read = held("memory_read", Unit::BytesPerSecond, &[20.0, 20.0]);
    assert_eq!(read.share_samples, [0.5, 0.75]);
    assert_eq!((read.share, read.ceiling.per_second), (0.625, 2e10));
    assert_eq!(read.ceiling.text(), "20.0 GB/s read");
    let int8 = held("int8_peak", Unit::OpsPerSecond, &[15.0, 15.0]);
    assert_eq!(int8.ceiling.text(), "15.0 GOP/s int8");
    // What bounds a run is the ceiling that it comes nearest to.
    assert_eq!(nearest(vec![read.clone(), int8.clone()]), Some(int8));
    assert_eq!(nearest(vec![read.clone()]), Some(read));
    assert_eq!(nearest(vec![]), None);
    let unpaired = Held::new("x", Unit::OpsPerSecond, 1.0, &[1.0, 1.5], vec![1.0]);
    assert!(unpaired.unwrap_err().to_string().contains("2 runs and 1 probes"));
    assert!(Held::new("x", Unit::OpsPerSecond, 1.0, &[1.0], vec![0.0]).is_err());
    let json = serde_json::to_string(&result(8, 0, 0, &[1.0, 1.0]).held(held(
        "memory_read",
        Unit::BytesPerSecond,
        &[20.0, 20.0],
    )))
    .unwrap();
    let wanted = "\"ceiling\":{\"name\":\"memory_read\",\"unit\":\"bytes/s\",\"per_second\":20000000000.0,\
         \"samples\":[20000000000.0,20000000000.0],\"work_per_token\":10000000000.0},\
         \"share\":0.625,\"share_samples\":[0.5,0.75]}";
    assert!(json.ends_with(wanted), "{json}");
}

#[test]
fn tests_are_named_by_what_they_do() {
    let name = |n_prompt, n_gen, n_depth, n_sequences| {
        BenchTest { n_prompt, n_gen, n_depth, n_sequences }.name()
    };
    assert_eq!(name(512, 0, 0, 1), "pp512");
    assert_eq!(name(0, 64, 256, 16), "tg64 x 16 @ d256");
    assert_eq!(BenchTest { n_prompt: 0, n_gen: 64, n_depth: 256, n_sequences: 4 }.n_tokens(), 256);
}
