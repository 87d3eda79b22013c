//! The whole pipeline on the trained model that lies beside the project, cut to seconds.

mod changed;
mod distilled;

use super::rounding::{Choice, Scaling};
use super::*;
use crate::budget::parse_allow;
use crate::draft::scaling::places;
use crate::evidence::rerun::{Again, rerun};
use crate::passes::rtn;
use crate::progress::{Progress, Silent};
use crate::recipe::Recipe;
use crate::runner::RuntimeEngine;
use expect_test::expect;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use sterna_measure::clock::RealClock;
use sterna_model::plan::Rounding;
use sterna_model::{Artifact, Model, WeightSource, write_gguf};

/// The folder of real data: `STERNA_DATA`, else `shared/data` above the project.
fn data() -> Option<PathBuf> {
    let given = std::env::var_os("STERNA_DATA").map(PathBuf::from);
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|a| a.join("shared/data"));
    let found = given.into_iter().chain(above).find(|path| path.join("tinyllamas").is_dir());
    if found.is_none() {
        eprintln!("skipped: no folder shared/data above the project, and STERNA_DATA is not set");
    }
    found
}

fn quick(data: &Path, output: &Path, budget: Budget) -> Settings {
    let model = data.join("tinyllamas/stories260K.bin");
    let text = data.join("tinystories/tinystories_sample_2MiB.txt");
    shortened(Settings::new(model, output.into(), text, allowing("Q8_0,Q5_0,Q4_0", budget)))
}

fn allowing(words: &str, budget: Budget) -> Budget {
    Budget { allow: parse_allow(words).unwrap().encodings, ..budget }
}

/// Little text, few plans.
fn shortened(mut settings: Settings) -> Settings {
    settings.text.n_calibration = 12;
    settings.text.observed_ratio = 1;
    settings.text.n_evaluation = 16;
    settings.text.max_tokens = 48;
    settings.text.quick_tokens = 250;
    settings.max_checks = 10;
    settings.n_bands = Some(1);
    settings.effort = Effort::none();
    settings
}

fn engine(threads: usize) -> RuntimeEngine {
    let settings = sterna_runtime::Settings {
        threads: Some(threads),
        context_len: 64,
        ..sterna_runtime::Settings::default()
    };
    RuntimeEngine::new(settings).unwrap()
}

fn run(settings: &Settings) -> Result<Outcome> {
    run_by(settings, 1)
}

fn run_by(settings: &Settings, threads: usize) -> Result<Outcome> {
    let stop = AtomicBool::new(false);
    let watch = Watch { progress: &Silent, stop: &stop };
    optimize(settings, &engine(threads), &RealClock::new(), watch)
}

/// Every number of a bundle follows from its samples, and the models say the same again.
fn assert_holds(folder: &Path) {
    let (mut found, bundle) = evidence::verify(folder).unwrap();
    assert!(found.holds(), "{found:?}");
    let stop = AtomicBool::new(false);
    let watch = Watch { progress: &Silent, stop: &stop };
    let (engine, clock) = (engine(1), RealClock::new());
    let again = Again { baseline: None, speed: false, engine: &engine, clock: &clock, watch };
    rerun(&bundle.unwrap(), &again, &mut found).unwrap();
    assert!(found.holds(), "{found:?}");
}

