//! Whether a bundle's numbers follow from its samples, and its files are those that were written.
//!
//! In: the folder that `optimize` wrote. Out: a list of checks, each of which holds, fails, or
//! could not be made here.

use super::derive::{self, Quality};
use super::manifest::Manifest;
use super::times::{Matrix, Prediction, Speed};
use super::{Evidence, bundle};
use crate::error::{OptimizeError, Result};
use crate::pipeline::EVIDENCE_BYTES;
use crate::report::{self, Report};
use crate::{fit, footprint, gate, spent};
use serde::Serialize;
use std::path::Path;
use sterna_measure::report::Artefact;
use sterna_measure::{Figure, RunReport};
use sterna_model::{Artifact, Model};

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is as it was said to be.
    Holds,
    /// It is not.
    Fails,
    /// It cannot be told from the bundle.
    NotChecked,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Of what.
    pub what: String,
    /// What came of it.
    pub outcome: Outcome,
    /// In words.
    pub words: String,
}

/// All checks made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// In order.
    pub checks: Vec<Check>,
}

impl Verification {
    /// Whether none fails.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.outcome != Outcome::Fails)
    }

    /// Adds a check.
    pub fn add(&mut self, what: &str, outcome: Outcome, words: impl Into<String>) {
        self.checks.push(Check { what: what.into(), outcome, words: words.into() });
    }

    /// Adds a check that holds with the words given, or fails with those of the error.
    pub fn tell(&mut self, what: &str, result: std::result::Result<String, String>) {
        match result {
            Ok(words) => self.add(what, Outcome::Holds, words),
            Err(words) => self.add(what, Outcome::Fails, words),
        }
    }
}

/// A bundle that was read.
pub struct Bundle {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its samples.
    pub evidence: Evidence,
    /// Its report.
    pub report: Report,
    /// Its artifact.
    pub artifact: Artifact,
}

/// Metrics that follow from the baseline's file, which is not in the bundle.
const OF_SOURCE: &str = "baseline_file_bytes";

/// Checks a bundle; gives it too where it could be read.
///
/// # Errors
/// When there is no bundle in the folder.
pub fn verify(folder: &Path) -> Result<(Verification, Option<Bundle>)> {
    let mut found = Verification::default();
    if !folder.join(super::manifest::NAME).is_file() {
        return Err(OptimizeError::Input(format!(
            "{}: there is no {} in it; a bundle is the folder that `sterna optimize` wrote",
            folder.display(),
            super::manifest::NAME
        )));
    }
    let manifest = match Manifest::read(folder) {
        Ok(manifest) => manifest,
        Err(error) => {
            found.add("manifest", Outcome::Fails, error.to_string());
            return Ok((found, None));
        }
    };
    found.add("manifest", Outcome::Holds, format!("made {}", manifest.made.timestamp));
    files(folder, &manifest, &mut found);
    // What was changed is not worth reading.
    if !found.holds() {
        return Ok((found, None));
    }
    match open(folder, manifest) {
        Ok(bundle) => {
            contents(folder, &bundle, &mut found);
            Ok((found, Some(bundle)))
        }
        Err(error) => {
            found.add("bundle", Outcome::Fails, error.to_string());
            Ok((found, None))
        }
    }
}

fn files(folder: &Path, manifest: &Manifest, found: &mut Verification) {
    let listed = |path: &str| manifest.files.iter().any(|file| file.path == path);
    for needed in bundle::needed(manifest).iter().filter(|path| !listed(path)) {
        found.add(needed, Outcome::Fails, "is not in the manifest");
    }
    for file in &manifest.files {
        let now = Artefact::of(&folder.join(&file.path));
        let as_written = match now {
            Ok(now) if (now.bytes, &now.blake3) == (file.bytes, &file.blake3) => Ok(format!(
                "{} bytes, blake3 {}",
                file.bytes,
                &file.blake3[..12.min(file.blake3.len())]
            )),
            Ok(now) => Err(format!(
                "has {} bytes that hash to {}, and was written with {} that hash to {}",
                now.bytes, now.blake3, file.bytes, file.blake3
            )),
            Err(error) => Err(error.to_string()),
        };
        found.tell(&file.path, as_written);
    }
}

