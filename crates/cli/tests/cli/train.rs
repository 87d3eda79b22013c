//! `sterna train` and `sterna distill`: killed, resumed, refused, and their models read by others.

use crate::{ok, refused, tiny};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Text, a tokenizer of 300 tokens and the config of a model that trains in moments.
fn prepare(at: &Path) {
    std::fs::write(at.join("text.txt"), tiny::text(200)).expect("writable");
    ok(at, &["tokenizer", "train", "text.txt", "--vocab-size", "300"]);
    let config = "
        [model]
        layers = 1
        dim = 64
        heads = 2
        ffn_dim = 128
        [data]
        text = ['text.txt']
        tokenizer = 'tokenizer.json'
        seq_len = 16
        [schedule]
        steps = 40
        batch = 2
        accumulate = 1
        [run]
        threads = 1
        save_every = 1
        eval_every = 0
    ";
    std::fs::write(at.join("small.toml"), config).expect("writable");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_killed_run_goes_on_to_the_same_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    prepare(at);
    let whole = json(&ok(at, &["train", "small.toml", "-o", "whole", "--json"]));
    assert_eq!(whole["steps"], 40);
    // The most steps of any checkpoint that a kill left behind.
    let newest = || {
        let files = std::fs::read_dir(at.join("killed")).into_iter().flatten();
        let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
        let step = |name: String| name.strip_prefix("checkpoint-")?.split_once('.')?.0.parse().ok();
        names.filter_map(step).max().unwrap_or(0)
    };
    let mut at_kills: Vec<u32> = Vec::new();
    for milliseconds in [0, 3, 7, 15, 1, 5] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sterna"))
            .args(["train", "small.toml", "-o", "killed"])
            .current_dir(at)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sterna starts");
        // Until it has done some steps of its own, or is done with all.
        let before = newest();
        while newest() < before + 3 && child.try_wait().expect("our child").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(milliseconds));
        // Signal 9, which no program can answer.
        child.kill().expect("our child");
        child.wait().expect("our child");
        at_kills.push(newest());
    }
    assert!(at_kills.iter().any(|step| (1..40).contains(step)), "killed at {at_kills:?}");
    let resumed = json(&ok(at, &["train", "small.toml", "-o", "killed", "--json"]));
    assert_eq!(resumed["held_out_nats_per_token"], whole["held_out_nats_per_token"]);
    let read = |name: &str| std::fs::read(at.join(name)).expect("a model");
    assert!(read("whole/model.gguf") == read("killed/model.gguf"));
}

#[test]
fn a_student_and_a_four_bit_model_are_models_like_others() {
    // proves S-5 and S-7 as far as their machinery goes; what they gain is an experiment.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    prepare(at);
    ok(at, &["train", "small.toml", "-o", "teacher", "--set", "run.save_as=F32"]);
    let teacher = "teacher/model.gguf";
    let args = ["distill", teacher, "small.toml", "-o", "student", "--seed", "2", "--json"];
    let student = json(&ok(at, &args));
    // Two windows a step, for forty steps.
    let n_windows = 80;
    let asked = |key: &str| student[key].as_u64().expect("a count");
    assert_eq!(asked("teacher_windows_computed") + asked("teacher_windows_cached"), n_windows);
    let args = ["train", "small.toml", "--init", teacher, "--qat", "Q4_0", "-o", "four", "--json"];
    let four = json(&ok(at, &args));
    let size = |run: &Value| run["bytes"].as_u64().expect("bytes");
    assert!(size(&four) < size(&student));
    assert!(ok(at, &["inspect", "four/model.gguf"]).contains("Q4_0"));
    for model in [teacher, "student/model.gguf", "four/model.gguf"] {
        let said =
            json(&ok(at, &["eval", model, "--text", "text.txt", "--windows", "16", "--json"]));
        assert!(said[0]["value"].as_f64().expect("nats per token") < 6.0, "{said}");
    }
}

#[test]
fn mistakes_are_named_before_any_work() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    prepare(at);
    let cases: &[(&[&str], &str)] = &[
        (&["small.toml"], "run.out"),
        (&["small.toml", "-o", "x", "--set", "schedule.setps=3"], "did you mean \"steps\"?"),
        (&["small.toml", "-o", "x", "--qat", "Q4_9"], "did you mean"),
        (&["-o", "x", "--preset", "lama-1m"], "did you mean llama-1m?"),
        (&["small.toml", "-o", "x", "--set", "data.seq_len=9999"], "too little text"),
        (&["missing.toml", "-o", "x"], "missing.toml"),
    ];
    for (args, word) in cases {
        let said = refused(at, &[&["train"], *args].concat());
        assert!(said.contains(word), "{args:?} said: {said}");
    }
    let said = refused(at, &["distill", "missing.gguf", "small.toml", "-o", "x"]);
    assert!(said.contains("missing.gguf"), "{said}");
    assert!(!at.join("x").exists());
}

#[test]
fn training_is_measured_in_processes_of_its_own() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    prepare(at);
    let args = ["bench", "train", "small.toml", "--vocab", "300", "-n", "2", "-r", "1", "--json"];
    let said = json(&ok(at, &args));
    assert_eq!((&said["tokens_per_step"], &said["threads"]), (&32.into(), &1.into()));
    let ways = said["ways"].as_array().expect("a list");
    assert_eq!(ways.len(), 2);
    for way in ways {
        assert!(way["tokens_per_s"]["value"].as_f64().expect("a number") > 0.0, "{way}");
        assert!(way["peak_memory"]["value"].as_f64().expect("a number") > 1e6, "{way}");
    }
    // proves B-6 (memory): with less kept, less is needed.
    let shape = "model.layers=6 data.seq_len=128 schedule.batch=8";
    let mut args = vec!["bench", "train", "small.toml", "-n", "1", "-r", "1", "--json"];
    shape.split(' ').for_each(|setting| args.extend(["--set", setting]));
    let said = json(&ok(at, &args));
    let peak = |way: usize| said["ways"][way]["peak_memory"]["value"].as_f64().expect("bytes");
    assert!(peak(1) < 0.8 * peak(0), "{} kept, {} checkpointed", peak(0), peak(1));
    assert!(refused(at, &["bench", "train", "small.toml", "-n", "0"]).contains("at least 1"));
}
