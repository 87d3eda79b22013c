//! The whole way: open, measure the baseline, search, build, reopen, prove, report.
//!
//! In: [`Settings`], an engine to run models, a clock, and whom to tell. Out: an [`Outcome`]: an
//! artifact that was measured as it lies on disk, and its report. A budget that is missed is an
//! outcome like any other and is shown as missed.

mod ablate;
mod build;
pub mod costs;
mod feasible;
mod prepare;
pub(crate) mod prove;
pub mod rounding;
pub(crate) mod speed;

use crate::budget::Budget;
use crate::calibration::TextSettings;
use crate::draft::Draft;
use crate::engine::Engine;
use crate::error::{OptimizeError, Result};
use crate::evidence::bundle::BESIDE;
use crate::evidence::{self, Circumstances, Manifest, SourceFile, manifest};
use crate::footprint::Footprint;
use crate::judge::ModelJudge;
use crate::passes::{Context, PASSES};
use crate::progress::{Stage, Watch};
use crate::report::{Details, Report};
use crate::search::memory::Remembered;
use crate::search::{
    Costs, Found, Goal, Least, Packed, STRATEGIES, Search, Strategy, UseCase, groups, preset,
};
use crate::tasks::TaskSettings;
use crate::yardstick::Yardstick;
pub(crate) use build::Building;
pub(crate) use prepare::Prepared;
pub(crate) use prove::Proof;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use sterna_formats::AtomicFile;
use sterna_measure::Clock;
use sterna_measure::machine::Machine;
use sterna_model::rewrites::REWRITES;

pub use prepare::describe;
pub(crate) use prove::run_report;
pub use speed::Effort;

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
    /// Whether rounding errors are weighed by what matrices read.
    pub rounding: rounding::Choice,
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
    /// Who measures memory; where nobody does, figures say so.
    pub footprint: Option<Arc<dyn Footprint>>,
    /// What the report says of this run.
    pub identity: Identity,
}

