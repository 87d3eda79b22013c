//! The gate: artifacts whose own evidence misses what was asked of them are not served, unless
//! somebody insists, which everybody can see.

use super::refused;
use super::serve::{Server, greedy};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use sterna_measure::report::{Bound, MachineSummary, RunReport, Target, WorkloadSummary};
use sterna_measure::{Figure, Unit};
use sterna_model::plan::Source;
use sterna_model::{Artifact, Model, Plan};
use sterna_optimize::report::{ARTIFACT_HASH, Details, ModelFacts, PLAN_HASH, Report};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/austen-4m.gguf");

/// The embedded model as an artifact whose perplexity rose by so much, where 1% was allowed.
fn artifact(folder: &Path, name: &str, drop: f64) -> PathBuf {
    let model = Model::open(Path::new(MODEL)).unwrap();
    let metric = "perplexity_drop_percent_high";
    let metrics =
        vec![Figure::estimated(metric, Unit::Percent, "paired", drop, 900, None).unwrap()];
    let target = Target::judge(metric, Bound::AtMost, 1.0, Unit::Percent, &metrics).unwrap();
    let run = RunReport {
        run_id: "r".into(),
        timestamp: "2026-11-21T12:00:00Z".into(),
        machine: MachineSummary {
            id: "m".into(),
            cpu: "c".into(),
            cores: 2,
            threads: 2,
            isa: "avx2".into(),
            ram_bytes: 1,
            gpu: None,
        },
        build: "b".into(),
        seed: 1,
        workload: WorkloadSummary { name: "w".into(), hash: "h".into(), sizes: Default::default() },
        metrics,
        targets: vec![target],
        artefacts: vec![],
    };
    let model_facts = ModelFacts {
        name: "austen-4m".into(),
        architecture: "llama".into(),
        n_parameters: 1,
        n_layers: 5,
    };
    let source = Source::of(&model);
    let mut details = Details::about(model_facts);
    // Nothing is changed, so the artifact's weights are the source's.
    details.hashes.push((ARTIFACT_HASH.into(), source.content.clone()));
    let mut plan = Plan::unchanged(source);
    plan.budget.max_drop = Some(0.01);
    details.hashes.push((PLAN_HASH.into(), plan.hash()));
    let evidence = Report { run, details }.evidence(4096);
    let path = folder.join(format!("{name}.gguf"));
    Artifact::write(&path, &model, &model, &plan, &evidence, &mut |_, _| {}).unwrap();
    path
}

fn listed(server: &Server, name: &str) -> Value {
    let (status, text) = server.get("/v1/models");
    assert_eq!(status, 200, "{text}");
    let list: Value = serde_json::from_str(&text).unwrap();
    let models = list["data"].as_array().unwrap();
    models.iter().find(|model| model["id"] == name).unwrap().clone()
}

// proves A-4: refused with a reason, served with --force, which is told
#[test]
fn an_artifact_that_misses_its_floor_is_served_only_by_force() {
    let folder = tempfile::tempdir().unwrap();
    let worse = artifact(folder.path(), "worse", 1.5);
    let worse = worse.to_str().unwrap();
    let said = refused(folder.path(), &["serve", worse, "--port", "0"]);
    assert!(said.contains("missed: perplexity_drop_percent_high 1.5"), "{said}");
    assert!(said.contains("--force"), "{said}");
    let server = Server::of(folder.path(), &[worse, "--force"]);
    let (status, answer) = server.post("/v1/completions", &greedy("She", 2));
    assert_eq!(status, 200, "{answer}");
    let evidence = &listed(&server, "worse")["evidence"];
    assert_eq!((&evidence["standing"], &evidence["forced"]), (&json!("not_met"), &json!(true)));
    assert!(evidence["unmet"].as_str().unwrap().contains("1.5"), "{evidence}");
    let metrics = server.get("/metrics").1;
    let line =
        "sterna_model_evidence_info{model_name=\"worse\",standing=\"not_met\",forced=\"true\"} 1";
    assert!(metrics.lines().any(|l| l == line), "{metrics}");
}

// proves A-4: in a folder of models, one that must not be served takes nothing from the others
#[test]
fn a_folder_goes_on_without_an_artifact_that_misses_its_floor() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    std::fs::create_dir(&models).unwrap();
    artifact(&models, "better", 0.5);
    artifact(&models, "worse", 1.5);
    let server = Server::of(folder.path(), &["--models-dir", models.to_str().unwrap()]);
    let mut body = greedy("She", 2);
    for (model, status) in [("worse", 503), ("better", 200)] {
        body["model"] = json!(model);
        let (found, answer) = server.post("/v1/completions", &body);
        assert_eq!(found, status, "{answer}");
    }
    let evidence = &listed(&server, "better")["evidence"];
    assert_eq!((&evidence["standing"], &evidence["forced"]), (&json!("met"), &json!(false)));
    let evidence = &listed(&server, "worse")["evidence"];
    assert_eq!((&evidence["standing"], &evidence["forced"]), (&json!("not_met"), &json!(false)));
    let failed = listed(&server, "worse")["status"]["error"].as_str().unwrap().to_owned();
    assert!(failed.contains("missed: perplexity_drop_percent_high"), "{failed}");
}

// proves A-4: evidence that was written for something else is none
#[test]
fn evidence_of_another_budget_or_of_other_weights_does_not_open_the_gate() {
    let folder = tempfile::tempdir().unwrap();
    let good = artifact(folder.path(), "good", 0.5);
    let bytes = std::fs::read(&good).unwrap();
    let changed = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes());
        let at = at.unwrap_or_else(|| panic!("{from} is in the file"));
        let mut changed = bytes.clone();
        changed[at..at + to.len()].copy_from_slice(to.as_bytes());
        let path = folder.path().join("changed.gguf");
        std::fs::write(&path, changed).unwrap();
        refused(folder.path(), &["serve", path.to_str().unwrap(), "--port", "0"])
    };
    let said = changed("max_drop = 0.01", "max_drop = 0.02");
    assert!(said.contains("held to 1, and 2 was asked for"), "{said}");
    let said = changed("seed = 0", "seed = 1");
    assert!(said.contains("about another plan"), "{said}");
    let said = changed("\"artifact weights\"", "\"artifact Weights\"");
    assert!(said.contains("about other weights"), "{said}");
}
