//! The whole way: open, measure the baseline, search, build, reopen, prove, report.
//!
//! In: [`Settings`], an engine to run models, a clock, and whom to tell. Out: an [`Outcome`]: an
//! artifact that was measured as it lies on disk, and its report. A budget that is missed is an
//! outcome like any other and is shown as missed.

mod ablate;
mod build;
pub mod costs;
mod decide;
mod desk;
mod distill;
mod feasible;
pub mod inputs;
mod prepare;
pub(crate) mod prove;
pub mod rounding;
pub(crate) mod speed;
mod start;

use crate::budget::Budget;
use crate::calibration::TextSettings;
use crate::distiller::{self, Distiller};
use crate::draft::Draft;
use crate::engine::Engine;
use crate::error::{OptimizeError, Result};
use crate::evidence::bundle::BESIDE;
use crate::evidence::{self, Circumstances, Manifest, SourceFile, manifest};
use crate::footprint::Footprint;
use crate::progress::{Stage, Watch};
use crate::report::{Details, Report};
use crate::search::{STRATEGIES, Strategy, UseCase, groups};
use crate::spent::Spent;
use crate::tasks::TaskSettings;
pub(crate) use build::Building;
pub(crate) use prepare::Prepared;
pub(crate) use prove::Proof;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use sterna_formats::AtomicFile;
use sterna_measure::Clock;
use sterna_measure::machine::Machine;

pub use prepare::{describe, refuse_encoders};
pub(crate) use prove::run_report;
pub use speed::Effort;

/// For each document that plans are judged by, others at most that rounding and pruning are fitted
/// on.
const OBSERVED_RATIO: usize = 4;

/// Everything that is asked for.
#[derive(Clone)]
pub struct Settings {
    /// The model: a file or directory.
    pub source: PathBuf,
    /// Its tokenizer file, where the container keeps it apart.
    pub tokenizer: Option<PathBuf>,
    /// The folder for the artifact, the Plan, the reports and the search's state.
    pub output: PathBuf,
    /// The caps.
    pub budget: Budget,
    /// The text.
    pub text: TextSettings,
    /// Questions that both models are asked.
    pub tasks: TaskSettings,
    /// Whether the MLP may be widened with zeros so that its rows fit.
    pub may_pad: bool,
    /// Whether channels of the MLP may leave.
    pub may_prune: bool,
    /// Who has the chosen plan learn from the source; nobody unless that is asked for.
    pub distiller: Option<Arc<dyn Distiller>>,
    /// Whether rounding errors are weighed by what matrices read.
    pub rounding: rounding::Choice,
    /// Whether columns are scaled by it first.
    pub scaling: rounding::Scaling,
    /// How layers see their inputs.
    pub inputs: inputs::Choice,
    /// What proposes plans from the losses of single groups.
    pub strategy: &'static dyn Strategy,
    /// What the model is for: where the search starts from.
    pub use_case: UseCase,
    /// Whole plans measured at most.
    pub max_checks: usize,
    /// Bands of layers searched together; `None` is each layer alone, if time allows.
    pub n_bands: Option<usize>,
    /// Whether to go on from an earlier, stopped run.
    pub resume: bool,
    /// How long to compare speeds.
    pub effort: Effort,
    /// Whether the search may keep keys and values in fewer bits where memory is capped.
    pub may_choose_kv: bool,
    /// Who measures memory; where nobody does, figures say so.
    pub footprint: Option<Arc<dyn Footprint>>,
    /// What the report says of this run.
    pub identity: Identity,
}

impl Settings {
    /// The defaults for a model, a folder, a calibration text and a budget.
    pub fn new(source: PathBuf, output: PathBuf, calibration: PathBuf, budget: Budget) -> Self {
        let (seed, observed_ratio) = (budget.seed, OBSERVED_RATIO);
        let text = TextSettings { seed, observed_ratio, ..TextSettings::of(calibration) };
        Self {
            source,
            tokenizer: None,
            output,
            budget,
            text,
            tasks: TaskSettings::default(),
            may_pad: true,
            may_prune: false,
            distiller: None,
            rounding: rounding::Choice::default(),
            scaling: rounding::Scaling::default(),
            inputs: inputs::Choice::default(),
            strategy: STRATEGIES[0],
            use_case: UseCase::default(),
            max_checks: 80,
            n_bands: None,
            resume: false,
            effort: Effort::default(),
            may_choose_kv: true,
            footprint: None,
            identity: Identity::default(),
        }
    }
}

/// What the program knows of itself and the caller.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// Version and commit of the program.
    pub build: String,
    /// blake3 of the program's file, where it can be read.
    pub binary: Option<String>,
    /// Date and time, as [`sterna_measure::clock::timestamp_utc`] writes them.
    pub timestamp: String,
    /// The command, so that the report says how to reproduce it.
    pub command: String,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The artifact.
    pub artifact: PathBuf,
    /// The Plan's text.
    pub plan: PathBuf,
    /// The report for machines.
    pub report_json: PathBuf,
    /// The report for people.
    pub report_html: PathBuf,
    /// The manifest of the raw samples.
    pub evidence: PathBuf,
    /// The report.
    pub report: Report,
}

