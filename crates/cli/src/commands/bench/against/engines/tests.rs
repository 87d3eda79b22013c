//! What is read from the engines' outputs, and what they are asked.

use super::*;
use std::path::PathBuf;

const PROMPT: Test = Test { n_prompt: 512, n_gen: 0, n_depth: 0, n_sequences: 1 };
const GENERATE: Test = Test { n_prompt: 0, n_gen: 128, n_depth: 0, n_sequences: 1 };

fn words(command: &Command) -> Vec<String> {
    command.get_args().map(|word| word.to_string_lossy().into_owned()).collect()
}

fn llama_cpp() -> (tempfile::TempDir, Box<dyn Engine>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("llama-bench"), "").unwrap();
    let peers = Peers::find(Some(folder.path())).unwrap();
    let engine = peer("llama.cpp", &peers).unwrap();
    (folder, engine)
}

#[test]
fn the_asked_test_is_read_from_llama_bench_output() {
    let (_folder, engine) = llama_cpp();
    let output = r#"[{"n_prompt": 512, "n_gen": 0, "n_depth": 64, "avg_ts": 90.0},
                     {"n_prompt": 512, "n_gen": 0, "n_depth": 0, "avg_ts": 97.5},
                     {"n_prompt": 0, "n_gen": 128, "avg_ts": 27.25}]"#;
    assert_eq!(engine.speed(output, PROMPT).unwrap(), 97.5);
    assert_eq!(engine.speed(output, Test { n_depth: 64, ..PROMPT }).unwrap(), 90.0);
    assert_eq!(engine.speed(output, GENERATE).unwrap(), 27.25);
    let why = |output: &str, test| format!("{:#}", engine.speed(output, test).unwrap_err());
    assert!(why(output, Test { n_gen: 64, ..GENERATE }).contains("no entry of tg64"));
    let zero = r#"[{"n_prompt": 512, "n_gen": 0, "avg_ts": 0}]"#;
    assert!(why(zero, PROMPT).contains("above zero"));
    assert!(why("oops", PROMPT).contains("no JSON list"));
}

#[test]
fn several_sequences_run_in_llama_batched_bench() {
    let (_folder, engine) = llama_cpp();
    let test = Test { n_gen: 64, n_depth: 256, n_sequences: 4, ..GENERATE };
    let command = engine.command(&PathBuf::from("m.gguf"), test, 2).unwrap();
    assert!(command.get_program().to_string_lossy().ends_with("llama-batched-bench"));
    let want = "-m m.gguf -t 2 -npp 256 -ntg 64 -npl 4 -c 1280 --output-format jsonl -fa off";
    assert_eq!(words(&command).join(" "), want);
    let output = "main: n_kv_max = 1\n{\"pl\": 1, \"tg\": 64, \"speed_tg\": 40.0}\n\
                  {\"pl\": 4, \"tg\": 64, \"speed_tg\": 67.5}\n";
    assert_eq!(engine.speed(output, test).unwrap(), 67.5);
}

#[test]
fn llama_cpp_generates_behind_a_context_without_flash_attention() {
    let (_folder, engine) = llama_cpp();
    let has_flag = |test| {
        let command = engine.command(&PathBuf::from("m.gguf"), test, 2).unwrap();
        words(&command).join(" ").contains("-fa off")
    };
    assert!(has_flag(Test { n_depth: 64, ..GENERATE }));
    assert!(!has_flag(GENERATE));
    assert!(!has_flag(Test { n_depth: 64, ..PROMPT }));
}

#[test]
fn openvino_prints_tokens_and_seconds_last() {
    let folder = tempfile::tempdir().unwrap();
    let python = folder.path().join("venv/bin/python");
    std::fs::create_dir_all(python.parent().unwrap()).unwrap();
    std::fs::write(&python, "").unwrap();
    let engine = peer("openvino", &Peers::find(Some(folder.path())).unwrap()).unwrap();
    let output = "a warning\n{\"tokens\": 512, \"seconds\": 2.0}\n";
    assert_eq!(engine.speed(output, PROMPT).unwrap(), 256.0);
    assert!(engine.speed("{\"tokens\": 512, \"seconds\": 0.0}", PROMPT).is_err());
    let command = engine.command(&PathBuf::from("m.gguf"), PROMPT, 2).unwrap();
    let shown = engine.shown(&command);
    assert!(shown.ends_with("venv/bin/python openvino.py m.gguf 512 0 0 2"), "{shown}");
    let batch = Test { n_sequences: 2, ..GENERATE };
    let deep = Test { n_depth: 64, ..PROMPT };
    for test in [batch, deep] {
        assert!(engine.command(&PathBuf::from("m.gguf"), test, 2).is_err());
    }
}

#[test]
fn a_missing_peer_names_what_installs_it() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::find(Some(folder.path())).unwrap();
    for name in NAMES {
        let error = peer(name, &peers).err().expect("there is nothing").to_string();
        assert!(error.contains(&format!("cargo xtask peers --only {name}")), "{error}");
    }
}
