//! That training learns: in full precision, in the numbers of an encoding, and from a teacher.

use crate::common::{batch, sentences, tensors};
use std::path::{Path, PathBuf};
use sterna_measure::clock::SimulatedClock;
use sterna_measure::level::Level;
use sterna_model::{Model, WeightSource};
use sterna_runtime::{Chunk, KvEncoding, Logits, Program, Runner, Settings};
use sterna_train::backend::Cpu;
use sterna_train::net::Modes;
use sterna_train::quant::Quantizer;
use sterna_train::session::Trainee;
use sterna_train::{Config, Net, Session};

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
    let message = refusal(&[set("run.backend=vulkan")]);
    assert!(cfg!(feature = "vulkan") || message.contains("--features vulkan"), "{message}");
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

/// Trains a little on the CPU and on another backend. Without the backend, or a device for it, the
/// test says so and passes; lavapipe (Debian: mesa-vulkan-drivers) is such a device.
fn trains_as_on_the_cpu(backend: &str) {
    let dir = tempfile::tempdir().unwrap();
    let run = |backend: &str| {
        let extra = [format!("run.backend={backend}"), set("schedule.steps=6")];
        train(config(dir.path(), backend, &extra))
    };
    let there = match run(backend) {
        Ok(trainee) => trainee,
        Err(why) => {
            assert!(why.contains("--features") || why.contains("device was found"), "{why}");
            return println!("skipped: {why}");
        }
    };
    let here = run("cpu").unwrap();
    for (a, b) in here.outcome.curve.iter().zip(&there.outcome.curve) {
        assert!((a.loss - b.loss).abs() < 1e-3 * a.loss, "step {}: {} {}", a.step, a.loss, b.loss);
    }
}

#[test]
fn vulkan_trains_as_the_cpu_does() {
    trains_as_on_the_cpu("vulkan");
}

#[test]
fn cuda_trains_as_the_cpu_does() {
    trains_as_on_the_cpu("cuda");
}

#[test]
fn accumulated_passes_are_one_larger_batch() {
    let dir = tempfile::tempdir().unwrap();
    let losses = |name: &str, batch: usize, accumulate: usize| -> Vec<f64> {
        let extra = [
            format!("schedule.batch={batch}"),
            format!("schedule.accumulate={accumulate}"),
            set("schedule.steps=5"),
        ];
        let trainee = train(config(dir.path(), name, &extra)).unwrap();
        trainee.outcome.curve.iter().map(|point| point.loss).collect()
    };
    for (a, b) in losses("one", 4, 1).iter().zip(losses("two", 2, 2)) {
        assert!((a - b).abs() < 1e-4 * a, "{a} and {b}");
    }
}

#[test]
fn a_run_that_stopped_early_stays_stopped_and_gives_its_best_weights() {
    let dir = tempfile::tempdir().unwrap();
    // A rate that wrecks the model soon after the warm-up: the best evaluation is an early one.
    let extra = [
        set("schedule.learning_rate=0.5"),
        set("schedule.warmup=1"),
        set("schedule.steps=200"),
        set("schedule.early_stopping=2"),
        set("run.eval_every=2"),
        set("run.eval_windows=100000"),
    ];
    let run = || train(config(dir.path(), "early", &extra)).unwrap();
    let first = run();
    assert_eq!(first.outcome.end, sterna_train::trainer::End::EarlyStopped);
    let curve = &first.outcome.curve;
    let best = curve.iter().filter_map(|p| p.held_out).fold(f64::INFINITY, f64::min);
    assert!(curve.last().unwrap().held_out.unwrap() > best);
    assert_eq!(first.outcome.held_out, best);
    let bytes = std::fs::read(&first.model).unwrap();
    let again = run();
    assert_eq!((again.outcome.steps, again.outcome.held_out), (first.outcome.steps, best));
    assert!(std::fs::read(&again.model).unwrap() == bytes);
}

// proves B-1, B9: the packed BitNet model computes what training computed. A sum that ends a last bit
// apart may round to another int8 code, so that a few rows may differ by a code.
#[test]
fn a_packed_model_computes_what_training_saw() {
    let dir = tempfile::tempdir().unwrap();
    for (preset, encoding, head) in [
        ("bitnet-1m", "TQ2_0", None),
        ("bitnet-1m", "TQ1_0", Some("Q8_0")),
        ("llama-1m", "TQ2_0", Some("Q8_0")),
        ("llama-1m", "Q4_0", Some("Q6_K")),
    ] {
        let extra = [
            format!("model.preset={preset}"),
            set("model.layers=2"),
            format!("quantize.encoding={encoding}"),
            set("run.save_as=F32"),
            set("schedule.steps=8"),
        ];
        let extra: Vec<String> =
            extra.into_iter().chain(head.map(|e| format!("quantize.embedding={e}"))).collect();
        let name = format!("{preset}-{encoding}-{}", head.unwrap_or("F32"));
        let config = config(dir.path(), &name, &extra);
        let seq_len = config.data.seq_len;
        let trainee = train(config.clone()).unwrap();
        let model = Model::open(&trainee.model).unwrap();
        let graph = std::sync::Arc::new(model.graph.clone());
        let quantizer = Quantizer::new(&config.quantize, &graph).unwrap();
        let seen = graph.weight_ids().zip(&trainee.outcome.weights).map(|(id, latent)| {
            let (_, cols) = graph.decl(id).matrix();
            quantizer.apply(id, latent, cols, 1.0)
        });
        let seen = tensors(&graph, &seen.collect::<Vec<_>>());
        let (modes, device) = (Modes::default(), Default::default());
        let net = Net::<Cpu>::new(graph.clone(), seq_len, &|_| vec![], modes, &device)
            .unwrap()
            .stored_as(&|id| quantizer.encoding(id));
        let (tokens, batch) = batch(4, seq_len, graph.out_features());
        let trained: Vec<f32> = net.forward(&seen, &batch).into_data().into_vec().unwrap();
        let settings = Settings { kv: KvEncoding::F32, ..Settings::default() };
        let program = Program::compile(&graph, &model, &settings, None).unwrap();
        let mut runner = Runner::new(std::sync::Arc::new(program)).unwrap();
        let mut packed = Vec::new();
        for tokens in tokens.chunks(seq_len) {
            let sequence = runner.new_sequence();
            let chunk = Chunk { sequence, tokens, logits: Logits::All };
            packed.extend_from_slice(runner.forward(&[chunk]).unwrap());
            runner.free(sequence).unwrap();
        }
        let n = graph.out_features();
        let worst = |(a, b): (&[f32], &[f32])| {
            a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        let rows: Vec<f32> = trained.chunks(n).zip(packed.chunks(n)).map(worst).collect();
        let n_close = rows.iter().filter(|w| **w < 1e-4).count();
        let largest = rows.iter().copied().fold(0.0, f32::max);
        println!("{name}: {n_close} of {} rows within 1e-4, worst {largest:e}", rows.len());
        assert!(n_close * 10 >= rows.len() * 8, "{name}: {n_close} of {}", rows.len());
        assert!(largest < 0.05, "{name}: {largest}");
    }
}