#[test]
fn a_size_budget_is_kept_by_a_file_that_says_so() {
    // proves A1 (size), A3 (the evidence rides along and reads back)
    let Some(data) = data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let max_size = Some(300_000);
    let settings = quick(&data, folder.path(), Budget { max_size, ..Budget::default() });
    let outcome = run(&settings).unwrap();
    let bytes = std::fs::metadata(&outcome.artifact).unwrap().len();
    assert!(bytes <= 300_000, "{bytes}");
    let artifact = Artifact::open(&outcome.artifact).unwrap();
    artifact.verify_content().unwrap();
    assert_eq!(artifact.plan.print(), std::fs::read_to_string(&outcome.plan).unwrap());
    golden_plan(&artifact);
    let evidence = Report::from_value(&artifact.evidence).unwrap();
    assert_eq!(evidence.details.model.name, "stories260K");
    let json = std::fs::read_to_string(&outcome.report_json).unwrap();
    let report = Report::from_value(&serde_json::from_str(&json).unwrap()).unwrap();
    assert_eq!(report, outcome.report);
    let file = report.run.metric("file_bytes").unwrap();
    assert_eq!(file.value(), Some(bytes as f64));
    let left: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("part") || name.contains("building"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    let html = std::fs::read_to_string(&outcome.report_html).unwrap();
    assert!(html.contains("172 = 5 x 32 + 12") && html.contains("blk.0.ffn_down.weight"));
    // The same settings make the same weights.
    let again = tempfile::tempdir().unwrap();
    let settings = Settings { output: again.path().into(), ..settings };
    let second = Artifact::open(&run(&settings).unwrap().artifact).unwrap();
    assert_eq!(second.content_hash, artifact.content_hash);
}

/// Everything a Plan says; the measurements behind it are the same bits on every machine.
fn golden_plan(artifact: &Artifact) {
    expect![[r#"
        version = 1
        seed = 24301
        kv = "F16"
        rewrites = ["fuse_qkv", "fuse_gate_up"]
        mlp_width = 192
        rounding = "compensated"

        [source]
        name = "stories260K"
        architecture = "llama"
        content = "blake3:2a59bd8c86f8dbe12cd14d03f2b5a94ed5718a1ef656f4f8cf1a1234c317da49"

        [budget]
        max_size = 300000

        [calibration]
        name = "tinystories_sample_2MiB.txt (calibration)"
        hash = "blake3:7ba5500378d1d0b7942370ef4429774c8d52f0d3d9dfa97d830a2f1c1c02ccac"
        tokens = 1128

        [held_out]
        name = "tinystories_sample_2MiB.txt (held out)"
        hash = "blake3:5c3e0c914957b0cf79bf184492d5c69b1064bc91ee9cbe318205e4e061c1fa77"
        tokens = 752

        [encodings]
        "blk.0.attn_k.weight" = "Q8_0"
        "blk.0.attn_output.weight" = "Q8_0"
        "blk.0.attn_q.weight" = "Q5_0"
        "blk.0.attn_v.weight" = "Q8_0"
        "blk.0.ffn_down.weight" = "Q8_0"
        "blk.0.ffn_gate.weight" = "Q5_0"
        "blk.0.ffn_up.weight" = "Q8_0"
        "blk.1.attn_k.weight" = "Q8_0"
        "blk.1.attn_output.weight" = "Q8_0"
        "blk.1.attn_q.weight" = "Q5_0"
        "blk.1.attn_v.weight" = "Q8_0"
        "blk.1.ffn_down.weight" = "Q8_0"
        "blk.1.ffn_gate.weight" = "Q5_0"
        "blk.1.ffn_up.weight" = "Q8_0"
        "blk.2.attn_k.weight" = "Q8_0"
        "blk.2.attn_output.weight" = "Q8_0"
        "blk.2.attn_q.weight" = "Q5_0"
        "blk.2.attn_v.weight" = "Q8_0"
        "blk.2.ffn_down.weight" = "Q8_0"
        "blk.2.ffn_gate.weight" = "Q5_0"
        "blk.2.ffn_up.weight" = "Q8_0"
        "blk.3.attn_k.weight" = "Q8_0"
        "blk.3.attn_output.weight" = "Q8_0"
        "blk.3.attn_q.weight" = "Q5_0"
        "blk.3.attn_v.weight" = "Q8_0"
        "blk.3.ffn_down.weight" = "Q8_0"
        "blk.3.ffn_gate.weight" = "Q5_0"
        "blk.3.ffn_up.weight" = "Q8_0"
        "blk.4.attn_k.weight" = "Q8_0"
        "blk.4.attn_output.weight" = "Q8_0"
        "blk.4.attn_q.weight" = "Q5_0"
        "blk.4.attn_v.weight" = "Q8_0"
        "blk.4.ffn_down.weight" = "Q8_0"
        "blk.4.ffn_gate.weight" = "Q5_0"
        "blk.4.ffn_up.weight" = "Q8_0"
        "token_embd.weight" = "Q8_0"
    "#]]
    .assert_eq(&artifact.plan.print());
}

/// Stops the run when a stage begins.
struct StopAt<'a>(Stage, &'a AtomicBool);

impl Progress for StopAt<'_> {
    fn step(&self, stage: Stage, _done: usize, _total: usize, _note: &str) {
        if stage == self.0 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_size_that_no_plan_has_is_answered_with_the_least_that_can_be_had() {
    let Some(data) = data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let of = |max_size| {
        let budget = Budget { max_size: Some(max_size), ..Budget::default() };
        quick(&data, folder.path(), budget)
    };
    let why = run(&of(100_000)).unwrap_err().to_string();
    assert!(why.starts_with("--max-size 100000 cannot be kept: "), "{why}");
    assert_eq!(describe(&of(100_000)).unwrap_err().to_string(), why);
    let least = why.split("ask for --max-size ").nth(1).unwrap().split(',').next().unwrap();
    let least: u64 = least.parse().unwrap();
    assert!(run(&of(least - 1)).is_err());
    let outcome = run(&of(least)).unwrap();
    assert!(std::fs::metadata(&outcome.artifact).unwrap().len() <= least);
}

#[test]
fn memory_is_capped_by_what_the_kernels_work_with() {
    let Some(data) = data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let planning = sterna_runtime::Settings { context_len: 64, ..Default::default() };
    let of = |max_memory: u64| {
        let budget = Budget { max_memory: Some(max_memory), ..Budget::default() };
        let mut settings = quick(&data, folder.path(), budget);
        // Of these, Q5_0 is unpacked to a byte a weight: smaller in a file and not in memory.
        settings.budget = allowing("Q8_0,Q5_0,Q4_0", settings.budget);
        settings.footprint = Some(Arc::new(crate::testing::Ideal(planning.clone())));
        settings
    };
    let why = run(&of(1000)).unwrap_err().to_string();
    assert!(why.starts_with("--max-memory 1000 cannot be kept: "), "{why}");
    let least = why.split("ask for --max-memory ").nth(1).unwrap().split(',').next().unwrap();
    let cap = least.parse::<u64>().unwrap() + 20_000;
    let outcome = run(&of(cap)).unwrap();
    let value = |name: &str| outcome.report.run.metric(name).unwrap().value().unwrap();
    assert!(value("artifact_memory_bytes") <= cap as f64, "{}", value("artifact_memory_bytes"));
    assert_eq!(value("memory_prediction_error_percent"), 0.0);
    assert!(value("baseline_memory_bytes") > cap as f64);
    let (found, _) = evidence::verify(folder.path()).unwrap();
    assert!(found.holds(), "{found:?}");
}

#[test]
fn rounding_is_as_measures_best_and_the_same_by_any_number_of_threads() {
    let Some(data) = data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let budget = Budget { max_size: Some(260_000), ..Budget::default() };
    let of = |choice, threads, name: &str| {
        let settings = quick(&data, &folder.path().join(name), budget.clone());
        run_by(&Settings { rounding: choice, ..settings }, threads).unwrap()
    };
    let auto = of(Choice::Auto, 1, "auto");
    let says = |words: &str| auto.report.details.notes.iter().any(|note| note.contains(words));
    assert!(
        says("weigh: errors weighed by inputs: ") && says("as Q4_0: taken"),
        "{:?}",
        auto.report.details.notes
    );
    assert!(says("made up for by later columns; they are"), "{:?}", auto.report.details.notes);
    let artifact = |outcome: &Outcome| Artifact::open(&outcome.artifact).unwrap();
    assert_eq!(artifact(&auto).plan.rounding, Rounding::Compensated);
    let again = of(Choice::Auto, 2, "again");
    assert_eq!(artifact(&again).plan, artifact(&auto).plan, "threads decide nothing");
    assert_eq!(artifact(&again).content_hash, artifact(&auto).content_hash);
    // On text that none of it was decided by.
    let kl = |outcome: &Outcome| outcome.report.run.metric("kl_mean").unwrap().value().unwrap();
    let (plain, weighed) = (of(Choice::Plain, 1, "plain"), of(Choice::Weighed, 1, "weighed"));
    let kls = [kl(&auto), kl(&weighed), kl(&plain)];
    assert!(kls.is_sorted(), "compensated, weighed, plain: {kls:?}");
}

#[test]
fn a_model_of_uneven_columns_is_scaled_and_its_plan_says_so() {
    let Some(data) = data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let budget = Budget { max_size: Some(260_000), ..Budget::default() };
    let even = quick(&data, &folder.path().join("even"), budget.clone());
    let model = Model::open(&even.source).unwrap();
    let mut uneven = Draft::new(&model.graph, &model);
    for place in places(&model.graph) {
        let cols = crate::fit::cols_of(model.graph.decl(place.readers[0]));
        let factors: Vec<f32> =
            (0..cols).map(|i| [0.125, 1.0, 4.0, 0.5, 8.0][i * 7 % 11 % 5]).collect();
        uneven.scale(&place, &factors, 1.0);
    }
    let source = folder.path().join("uneven.gguf");
    write_gguf(&source, &model, &model.graph, &uneven, &mut |_, _| {}).unwrap();
    let of = |scaling, name: &str| {
        let output = folder.path().join(name);
        let settings = quick(&data, &output, budget.clone());
        let outcome = run(&Settings { source: source.clone(), scaling, ..settings }).unwrap();
        let kl = outcome.report.run.metric("kl_mean").unwrap().value().unwrap();
        (Artifact::open(&outcome.artifact).unwrap().plan, kl)
    };
    let kl = run(&even).unwrap().report.run.metric("kl_mean").unwrap().value().unwrap();
    let (plan, scaled) = of(Scaling::Auto, "scaled");
    assert!(plan.scaled.len() > 10 && plan.scaled.values().any(|&s| s == 1.0), "{plan:?}");
    let (plan, unscaled) = of(Scaling::Off, "unscaled");
    assert!(plan.scaled.is_empty());
    assert!(scaled < unscaled / 2.0, "{scaled} scaled, {unscaled} not, {kl} with even columns");
    assert!(scaled < kl * 1.5, "{scaled} scaled, {kl} with even columns");
    let (found, _) = evidence::verify(&folder.path().join("scaled")).unwrap();
    assert!(found.holds(), "{found:?}");
}

#[test]
fn a_stop_leaves_nothing_half_written_and_resume_goes_on() {
    let Some(data) = data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let budget = Budget { max_drop_percent: Some(20.0), ..Budget::default() };
    let mut settings = quick(&data, folder.path(), budget);
    for stage in [Stage::Sensitivity, Stage::Build, Stage::Verify] {
        let stop = AtomicBool::new(false);
        let progress = StopAt(stage, &stop);
        let watch = Watch { progress: &progress, stop: &stop };
        let outcome = optimize(&settings, &engine(1), &RealClock::new(), watch);
        assert!(matches!(outcome, Err(OptimizeError::Cancelled)), "{stage:?}");
        let names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["state.jsonl"], "{stage:?}");
        settings.resume = true;
    }
    let state = || std::fs::read_to_string(folder.path().join("state.jsonl")).unwrap();
    let before = state();
    let outcome = run(&settings).unwrap();
    assert_eq!(state(), before, "everything was measured before the stop");
    assert!(outcome.report.run.grade().is_some());
}

#[test]
fn a_file_is_as_large_as_foretold() {
    let Some(data) = data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = Model::open(&data.join("tinyllamas/stories260K.bin")).unwrap();
    for name in ["F32", "F16", "Q8_0", "Q4_0"] {
        let mut draft = Draft::new(&model.graph, &model);
        rtn::encode_all(&mut draft, &Recipe::named(name).unwrap().pure()).unwrap();
        let path = folder.path().join(name);
        write_gguf(&path, &model, draft.graph(), &draft, &mut |_, _| {}).unwrap();
        let foretold = crate::size::file_bytes(&model.metadata, &model.graph, &draft);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), foretold, "{name}");
        assert_eq!(draft.encoding(sterna_model::WeightId(0)).name(), name);
    }
}

