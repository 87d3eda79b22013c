//! A run that is broken off and resumed is the unbroken one, to the bit.

use crate::common::sentences;
use std::path::Path;
use sterna_measure::clock::SimulatedClock;
use sterna_measure::level::Level;
use sterna_train::trainer::{End, Event};
use sterna_train::{Config, Session, TrainError, state};

fn config(dir: &Path, out: &str, extra: &[&str]) -> Config {
    let (text, tokenizer) = sentences(dir);
    let mut settings: Vec<String> = [
        "model.layers=1",
        "model.dim=32",
        "model.heads=2",
        "model.ffn_dim=64",
        "data.seq_len=16",
        "schedule.steps=12",
        "schedule.batch=2",
        "run.threads=1",
        "run.save_every=3",
        "run.eval_every=4",
    ]
    .map(String::from)
    .to_vec();
    settings.push("schedule.accumulate=1".into());
    settings.push(format!("data.text={}", text.display()));
    settings.push(format!("data.tokenizer={}", tokenizer.display()));
    settings.push(format!("run.out={}", dir.join(out).display()));
    settings.extend(extra.iter().map(|s| s.to_string()));
    Config::read(Level::Balanced, None, &settings).unwrap()
}

/// Runs until `stop_at` steps are done; gives how it ended and the model's bytes.
fn run(config: Config, stop_at: usize) -> (End, f64, Vec<u8>) {
    let mut session = Session::open(config).unwrap();
    let clock = SimulatedClock::default();
    let trainee = session
        .run(&clock, &mut |event| match event {
            Event::Step(point) => point.step < stop_at,
            _ => true,
        })
        .unwrap();
    (trainee.outcome.end, trainee.outcome.held_out, std::fs::read(trainee.model).unwrap())
}

#[test]
fn a_resumed_run_has_the_same_loss_bits() {
    let dir = tempfile::tempdir().unwrap();
    for extra in [&[][..], &["schedule.accumulate=2", "run.checkpointing=true"]] {
        let n = extra.len();
        let (end, loss, model) = run(config(dir.path(), &format!("whole{n}"), extra), usize::MAX);
        assert_eq!(end, End::Finished);
        let broken = config(dir.path(), &format!("broken{n}"), extra);
        assert_eq!(run(broken.clone(), 5).0, End::Interrupted);
        let (end, loss_again, model_again) = run(broken, usize::MAX);
        assert_eq!(end, End::Finished);
        assert_eq!(loss.to_bits(), loss_again.to_bits());
        assert!(model == model_again, "the models are the same bytes");
    }
}

#[test]
fn a_killed_save_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let whole = run(config(dir.path(), "whole", &[]), usize::MAX).1;
    let broken = config(dir.path(), "broken", &[]);
    run(broken.clone(), 7);
    let out = dir.path().join("broken");
    let newest = state::checkpoints(&out).pop().unwrap();
    let bytes = std::fs::read(&newest).unwrap();
    for damage in [bytes[..bytes.len() / 2].to_vec(), flipped(&bytes)] {
        std::fs::write(&newest, damage).unwrap();
        let mut session = Session::open(broken.clone()).unwrap();
        let mut notes = Vec::new();
        let clock = SimulatedClock::default();
        let trainee = session
            .run(&clock, &mut |event| {
                if let Event::Note(note) = event {
                    notes.push(note);
                }
                true
            })
            .unwrap();
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains("damaged"), "{notes:?}");
        assert_eq!(trainee.outcome.held_out.to_bits(), whole.to_bits());
        // Back to where the second damage finds it.
        for path in state::checkpoints(&out) {
            std::fs::remove_file(path).unwrap();
        }
        run(broken.clone(), 7);
    }
}

fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let last = bytes.len() - 5;
    bytes[last] ^= 1;
    bytes
}

#[test]
fn another_config_does_not_go_on() {
    let dir = tempfile::tempdir().unwrap();
    run(config(dir.path(), "out", &[]), 4);
    let session = Session::open(config(dir.path(), "out", &["schedule.learning_rate=0.5"]));
    let clock = SimulatedClock::default();
    let Err(TrainError::Input(message)) = session.unwrap().run(&clock, &mut |_| true) else {
        panic!("it must not go on");
    };
    assert!(message.contains("another config"), "{message}");
}

#[test]
fn numbers_that_blow_up_stop_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        "schedule.learning_rate=10",
        "schedule.clip_norm=0",
        "schedule.steps=400",
        "schedule.warmup=0",
    ];
    let mut config = config(dir.path(), "out", &settings);
    // Beyond what a config may say, to be sure that it happens.
    config.schedule.learning_rate = 1e30;
    let clock = SimulatedClock::default();
    match Session::open(config).unwrap().run(&clock, &mut |_| true) {
        Err(TrainError::NotFinite(message)) => {
            assert!(message.starts_with("step "), "{message}");
            assert!(message.contains("checkpoint") && message.contains("finite"), "{message}");
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it must blow up"),
    }
}