impl Settings {
    /// The defaults for a model, a folder, a calibration text and a budget.
    pub fn new(source: PathBuf, output: PathBuf, calibration: PathBuf, budget: Budget) -> Self {
        let text = TextSettings { seed: budget.seed, ..TextSettings::of(calibration) };
        Self {
            source,
            tokenizer: None,
            output,
            budget,
            text,
            tasks: TaskSettings::default(),
            may_pad: true,
            rounding: rounding::Choice::default(),
            strategy: STRATEGIES[0],
            use_case: UseCase::default(),
            max_checks: 80,
            n_bands: None,
            resume: false,
            effort: Effort::default(),
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
/// The share of the allowed drop that the search aims at: what it chose on calibration text does a
/// little worse on text it has not seen.
const AIM: f64 = 0.7;
/// The share of the allowed time that the search aims at: predictions are off by a few percent.
const TIME_AIM: f64 = 0.97;
/// Logits of a baseline kept in memory at most.
pub(crate) const MAX_LOGITS_BYTES: usize = 1 << 30;
/// Encoded weights kept in memory at most, so that no plan encodes them again.
const MAX_ENCODED_BYTES: usize = 256 << 20;

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
    std::fs::create_dir_all(&settings.output)
        .map_err(|e| OptimizeError::failed(settings.output.display().to_string(), e))?;
    evidence::bundle::may_write(&settings.output)?;
    let prepared = prepare::prepare(settings, engine, watch)?;
    let (building, found, costs) = search(settings, &prepared, engine, clock, watch)?;
    let costs = costs.as_ref();
    let proof = prove::prove(settings, &prepared, &building, costs, engine, clock, watch)?;
    watch.step(Stage::Report, 0, 1, "writing")?;
    let details = Details::collect(settings, &prepared, &building, &found, &proof);
    let report = Report { run: proof.run(settings, &prepared, engine)?, details };
    let artifact = build::finish(settings, &prepared, &building, &report)?;
    let report = Report { run: prove::with_artifact(report.run, &artifact)?, ..report };
    let (report_json, report_html) = report.write(&settings.output)?;
    let evidence = bundle(settings, &prepared, &building, &proof, &report)?;
    watch.step(Stage::Report, 1, 1, "done")?;
    let plan = settings.output.join("plan.toml");
    Ok(Outcome { artifact, plan, report_json, report_html, evidence, report })
}

/// Searches until what is built is within the size; gives the draft built.
fn search<'p>(
    settings: &Settings,
    prepared: &'p Prepared,
    engine: &'p dyn Engine,
    clock: &dyn Clock,
    watch: Watch<'_>,
) -> Result<(Building<'p>, Found, Option<Costs>)> {
    let mut base = base_draft(settings, prepared)?;
    feasible::size(&settings.budget, &prepared.model.metadata, &base)?;
    feasible::bits(&settings.budget, prepared.model.graph.n_parameters(), &base)?;
    let memory = memory(settings, prepared, &base)?;
    let start = clock.now();
    let costs = costs::costs(settings, prepared, &mut base, engine, clock, watch)?;
    let time = settings.budget.time.map(|time| time.saturating_sub(clock.now() - start));
    if let Some(costs) = &costs {
        feasible::time(&settings.budget, costs, &base)?;
    }
    watch.step(Stage::Baseline, 0, 2, "running the baseline on calibration text")?;
    let yardstick = |passages| {
        let baseline = engine.load(&prepared.model.graph, &prepared.model)?;
        Yardstick::new(baseline, passages, MAX_LOGITS_BYTES)
    };
    let full = yardstick(&prepared.texts.calibration)?;
    watch.step(Stage::Baseline, 1, 2, "running the baseline on its first part")?;
    let quick = yardstick(&prepared.texts.quick)?;
    watch.step(Stage::Baseline, 2, 2, "done")?;
    let mut judge = ModelJudge { engine, draft: base, quick, full };
    rounding::decide(settings.rounding, prepared, &settings.budget.allow, &mut judge, watch)?;
    judge.draft.keep_encoded(MAX_ENCODED_BYTES);
    let base = judge.draft.clone();
    let state = settings.output.join(STATE_NAME);
    let key = prepared.key(&base);
    let mut judge = Remembered::in_file(&mut judge, &state, &key, settings.resume)?;
    let mut excess = Excess::default();
    loop {
        let besides = memory.as_ref().map_or(0, |(_, besides)| *besides) + excess.memory;
        let goal = goal(settings, prepared, &base, (excess.size, besides), costs.as_ref())?;
        let packed = memory.as_ref().map(|(packed, _)| packed);
        let (draft, found) = run_passes(
            (settings, prepared),
            (&base, costs.as_ref(), packed),
            (goal, time),
            &mut judge,
            clock,
            watch,
        )?;
        let loss = found.best().loss;
        let draft = rounding::compensate(
            settings.rounding,
            prepared,
            engine,
            (draft, loss),
            &mut judge,
            watch,
        )?;
        let over = feasible::over_memory(settings, prepared, &draft)?;
        if over > 0 {
            excess.memory += over;
            continue;
        }
        let (text, means) = (&prepared.texts.heldout, (engine, clock));
        let switched = ablate::ablate(&draft, text, settings.effort, means, watch)?;
        let building = build::build(settings, prepared, draft, switched, watch)?;
        let max_size = settings.budget.max_size.unwrap_or(u64::MAX);
        let over = building.bytes.saturating_sub(max_size);
        if over == 0 {
            return Ok((building, found, costs));
        }
        // The Plan's text was longer than thought; at most a few hundred bytes, so this ends.
        excess.size += over;
    }
}

/// Where memory is capped, what matrices take of it, and what all else takes.
fn memory(
    settings: &Settings,
    prepared: &Prepared,
    base: &Draft<'_>,
) -> Result<Option<(Packed, u64)>> {
    if settings.budget.max_memory.is_none() {
        return Ok(None);
    }
    let pair = settings.footprint.as_deref().zip(prepared.memory.as_ref());
    let (footprint, baseline) = pair.ok_or_else(|| {
        OptimizeError::Input("--max-memory needs somebody who plans memory".into())
    })?;
    let planned = |draft: &Draft<'_>| footprint.planned(draft.graph(), draft);
    let packed = Packed::of(base, &settings.budget.allow, &planned)?;
    let besides = feasible::memory_besides(baseline, planned(base)?, base);
    feasible::memory(&settings.budget, &packed, besides, base)?;
    Ok(Some((packed, besides)))
}

/// Bytes by which plans turned out larger than was thought.
#[derive(Default)]
struct Excess {
    size: u64,
    memory: u64,
}

/// The draft that encodings are chosen for: the model, padded if that may be.
fn base_draft<'p>(settings: &Settings, prepared: &'p Prepared) -> Result<Draft<'p>> {
    let model = &prepared.model;
    let mut draft = Draft::new(&model.graph, model);
    let may_pad = settings.may_pad.then_some((model.arch, &model.config));
    let mut context = Context { may_pad, ..Context::default() };
    PASSES.iter().try_for_each(|pass| pass.apply(&mut draft, &mut context))?;
    Ok(draft)
}

