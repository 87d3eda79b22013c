//! The proof: the file as it lies on disk, reopened, against its baseline on text that nothing has
//! seen.

use super::speed::{self, Speed};
use super::{Building, MAX_LOGITS_BYTES, Prepared, Settings};
use crate::draft::Draft;
use crate::engine::{Engine, Loaded};
use crate::error::{OptimizeError, Result};
use crate::passes::rtn;
use crate::progress::{Stage, Watch};
use crate::recipe::Recipe;
use crate::report::Point;
use crate::size;
use crate::yardstick::{Reading, Yardstick};
use std::path::Path;
use sterna_formats::encodings::by_name;
use sterna_measure::machine::Machine;
use sterna_measure::memory::{Process, pss};
use sterna_measure::quality::Scores;
use sterna_measure::report::{Artefact, Bound, MachineSummary, RunReport, Target, WorkloadSummary};
use sterna_measure::{Clock, Figure, MeasureError, Unit};
use sterna_model::Artifact;

/// Encodings whose uniform use is what the artifact is compared with.
const UNIFORM: &[&str] = &["Q8_0", "Q4_0"];

/// Everything measured of the artifact.
pub struct Proof {
    /// Metrics.
    pub figures: Vec<Figure>,
    /// Baseline, artifact and uniform encodings on held-out text.
    pub points: Vec<Point>,
    /// Speeds.
    pub speed: Speed,
}

/// Reopens and measures.
pub fn prove(
    settings: &Settings,
    prepared: &Prepared,
    building: &Building<'_>,
    engine: &dyn Engine,
    clock: &dyn Clock,
    watch: Watch<'_>,
) -> Result<Proof> {
    let model = &prepared.model;
    watch.step(Stage::Verify, 0, 4, "running the baseline on held-out text")?;
    let baseline = engine.load(&model.graph, model)?;
    let mut yardstick = Yardstick::new(baseline, &prepared.texts.heldout, MAX_LOGITS_BYTES)?;
    watch.step(Stage::Verify, 1, 4, "reopening the artifact and running it on held-out text")?;
    let artifact = Artifact::open(&building.path)?;
    artifact.verify_content()?;
    let before = pss(Process::Own)?.value();
    let mut loaded = engine.load(&artifact.model.graph, &artifact.model)?;
    super::prepare::run_once(&mut *loaded)?;
    let grown = pss(Process::Own)?.value().zip(before).map(|(after, before)| after - before);
    let reading = yardstick.read(&mut *loaded)?;
    let mut figures = quality_figures(&reading)?;
    figures.extend(size_figures(prepared, building)?);
    figures.push(memory_figure("artifact_pss_bytes", grown)?);
    figures.push(memory_figure("baseline_pss_bytes", prepared.baseline_pss_bytes)?);
    let mut points = vec![
        Point::baseline(prepared.source_bytes(), &reading),
        Point::of("artifact", "chosen", building.bytes, &reading),
    ];
    for name in UNIFORM {
        watch.step(Stage::Verify, 1, 4, &format!("running uniform {name} on held-out text"))?;
        points.extend(uniform(prepared, name, engine, &mut yardstick)?);
    }
    let mut baseline = engine.load(&model.graph, model)?;
    let speed = race(settings, prepared, &mut *baseline, &mut *loaded, clock, watch)?;
    figures.extend(speed.figures.iter().cloned());
    watch.step(Stage::Verify, 4, 4, "done")?;
    Ok(Proof { figures, points, speed })
}

fn race(
    settings: &Settings,
    prepared: &Prepared,
    baseline: &mut dyn Loaded,
    artifact: &mut dyn Loaded,
    clock: &dyn Clock,
    watch: Watch<'_>,
) -> Result<Speed> {
    let passages = prepared.texts.heldout.iter();
    let tokens = passages.map(|p| p.tokens.as_slice()).max_by_key(|tokens| tokens.len());
    let tokens = tokens.expect("held-out text is not empty");
    speed::measure(baseline, artifact, tokens, settings.effort, clock, watch)
}

/// The model in one encoding wherever it fits, F16 elsewhere, on the same text; `None` where the
/// source is no larger.
fn uniform(
    prepared: &Prepared,
    name: &str,
    engine: &dyn Engine,
    yardstick: &mut Yardstick,
) -> Result<Option<Point>> {
    let model = &prepared.model;
    let encoding = by_name(name).expect("a registered encoding");
    let mut draft = Draft::new(&model.graph, model);
    rtn::encode_all(&mut draft, &Recipe::named(encoding.name())?.pure())?;
    if draft.edits().next().is_none() {
        return Ok(None);
    }
    let bytes = size::file_bytes(&model.metadata, draft.graph(), &draft);
    let mut loaded = engine.load(draft.graph(), &draft)?;
    let reading = yardstick.read(&mut *loaded)?;
    let label = format!("{name} wherever it fits, else F16");
    Ok(Some(Point::of(&label, "uniform", bytes, &reading)))
}