#[test]
fn a_dry_run_says_what_would_be_done_and_writes_nothing() {
    let Some(data) = data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let budget = Budget { max_drop_percent: Some(1.0), ..Budget::default() };
    let text = describe(&quick(&data, &folder.path().join("out"), budget)).unwrap();
    assert!(text.contains("8 tensor groups, 32 measurements"), "{text}");
    assert!(text.contains("172 hidden features are stored as 192"), "{text}");
    assert!(!folder.path().join("out").exists());
    let error = describe(&quick(&data, folder.path(), Budget::default())).unwrap_err();
    assert!(error.to_string().contains("--max-drop 1%"));
}

#[test]
fn text_that_the_search_has_seen_is_refused_as_a_judge() {
    // proves B8 (eval text inside calibration is refused)
    let Some(data) = data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let budget = Budget { max_drop_percent: Some(1.0), ..Budget::default() };
    let mut settings = quick(&data, folder.path(), budget);
    settings.text.evaluation = Some(settings.text.calibration.clone());
    let error = run(&settings).unwrap_err().to_string();
    assert!(error.contains("that are also in the calibration text"), "{error}");
    let names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, Vec::<std::ffi::OsString>::new());
}

// proves A6
#[test]
fn what_costs_time_is_off_in_the_plan_and_in_the_report() {
    let Some(data) = data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let budget = Budget { max_drop_percent: Some(5.0), ..Budget::default() };
    let mut settings = quick(&data, folder.path(), budget);
    settings.effort = Effort { max_rounds: 6, n_requests: 0, ..Effort::default() };
    let engine = crate::testing::Sleepy { engine: engine(1), is_on: true };
    let stop = AtomicBool::new(false);
    let watch = Watch { progress: &Silent, stop: &stop };
    let outcome = optimize(&settings, &engine, &RealClock::new(), watch).unwrap();
    let artifact = Artifact::open(&outcome.artifact).unwrap();
    assert!(artifact.plan.off.contains(&"sleepy".to_owned()), "{:?}", artifact.plan.off);
    let is_said =
        |note: &String| note.starts_with("sleepy costs ") && note.contains("off in the Plan");
    assert!(outcome.report.details.notes.iter().any(is_said));
    let (found, _) = evidence::verify(folder.path()).unwrap();
    assert!(found.holds(), "{found:?}");
}