fn run_passes<'p>(
    (settings, prepared): (&Settings, &Prepared),
    (base, costs, packed): (&Draft<'p>, Option<&Costs>, Option<&Packed>),
    (goal, time_budget): (Goal, Option<Duration>),
    judge: &mut Remembered<'_>,
    clock: &dyn Clock,
    watch: Watch<'_>,
) -> Result<(Draft<'p>, Found)> {
    let mut draft = base.clone();
    let preset = preset(prepared.source_bytes(), settings.use_case);
    draft.note(preset.note(prepared.source_bytes()));
    let search_settings = crate::search::Settings {
        goal,
        allow: settings.budget.allow.clone(),
        max_checks: settings.max_checks,
        time_budget,
        n_bands: settings.n_bands,
        strategy: settings.strategy,
        seed: settings.budget.seed,
        costs: costs.cloned(),
        preset: Some(preset),
        packed: packed.cloned(),
    };
    let mut search = Search { settings: search_settings, judge, clock, watch };
    let rewrites: Vec<&str> = REWRITES.iter().map(|rewrite| rewrite.name()).collect();
    let mut context =
        Context { chooser: Some(&mut search), rewrites: &rewrites, ..Context::default() };
    PASSES.iter().try_for_each(|pass| pass.apply(&mut draft, &mut context))?;
    let found = context.found.expect("mixed was given a chooser");
    Ok((draft, found))
}

/// What the search is to reach: the least divergence in a size or a time if one is capped, else the
/// fewest bytes within a drop; or what the user wants least within all caps.
fn goal(
    settings: &Settings,
    prepared: &Prepared,
    base: &Draft<'_>,
    (excess, besides): (u64, u64),
    costs: Option<&Costs>,
) -> Result<Goal> {
    let budget = &settings.budget;
    let fixed = build::fixed_bytes(&prepared.model.metadata, base) + EVIDENCE_BYTES as u64;
    let fixed = fixed + excess;
    let by_size = budget.max_size.map(|max| max.saturating_sub(fixed));
    let by_bits = budget.tensor_bytes(prepared.model.graph.n_parameters());
    let by_bits = by_bits.map(|max| max.saturating_sub(feasible::vector_bytes(base)));
    let max_resident = budget.max_memory.map(|max| max.saturating_sub(besides));
    let max_bytes = [by_size, by_bits].into_iter().flatten().min();
    let max_nanos = costs.and_then(|costs| {
        let token = budget.token_nanos(costs.p95_ratio)?;
        Some((token * TIME_AIM - costs.rest).max(0.0))
    });
    let is_capped = max_bytes.is_some() || max_nanos.is_some() || max_resident.is_some();
    let least = budget.least.unwrap_or(match is_capped {
        true => Least::Divergence,
        false => Least::Bytes,
    });
    let max_drop = budget.max_drop_percent.map(|drop| drop * AIM);
    let max_drop_percent = max_drop.filter(|_| least != Least::Divergence);
    Ok(Goal { max_bytes, max_nanos, max_resident, max_drop_percent, least })
}

/// Keeps the raw samples beside the artifact.
fn bundle(
    settings: &Settings,
    prepared: &Prepared,
    building: &Building<'_>,
    proof: &Proof,
    report: &Report,
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