/// Divergence, drop, and both models' perplexities.
fn quality_figures(reading: &Reading) -> Result<Vec<Figure>> {
    let mut figures = perplexities("baseline", &reading.baseline)?;
    figures.extend(perplexities("artifact", reading.divergence.scores())?);
    figures.extend(reading.drop.figures()?);
    let name = "perplexity_drop_percent_high";
    let method = format!(
        "upper end of the 95% interval of perplexity_drop_percent, bootstrapped over documents; {}",
        reading.baseline.method()
    );
    figures.push(match reading.drop.perplexity_percent_ci95 {
        Some(interval) => {
            let high = interval.high.max(reading.drop.perplexity_percent);
            let n = reading.baseline.n_scored();
            Figure::estimated(name, Unit::Percent, &method, high, n, None)?
        }
        None => {
            let reason = "an interval needs five held-out documents or more";
            Figure::unavailable(name, Unit::Percent, &method, reason)?
        }
    });
    figures.extend(reading.divergence.figures()?);
    Ok(figures)
}

/// A model's own figures, named for it.
fn perplexities(who: &str, scores: &Scores) -> Result<Vec<Figure>> {
    let rename = |figure: Figure| {
        let name = format!("{who}_{}", figure.name());
        match figure.value() {
            Some(value) => {
                let (unit, n) = (figure.unit(), figure.n());
                Figure::estimated(&name, unit, figure.method(), value, n, figure.ci95())
            }
            None => Ok(figure),
        }
    };
    let figures: std::result::Result<_, MeasureError> =
        scores.figures()?.into_iter().map(rename).collect();
    Ok(figures?)
}

fn size_figures(prepared: &Prepared, building: &Building<'_>) -> Result<Vec<Figure>> {
    let method = "length of the artifact's file, Plan and evidence included";
    let bytes = building.bytes as f64;
    let source = prepared.source_bytes() as f64;
    let weights = building.draft.weight_bytes() as f64;
    let n = prepared.model.graph.n_parameters() as f64;
    Ok(vec![
        Figure::read("file_bytes", Unit::Bytes, method, bytes)?,
        Figure::computed(
            "baseline_file_bytes",
            Unit::Bytes,
            "GGUF file of the source's tensors as they are, with its metadata",
            source,
        )?,
        Figure::computed(
            "size_ratio",
            Unit::Ratio,
            "baseline_file_bytes over file_bytes",
            source / bytes,
        )?,
        Figure::computed(
            "artifact_bits_per_weight",
            Unit::BitsPerWeight,
            "bits of all tensors over the source's parameters",
            weights * 8.0 / n,
        )?,
    ])
}

fn memory_figure(name: &str, grown: Option<f64>) -> Result<Figure> {
    let method = "growth of this process's PSS by loading the model and running it once";
    let reason = match grown {
        Some(bytes) if bytes > 0.0 => return Ok(Figure::read(name, Unit::Bytes, method, bytes)?),
        Some(_) => "the process did not grow: memory freed before was used again",
        None => "/proc/self/smaps_rollup cannot be read here",
    };
    Ok(Figure::unavailable(name, Unit::Bytes, method, reason)?)
}

impl Prepared {
    /// Bytes of the model as a GGUF file, as it is.
    pub fn source_bytes(&self) -> u64 {
        size::file_bytes(&self.model.metadata, &self.model.graph, &self.model)
    }
}

impl Proof {
    /// The run in the report's schema; the artifact is added when it lies in its place.
    pub fn run(
        &self,
        settings: &Settings,
        prepared: &Prepared,
        engine: &dyn Engine,
    ) -> Result<RunReport> {
        let machine = Machine::detect();
        let budget = &settings.budget;
        let mut targets = Vec::new();
        let wanted = [
            ("perplexity_drop_percent_high", budget.max_drop_percent, Unit::Percent),
            ("file_bytes", budget.max_size.map(|b| b as f64), Unit::Bytes),
            ("artifact_pss_bytes", budget.max_memory.map(|b| b as f64), Unit::Bytes),
        ];
        for (name, wanted, unit) in wanted {
            if let Some(wanted) = wanted {
                let target = Target::judge(name, Bound::AtMost, wanted, unit, &self.figures)?;
                targets.push(target);
            }
        }
        let workload = prepared.texts.heldout.workload();
        let run_id = blake3::hash(
            format!("{}{}{}", settings.identity.timestamp, workload.hash(), budget.line())
                .as_bytes(),
        );
        Ok(RunReport {
            run_id: run_id.to_hex()[..16].to_owned(),
            timestamp: settings.identity.timestamp.clone(),
            machine: MachineSummary {
                id: machine.id(),
                cpu: machine.cpu.clone(),
                cores: machine.usable_cpus(),
                threads: engine.n_threads(),
                isa: engine.isa(),
                ram_bytes: machine.usable_memory_bytes().unwrap_or(0),
                gpu: None,
            },
            build: settings.identity.build.clone(),
            seed: budget.seed,
            workload: WorkloadSummary::from(workload),
            metrics: self.figures.clone(),
            targets,
            artefacts: Vec::new(),
        })
    }
}

/// The run with the artifact as it lies in its place, and its hash.
pub fn with_artifact(mut run: RunReport, path: &Path) -> Result<RunReport> {
    let io = |e| OptimizeError::failed(path.display().to_string(), e);
    run.artefacts.push(Artefact::of(path).map_err(io)?);
    Ok(run)
}