/// The project's own model and some of its text.
fn own(folder: &Path) -> (PathBuf, PathBuf) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    let packed = std::fs::File::open(models.join("text/held_out.txt.gz")).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    let path = folder.join("text.txt");
    std::fs::write(&path, &text[..200_000.min(text.len())]).unwrap();
    (models.join("austen-4m.gguf"), path)
}

#[test]
fn keys_and_values_take_less_where_no_plan_keeps_the_memory_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let (model, text) = own(folder.path());
    let of = |max_memory: u64| {
        let budget = Budget { max_memory: Some(max_memory), ..Budget::default() };
        let (model, output) = (model.clone(), folder.path().join("out"));
        let budget = allowing("Q8_0,Q4_0", budget);
        let mut settings = shortened(Settings::new(model, output, text.clone(), budget));
        settings.max_checks = 4;
        settings.rounding = Choice::Plain;
        let planning = sterna_runtime::Settings { context_len: 512, ..Default::default() };
        settings.footprint = Some(Arc::new(crate::testing::Ideal(planning)));
        settings
    };
    let least = |why: String| -> u64 {
        let least = why.split("ask for --max-memory ").nth(1).unwrap();
        least.split(',').next().unwrap().parse().unwrap()
    };
    let cap = least(run(&of(1000)).unwrap_err().to_string());
    let as_asked = Settings { may_choose_kv: false, ..of(cap) };
    let fixed = least(run(&as_asked).unwrap_err().to_string());
    assert!(fixed > cap + 500_000, "f16 takes a megabyte more than q8_0: {fixed}, {cap}");
    let outcome = run(&of(cap)).unwrap();
    let artifact = Artifact::open(&outcome.artifact).unwrap();
    assert_eq!(artifact.plan.kv, "Q8_0");
    let is_said = |note: &String| note.starts_with("kv: ") && note.contains("no plan keeps");
    assert!(outcome.report.details.notes.iter().any(is_said));
    let taken = outcome.report.run.metric("artifact_memory_bytes").unwrap().value().unwrap();
    assert!(taken <= cap as f64, "{taken} of {cap}");
    assert_holds(&folder.path().join("out"));
}