fn open(folder: &Path, manifest: Manifest) -> Result<Bundle> {
    let evidence = bundle::read(folder, &manifest)?;
    let path = folder.join("report.json");
    let bad = |error: String| OptimizeError::Input(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(&path).map_err(|e| bad(e.to_string()))?;
    let value = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
    let report = Report::from_value(&value)?;
    let artifact = Artifact::open(&folder.join(&manifest.artifact))?;
    Ok(Bundle { manifest, evidence, report, artifact })
}

/// What the files say, against each other.
fn contents(folder: &Path, bundle: &Bundle, found: &mut Verification) {
    found.tell("weights", weights(bundle));
    found.tell("plan", plan(folder, bundle));
    found.tell("text", text(bundle));
    if let Some(prediction) = &bundle.evidence.times.prediction {
        found.tell("prediction", predicted(prediction, &bundle.artifact.model));
    }
    let quality = derive::quality(&bundle.evidence, bundle.manifest.source.bytes);
    let speed = bundle.evidence.times.derive();
    match (quality, speed) {
        (Ok(quality), Ok(speed)) => {
            let mut figures = quality.figures.clone();
            found.tell("switched off", switched_off(bundle, &speed));
            figures.extend(speed.figures);
            match sizes(folder, bundle) {
                Ok(sizes) => figures.extend(sizes),
                Err(error) => found.add("sizes", Outcome::Fails, error.to_string()),
            }
            let memory = footprint::figures(bundle.manifest.memory.as_ref());
            for (what, given) in [("memory", memory), ("cost", bundle.manifest.spent.figures())] {
                match given {
                    Ok(given) => figures.extend(given),
                    Err(error) => found.add(what, Outcome::Fails, error.to_string()),
                }
            }
            numbers(&bundle.report.run, &figures, found);
            let is_same = quality.points == bundle.report.details.held_out
                && quality.reliability == bundle.report.details.reliability
                && speed.series == bundle.report.details.series
                && speed.races == bundle.report.details.races
                && speed.ablations == bundle.report.details.ablations;
            found.tell("tables and plots", tables(is_same, &quality));
        }
        (quality, speed) => {
            let errors = [quality.err(), speed.err()];
            for error in errors.into_iter().flatten() {
                found.add("samples", Outcome::Fails, error.to_string());
            }
        }
    }
    found.tell("targets", targets(bundle));
    found.tell("evidence in the artifact", carried(bundle));
    page(folder, bundle, found);
    let n = bundle.report.details.tried.len() + bundle.report.details.sensitivities.len();
    let words = format!("{n} losses on calibration text led to the plan; no claim rests on them");
    found.add("search", Outcome::NotChecked, words);
}

/// Whether a prediction is of the artifact's own matrices.
fn predicted(prediction: &Prediction, model: &Model) -> std::result::Result<String, String> {
    let actual = Matrix::all(&model.graph, model);
    let kind = |matrix: &Matrix| (matrix.name.clone(), matrix.role.clone(), matrix.shape);
    let kinds = |matrices: &[Matrix]| matrices.iter().map(kind).collect::<Vec<_>>();
    match prediction.matrices == actual && kinds(&prediction.given) == kinds(&actual) {
        true if prediction.costs.is_sound() => {
            Ok(format!("of {} matrices as the artifact has them", actual.len()))
        }
        true => Err("its table of costs has numbers that are no times".into()),
        false => Err("it is of other matrices than the artifact has".into()),
    }
}

/// Whether the Plan switches off what its times say costs, and nothing else.
fn switched_off(bundle: &Bundle, speed: &Speed) -> std::result::Result<String, String> {
    let (off, said) = (speed.off(), &bundle.artifact.plan.off);
    match off == *said {
        true => Ok(format!("{} of {} optimizations measured", off.len(), speed.ablations.len())),
        false => Err(format!("the times say [{}], the plan [{}]", off.join(", "), said.join(", "))),
    }
}

fn weights(bundle: &Bundle) -> std::result::Result<String, String> {
    let artifact = &bundle.artifact;
    artifact.verify_content().map_err(|e| e.to_string())?;
    if artifact.content_hash != bundle.manifest.artifact_content {
        return Err("the manifest names other weights than the artifact".into());
    }
    let (model, rows) = (&artifact.model, &bundle.report.details.tensors);
    let mut n_matrices = 0;
    for (id, decl) in model.graph.weight_ids().map(|id| (id, model.graph.decl(id))) {
        if !decl.role.is_matrix() {
            continue;
        }
        n_matrices += 1;
        let encoding = sterna_model::WeightSource::encoding(model, id);
        let (name, bytes) = (encoding.name(), fit::bytes_of(decl, encoding) as u64);
        let row = rows.iter().find(|row| row.name == decl.name);
        let row = row.ok_or_else(|| format!("the report has no row for {}", decl.name))?;
        if (row.to.as_str(), row.bytes) != (name, bytes) {
            return Err(format!(
                "{} is {name} in {bytes} bytes, and the report says {} in {}",
                row.name, row.to, row.bytes
            ));
        }
    }
    if n_matrices != rows.len() {
        return Err(format!("the report has {} matrices, the file {n_matrices}", rows.len()));
    }
    Ok(format!("hash to {}", short(&artifact.content_hash)))
}

fn plan(folder: &Path, bundle: &Bundle) -> std::result::Result<String, String> {
    let beside =
        std::fs::read_to_string(folder.join("plan.toml")).map_err(|error| error.to_string())?;
    let carried = &bundle.artifact.plan;
    if carried.print() != beside {
        return Err("the artifact was made by another plan than plan.toml".into());
    }
    if carried.hash() != bundle.manifest.plan {
        return Err("the manifest names another plan".into());
    }
    if carried.source.content != bundle.manifest.source.content {
        return Err("the plan was made for another source".into());
    }
    Ok(format!("hashes to {}", short(&carried.hash())))
}

fn text(bundle: &Bundle) -> std::result::Result<String, String> {
    let workload = bundle.evidence.text.workload();
    let hashes = [&bundle.manifest.held_out, &bundle.report.run.workload.hash];
    if hashes.iter().any(|hash| *hash != workload.hash()) {
        return Err("the held-out text is not the one that the report names".into());
    }
    let named = |text: &Option<sterna_model::plan::Text>, hash: &str| {
        text.as_ref().is_some_and(|text| text.hash == format!("blake3:{hash}"))
    };
    let plan = &bundle.artifact.plan;
    let is_named = named(&plan.held_out, workload.hash())
        && named(&plan.calibration, &bundle.manifest.calibration);
    if !is_named {
        return Err("the plan names other texts".into());
    }
    let (n, n_documents) = (bundle.evidence.text.n_scored(), bundle.evidence.text.len());
    Ok(format!("{n} scored tokens in {n_documents} documents, apart from the calibration text"))
}

fn sizes(folder: &Path, bundle: &Bundle) -> Result<Vec<Figure>> {
    let path = folder.join(&bundle.manifest.artifact);
    let length = std::fs::metadata(&path)
        .map_err(|e| OptimizeError::Input(format!("{}: {e}", path.display())))?;
    let model = &bundle.artifact.model;
    derive::sizes(&derive::Sizes {
        file: length.len(),
        source: bundle.manifest.source.bytes,
        weights: model.graph.memory(model).total(),
        n_parameters: bundle.report.details.model.n_parameters,
    })
}

/// Every metric of the report is one that was derived, or is said not to be.
fn numbers(run: &RunReport, derived: &[Figure], found: &mut Verification) {
    let (mut n_same, mut n_left) = (0, 0);
    for metric in &run.metrics {
        let name = metric.name();
        match derived.iter().find(|figure| figure.name() == name) {
            Some(figure) if figure == metric => {
                // It follows from the manifest, which nothing but another run can show to be right.
                let mut read = footprint::METRICS[..2].iter().chain(&spent::METRICS);
                let is_read = read.any(|read| *read == name);
                if is_read {
                    let words = "read once, from a process: only another run can show it";
                    found.add(name, Outcome::NotChecked, words);
                }
                match is_read || name == OF_SOURCE {
                    true => n_left += 1,
                    false => n_same += 1,
                }
            }
            Some(figure) => {
                let words = format!("the samples give {}, not {}", figure.line(), metric.line());
                found.add(name, Outcome::Fails, words);
            }
            None => found.add(name, Outcome::Fails, "no sample shows it"),
        }
    }
    if let Some(lost) = derived.iter().find(|figure| run.metric(figure.name()).is_none()) {
        found.add(lost.name(), Outcome::Fails, "follows from the samples and is not in the report");
    }
    let words = format!("{n_same} of {} follow from the samples, bit for bit", run.metrics.len());
    let is_all = n_same + n_left == run.metrics.len();
    found.add("metrics", if is_all { Outcome::Holds } else { Outcome::Fails }, words);
    let words = "as the manifest says, as are the source's parameters: --rerun compares both";
    found.add(OF_SOURCE, Outcome::NotChecked, words);
}

fn tables(is_same: bool, quality: &Quality) -> std::result::Result<String, String> {
    match is_same {
        true => Ok(format!("{} models on held-out text, and all times", quality.points.len())),
        false => Err("a table or plot of the report shows other numbers than the samples".into()),
    }
}

fn targets(bundle: &Bundle) -> std::result::Result<String, String> {
    let run = &bundle.report.run;
    gate::unmet(&bundle.artifact.plan.budget, run)?;
    let lines: Vec<String> = run.targets.iter().map(report::target_line).collect();
    Ok(lines.join("; "))
}

/// The artifact carries the same report, shortened.
fn carried(bundle: &Bundle) -> std::result::Result<String, String> {
    let run = RunReport { artefacts: Vec::new(), ..bundle.report.run.clone() };
    let report = Report { run, details: bundle.report.details.clone() };
    let text = report.evidence(EVIDENCE_BYTES);
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    match value == bundle.artifact.evidence {
        true => Ok("is the report's, shortened".into()),
        false => Err("is not what the report says".into()),
    }
}

fn page(folder: &Path, bundle: &Bundle, found: &mut Verification) {
    let page = std::fs::read_to_string(folder.join("report.html")).map_err(|e| e.to_string());
    let value = bundle.report.to_value().and_then(|value| report::html(&value));
    let same = page.and_then(|page| Ok(value.map_err(|e| e.to_string())? == page));
    let maker = &bundle.manifest.made.sterna;
    match same {
        Ok(false) if maker != env!("CARGO_PKG_VERSION") => {
            let words = format!("was drawn by Sterna {maker}, and this one draws otherwise");
            found.add("report.html", Outcome::NotChecked, words);
        }
        Ok(true) => found.add("report.html", Outcome::Holds, "shows report.json"),
        Ok(false) => found.add("report.html", Outcome::Fails, "is not report.json's"),
        Err(error) => found.add("report.html", Outcome::Fails, error),
    }
}

fn short(hash: &str) -> &str {
    hash.get(..19).unwrap_or(hash)
}
