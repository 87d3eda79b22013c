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
    BenchResult::new(subject, n_prompt, n_gen, n_depth, time, seconds).unwrap()
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
          ]
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
    let rows = [result(512, 0, 0, &[4.0, 5.0]), result(8, 8, 0, &[1.0, 1.0]), small];
    let table = markdown(&rows);
    let widths: Vec<usize> = table.lines().map(|line| line.chars().count()).collect();
    assert_eq!(widths, [124; 5]);
    let cells = |line: &str| line.split('|').map(str::trim).collect::<Vec<_>>().join("|");
    let table = table.replace("-----", "=");
    let narrow: Vec<String> = table.lines().map(cells).collect();
    expect![[r#"
        |model|size|params|backend|threads|test|t/s|
        |======|=----:|=----:|==|=-:|==----:|===----:|
        |llama 1B Q4_0|608.16 MiB|1.10 B|avx512|2|pp512|115.20 ± 18.10|
        |llama 1B Q4_0|608.16 MiB|1.10 B|avx512|2|pp8+tg8|16.00 ± 0.00|
        |llama 260K F32|1.01 MiB|0.26 M|avx512|2|tg128 @ d1024|64.00 ± n/a|"#]]
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
        BenchResult::new(subject("m", 1, 1), 0, n_gen, 0, String::new(), seconds).is_err()
    };
    assert!(of(0, &[1.0]) && of(5, &[]) && of(5, &[0.0]) && of(5, &[-1.0]));
}