/// The file in the output folder that `--resume` goes on from.
pub const STATE_NAME: &str = "state.jsonl";
/// Bytes kept free in the artifact for its evidence.
pub const EVIDENCE_BYTES: usize = 8 * 1024;

/// Optimizes a model.
///
/// # Errors
/// When an input cannot be used, the model cannot be run, a file not written, or the user stops it.
pub fn optimize(
    settings: &Settings,
    engine: &dyn Engine,
    clock: &dyn Clock,
    watch: Watch<'_>,
) -> Result<Outcome> {
    watch.outcome(run(settings, engine, clock, watch))
}

fn run(
    settings: &Settings,
    engine: &dyn Engine,
    clock: &dyn Clock,
    watch: Watch<'_>,
) -> Result<Outcome> {
    settings.budget.check()?;
    let begun = clock.now();
    std::fs::create_dir_all(&settings.output)
        .map_err(|e| OptimizeError::failed(settings.output.display().to_string(), e))?;
    evidence::bundle::may_write(&settings.output)?;
    let prepared = prepare::prepare(settings, engine, watch)?;
    let pruned = start::widths(settings, &prepared, engine, watch)?;
    let decided = decide::decide(settings, &prepared, &pruned, (engine, clock), watch)?;
    let (building, found, costs) = (decided.building, decided.found, decided.costs.as_ref());
    let mut proof = prove::prove(settings, &prepared, &building, costs, engine, clock, watch)?;
    let spent = Spent::since(begun, clock);
    proof.figures.extend(spent.figures()?);
    watch.step(Stage::Report, 0, 1, "writing")?;
    let details = Details::collect(settings, &prepared, &building, &found, &proof);
    let report = Report { run: proof.run(settings, &prepared, engine)?, details };
    let artifact = build::finish(settings, &prepared, &building, &report)?;
    let report = Report { run: prove::with_artifact(report.run, &artifact)?, ..report };
    let (report_json, report_html) = report.write(&settings.output)?;
    let evidence = bundle(settings, &prepared, &building, (&proof, spent), (&report, engine))?;
    distiller::keeper::forget(&settings.output);
    watch.step(Stage::Report, 1, 1, "done")?;
    let plan = settings.output.join("plan.toml");
    Ok(Outcome { artifact, plan, report_json, report_html, evidence, report })
}

/// Keeps the raw samples beside the artifact.
fn bundle(
    settings: &Settings,
    prepared: &Prepared,
    building: &Building<'_>,
    (proof, spent): (&Proof, Spent),
    (report, engine): (&Report, &dyn Engine),
) -> Result<PathBuf> {
    let (run, identity) = (&report.run, &settings.identity);
    let path = |path: &Path| path.display().to_string();
    let artifact = artifact_path(settings, prepared);
    let artifact = artifact.file_name().expect("a file").to_string_lossy().into_owned();
    let manifest = Manifest {
        version: manifest::VERSION,
        made: Circumstances {
            sterna: env!("CARGO_PKG_VERSION").into(),
            binary: identity.binary.clone(),
            timestamp: identity.timestamp.clone(),
            command: identity.command.clone(),
            seed: run.seed,
            threads: run.machine.threads,
            isa: run.machine.isa.clone(),
            kv: engine.kv(),
            ..Circumstances::here(&Machine::detect())
        },
        source: SourceFile {
            path: path(&settings.source),
            tokenizer: settings.tokenizer.as_deref().map(path),
            content: prepared.source.content.clone(),
            bytes: prepared.source_bytes(),
        },
        artifact,
        artifact_content: building.content_hash.clone(),
        plan: building.plan.hash(),
        calibration: prepared.texts.calibration.workload().hash().into(),
        held_out: prepared.texts.heldout.workload().hash().into(),
        memory: proof.memory.clone(),
        spent,
        candidates: Vec::new(),
        files: Vec::new(),
        hash: String::new(),
    };
    evidence::bundle::write(&settings.output, &proof.evidence, &BESIDE, manifest)
}

/// The artifact's name in the output folder.
fn artifact_path(settings: &Settings, prepared: &Prepared) -> PathBuf {
    let safe = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = prepared.model.name.chars().map(safe).collect();
    settings.output.join(format!("{}.sterna.gguf", name.trim_start_matches('.')))
}

/// Candidates of a plan with nothing changed, for the report's size of what is grouped.
pub(crate) fn n_pairs(draft: &Draft<'_>, budget: &Budget, n_bands: usize) -> (usize, usize) {
    let groups = groups::of(draft, &budget.allow, n_bands);
    let n_pairs = groups.iter().map(|group| group.candidates.len() - 1).sum();
    (groups.len(), n_pairs)
}

/// Writes a file that appears whole or not at all.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |error| OptimizeError::failed(format!("writing {}", path.display()), error);
    AtomicFile::write_whole(path, bytes).map_err(failed)
}

#[cfg(test)]
mod tests;
