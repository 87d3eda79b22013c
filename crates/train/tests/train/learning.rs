//! That training learns: in full precision, in the numbers of an encoding, and from a teacher.

use crate::common::sentences;
use std::path::{Path, PathBuf};
use sterna_measure::clock::SimulatedClock;
use sterna_measure::level::Level;
use sterna_model::{Model, WeightSource};
use sterna_train::session::Trainee;
use sterna_train::{Config, Session};

/// A tiny Llama of 256 features, so that every encoding fits.
fn config(dir: &Path, out: &str, extra: &[String]) -> Config {
    let (text, tokenizer) = sentences(dir);
    let mut settings: Vec<String> = [
        "model.layers=1",
        "model.dim=256",
        "model.ffn_dim=256",
        "model.heads=4",
        "data.seq_len=24",
        "schedule.steps=30",
        "schedule.batch=4",
        "schedule.accumulate=1",
        "schedule.learning_rate=3e-3",
    ]
    .map(String::from)
    .to_vec();
    settings.push(format!("data.text={}", text.display()));
    settings.push(format!("data.tokenizer={}", tokenizer.display()));
    settings.push(format!("run.out={}", dir.join(out).display()));
    settings.extend_from_slice(extra);
    Config::read(Level::Balanced, None, &settings).unwrap()
}

fn train(config: Config) -> Result<Trainee, String> {
    let mut session = Session::open(config).map_err(|e| e.to_string())?;
    session.run(&SimulatedClock::default(), &mut |_| true).map_err(|e| e.to_string())
}

fn encodings(path: &Path) -> Vec<(String, &'static str)> {
    let model = Model::open(path).unwrap();
    let one = |id| (model.graph.decl(id).name.clone(), model.encoding(id).name());
    model.graph.weight_ids().map(one).collect()
}

fn set(text: &str) -> String {
    text.to_owned()
}

#[test]
fn the_loss_falls_and_the_file_is_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let trainee = train(config(dir.path(), "float", &[])).unwrap();
    let curve = &trainee.outcome.curve;
    assert_eq!(curve.len(), 30);
    assert!(curve[29].loss < 0.7 * curve[0].loss, "{} {}", curve[0].loss, curve[29].loss);
    let all = encodings(&trainee.model);
    assert!(all.iter().all(|(_, e)| ["F16", "F32"].contains(e)), "{all:?}");
}

// proves B-4: training goes on in the encoding's numbers, and ends at what the file holds.
#[test]
fn quantized_training_learns_and_stores_what_it_saw() {
    let dir = tempfile::tempdir().unwrap();
    for (encoding, preset) in
        [("TQ2_0", "llama-1m"), ("TQ1_0", "bitnet-1m"), ("Q1_0", "bitnet-1m"), ("Q4_0", "llama-1m")]
    {
        let extra = [
            format!("quantize.encoding={encoding}"),
            set("quantize.embedding=Q8_0"),
            set("quantize.blend=0.3"),
            format!("model.preset={preset}"),
        ];
        let trainee = train(config(dir.path(), encoding, &extra)).unwrap();
        let curve = &trainee.outcome.curve;
        assert!(curve[29].loss < 0.8 * curve[0].loss, "{encoding} {}", curve[29].loss);
        for (name, found) in encodings(&trainee.model) {
            let is_layer = name.starts_with("blk.") && !name.contains("norm");
            let expected = match name.as_str() {
                "token_embd.weight" | "output.weight" => "Q8_0",
                _ if is_layer => encoding,
                _ => "F32",
            };
            assert_eq!(found, expected, "{name}");
        }
    }
}

#[test]
fn training_goes_on_from_a_model_file() {
    let dir = tempfile::tempdir().unwrap();
    let first = train(config(dir.path(), "first", &[set("run.save_as=F32")])).unwrap();
    let init = format!("model.init={}", first.model.display());
    let second = train(config(dir.path(), "second", &[init, set("schedule.steps=5")])).unwrap();
    assert!(second.outcome.curve[0].loss < 0.8 * first.outcome.curve[0].loss);
}

#[test]
fn a_student_learns_from_a_teacher_through_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let teacher = train(config(dir.path(), "teacher", &[])).unwrap();
    let settings = |out: &str, hidden: &str| {
        let extra = [
            format!("teacher.model={}", teacher.model.display()),
            format!("teacher.cache={}", dir.path().join("cache").display()),
            format!("teacher.hidden_weight={hidden}"),
            set("teacher.weight=1"),
        ];
        config(dir.path(), out, &extra)
    };
    let mut session = Session::open(settings("student", "0")).unwrap();
    let trainee = session.run(&SimulatedClock::default(), &mut |_| true).unwrap();
    let curve = &trainee.outcome.curve;
    assert!(curve[29].loss < 0.5 * curve[0].loss, "the divergence falls");
    assert!(session.tutor().unwrap().statistics().n_misses > 0);
    let mut again = Session::open(settings("again", "0.5")).unwrap();
    again.run(&SimulatedClock::default(), &mut |_| true).unwrap();
    let statistics = again.tutor().unwrap().statistics();
    assert_eq!(statistics.n_misses, 0, "all came from the cache");
    assert!(statistics.n_hits > 0);
}

#[test]
fn what_does_not_fit_is_refused_before_any_work() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = |extra: &[String]| {
        let mut config = config(dir.path(), "refused", extra);
        config.run.out = Some(dir.path().join("refused"));
        let message = train(config).map(|_| ()).unwrap_err();
        assert!(!dir.path().join("refused").join("config.toml").exists(), "{message}");
        message
    };
    let message = refusal(&[set("model.preset=lama-1m")]);
    assert!(message.contains("did you mean llama-1m"), "{message}");
    let message = refusal(&[set("data.seq_len=100000")]);
    assert!(message.contains("too little text"), "{message}");
    let message = refusal(&[set("run.backend=vulcan")]);
    assert!(message.contains("did you mean \"vulkan\""), "{message}");
    let message = refusal(&[set("run.precision=bf16")]);
    assert!(message.contains("train in f32"), "{message}");
    let message = refusal(&[set("model.heads=3")]);
    assert!(message.contains("shape"), "{message}");
    let other: PathBuf = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("text.txt"), "A different text of other words. ".repeat(90)).unwrap();
    let (text, tokenizer) = (other.join("text.txt"), other.join("tokenizer.json"));
    crate::common::train_tokenizer(&text, &tokenizer, 280);
    let extra = [format!("data.tokenizer={}", tokenizer.display()), set("schedule.steps=1")];
    let teacher = train(config(dir.path(), "stranger", &extra)).unwrap();
    let message = refusal(&[format!("teacher.model={}", teacher.model.display())]);
    assert!(message.contains("token"), "{message}");
}
