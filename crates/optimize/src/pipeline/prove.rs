//! The proof: the file as it lies on disk, reopened, against its baseline on text that nothing has
//! seen.

use super::{Building, Effort, Identity, Prepared, Settings, speed};
use crate::draft::Draft;
use crate::engine::{Engine, Loaded};
use crate::error::{OptimizeError, Result};
use crate::evidence::times::{Matrix, Prediction, Speed};
use crate::evidence::{Candidate, Evidence, Facts, derive};
use crate::footprint::{self, Memory, RunAs, Taken};
use crate::passes::{pad, rtn};
use crate::progress::{Stage, Watch};
use crate::recipe::Recipe;
use crate::report::{Point, ReliabilityBins};
use crate::search::Costs;
use crate::size;
use crate::tasks::Questions;
use crate::yardstick::Yardstick;
use std::path::Path;
use std::time::Duration;
use sterna_formats::encodings::by_name;
use sterna_measure::machine::Machine;
use sterna_measure::quality::Passages;
use sterna_measure::quality::tasks::{self, Question, Task};
use sterna_measure::report::{Artefact, Bound, MachineSummary, RunReport, Target, WorkloadSummary};
use sterna_measure::{Clock, Figure};
use sterna_model::plan::inputs;
use sterna_model::{Artifact, Model, Plan};

/// Encodings whose uniform use is what the artifact is compared with.
const UNIFORM: &[&str] = &["Q8_0", "Q4_0"];

/// Whoever is compared with the artifact is left out where that would take longer, or more than a
/// quarter of the time that the search was given.
const MAX_COMPARED: Duration = Duration::from_secs(180);

/// Everything measured of the artifact.
pub struct Proof {
    /// Metrics.
    pub figures: Vec<Figure>,
    /// Baseline, artifact and uniform encodings on held-out text.
    pub points: Vec<Point>,
    /// Bins of the reliability diagram.
    pub reliability: ReliabilityBins,
    /// Speeds.
    pub speed: Speed,
    /// What both models take of memory, where somebody measures that.
    pub memory: Option<Memory>,
    /// What all of these follow from.
    pub evidence: Evidence,
    /// What was left out.
    pub notes: Vec<String>,
}

/// Reopens and measures.
pub fn prove(
    settings: &Settings,
    prepared: &Prepared,
    building: &Building<'_>,
    costs: Option<&Costs>,
    engine: &dyn Engine,
    clock: &dyn Clock,
    watch: Watch<'_>,
) -> Result<Proof> {
    let model = &prepared.model;
    watch.step(Stage::Verify, 0, 5, "running the baseline on held-out text")?;
    let baseline = engine.load(&model.graph, model)?;
    let mut yardstick = Yardstick::new(baseline, &prepared.texts.heldout, &settings.output)?;
    watch.step(Stage::Verify, 1, 5, "reopening the artifact and running it on held-out text")?;
    let artifact = Artifact::open(&building.path)?;
    artifact.verify_content()?;
    let switched = as_planned(engine, &building.plan)?;
    let mut loaded = switched.load(&artifact.model.graph, &artifact.model)?;
    let start = clock.now();
    let reading = yardstick.read(&mut *loaded)?;
    let facts = Facts::artifact(building.bytes);
    let mut candidates = vec![Candidate { facts, said: reading.divergence.compared().to_vec() }];
    let took = clock.now() - start;
    candidates.extend(with_float_inputs(building, engine, &mut yardstick, watch)?);
    let mut notes = match may_compare(took, settings.budget.time) {
        true => Vec::new(),
        false => vec![not_compared(took)],
    };
    if notes.is_empty() {
        candidates.extend(compared(model, building, engine, &mut yardstick, watch)?);
    }
    // Both with the same optimizations, so that encodings alone are raced.
    let mut baseline = engine.without(&building.plan.off)?.load(&model.graph, model)?;
    let tasks = answers(&prepared.tasks, &mut *baseline, &mut *loaded, watch)?;
    let text = prepared.texts.heldout.clone();
    let tokens = speed::tokens(&text);
    // The first token is timed after the prompt that was foretold, where one was.
    let n_first = costs.and_then(|costs| Some(costs.prompt.as_ref()?.0));
    let n_first = n_first.unwrap_or(settings.effort.n_first);
    let effort = Effort { n_first, ..settings.effort };
    let mut times = speed::measure(&mut *baseline, &mut *loaded, tokens, effort, clock, watch)?;
    times.prediction = costs.and_then(|costs| prediction(prepared, building, costs, engine));
    if costs.is_some() && times.prediction.is_none() {
        let why = "times were foretold for the settings that the search ran with, and for models \
                   of the baseline's shapes; the Plan has others: they are not held against what \
                   was measured";
        notes.push(why.into());
    }
    times.switched = building.switched.clone();
    watch.step(Stage::Verify, 4, 5, "running the artifact in a process of its own")?;
    let memory = memory(settings, prepared, building)?;
    watch.step(Stage::Verify, 5, 5, "done")?;
    let baseline = reading.divergence.baseline().to_vec();
    let evidence = Evidence { text, baseline, candidates, tasks, times };
    let quality = derive::quality(&evidence, prepared.source_bytes())?;
    let speed = evidence.times.derive()?;
    let mut figures = quality.figures;
    figures.extend(derive::sizes(&derive::Sizes {
        file: building.bytes,
        source: prepared.source_bytes(),
        weights: building.draft.weight_bytes() as u64,
        n_parameters: model.graph.n_parameters(),
    })?);
    figures.extend(footprint::figures(memory.as_ref())?);
    figures.extend(speed.figures.iter().cloned());
    let (points, reliability) = (quality.points, quality.reliability);
    Ok(Proof { figures, memory, points, reliability, speed, evidence, notes })
}

/// Whether there is time for whoever is compared with the artifact, on which a run `took` so long.
fn may_compare(took: Duration, time_budget: Option<Duration>) -> bool {
    let most = time_budget.map_or(MAX_COMPARED, |time| MAX_COMPARED.min(time / 4));
    took * (UNIFORM.len() + 1) as u32 <= most
}

/// Why nobody is compared with the artifact.
fn not_compared(took: Duration) -> String {
    format!(
        "the artifact was not compared with uniform encodings and plain rounding on held-out \
         text: running it there took {:.1} s and each of them would take as long, which is more \
         than they may take ({:.0} s, or a quarter of --time-budget)",
        took.as_secs_f64(),
        MAX_COMPARED.as_secs_f64()
    )
}

/// What was foretold of the artifact, if it runs as costs were measured.
fn prediction(
    prepared: &Prepared,
    building: &Building<'_>,
    costs: &Costs,
    engine: &dyn Engine,
) -> Option<Prediction> {
    // Of the baseline's own shapes nothing was measured where the model was pruned.
    let is_as_measured = RunAs::of(&building.plan) == RunAs::by(engine)
        && !is_pruned(&prepared.model, &building.plan);
    is_as_measured.then(|| Prediction {
        costs: costs.clone(),
        matrices: Matrix::all(building.draft.graph(), &building.draft),
        given: prepared.timed(building),
    })
}

/// Whether a Plan leaves channels of the model's MLP out.
fn is_pruned(model: &Model, plan: &Plan) -> bool {
    plan.mlp_width.is_some_and(|width| width < model.config.ffn_dim as u64)
}

/// The engine as a Plan has its artifact run.
pub fn as_planned(engine: &dyn Engine, plan: &Plan) -> Result<Box<dyn Engine>> {
    engine.with_kv(&plan.kv)?.without(&plan.off)
}

/// Both models on all questions.
pub fn answers(
    asked: &[Questions],
    baseline: &mut dyn Loaded,
    artifact: &mut dyn Loaded,
    watch: Watch<'_>,
) -> Result<Vec<Task>> {
    let all = |model: &mut dyn Loaded, questions: &[Question], note: &str| {
        let mut answers = Vec::new();
        for (done, question) in questions.iter().enumerate() {
            if done.is_multiple_of(8) {
                watch.step(Stage::Tasks, done, questions.len(), note)?;
            }
            answers.push(tasks::answer(model, question)?);
        }
        watch.step(Stage::Tasks, questions.len(), questions.len(), note)?;
        Ok::<_, OptimizeError>(answers)
    };
    let mut answered = Vec::new();
    for Questions { name, questions } in asked {
        answered.push(Task {
            name: name.clone(),
            questions: questions.clone(),
            baseline: all(baseline, questions, &format!("{name}, the baseline"))?,
            artifact: all(artifact, questions, &format!("{name}, the artifact"))?,
        });
    }
    Ok(answered)
}

/// Whom the artifact is compared with: itself rounded plainly, uniform encodings.
fn compared(
    model: &Model,
    building: &Building<'_>,
    engine: &dyn Engine,
    yardstick: &mut Yardstick,
    watch: Watch<'_>,
) -> Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    if let Some(draft) = plain_draft(model, &building.plan)? {
        watch.step(Stage::Verify, 1, 5, "running its encodings, rounded plainly")?;
        let engine = engine.with_kv(&building.plan.kv)?;
        let reading = yardstick.read(&mut *engine.load(draft.graph(), &draft)?)?;
        let said = reading.divergence.compared().to_vec();
        candidates.push(Candidate { facts: Facts::plain(building.bytes), said });
    }
    for name in UNIFORM {
        watch.step(Stage::Verify, 1, 5, &format!("running uniform {name} on held-out text"))?;
        candidates.extend(uniform(model, name, engine, yardstick)?);
    }
    Ok(candidates)
}

/// The model in one encoding wherever it fits, F16 elsewhere, on the same text; `None` where the
/// source is no larger.
fn uniform(
    model: &Model,
    name: &str,
    engine: &dyn Engine,
    yardstick: &mut Yardstick,
) -> Result<Option<Candidate>> {
    let Some(draft) = uniform_draft(model, name)? else { return Ok(None) };
    let bytes = size::file_bytes(&model.metadata, draft.graph(), &draft);
    let mut loaded = engine.load(draft.graph(), &draft)?;
    let reading = yardstick.read(&mut *loaded)?;
    let said = reading.divergence.compared().to_vec();
    Ok(Some(Candidate { facts: Facts::uniform(name, bytes), said }))
}

/// The model in one encoding; `None` where nothing would change.
pub fn uniform_draft<'m>(model: &'m Model, name: &str) -> Result<Option<Draft<'m>>> {
    let mut draft = Draft::new(&model.graph, model);
    rtn::encode_all(&mut draft, &Recipe::named(name)?.pure())?;
    let is_changed = draft.edits().next().is_some();
    Ok(is_changed.then_some(draft))
}

/// The artifact on inputs as they are, where its Plan has int8 ones.
fn with_float_inputs(
    building: &Building<'_>,
    engine: &dyn Engine,
    yardstick: &mut Yardstick,
    watch: Watch<'_>,
) -> Result<Option<Candidate>> {
    if building.plan.int8_inputs.is_empty() {
        return Ok(None);
    }
    watch.step(Stage::Verify, 1, 5, "running it with its inputs as they are")?;
    let artifact = Artifact::open(&building.path)?;
    let mut loaded = float_inputs(&artifact, engine)?;
    let said = yardstick.read(&mut *loaded)?.divergence.compared().to_vec();
    Ok(Some(Candidate { facts: Facts::float_inputs(building.bytes), said }))
}

/// An artifact as its Plan says, but with inputs of layers as its architecture has them.
pub fn float_inputs(artifact: &Artifact, engine: &dyn Engine) -> Result<Box<dyn Loaded>> {
    let Artifact { model, plan, .. } = artifact;
    let native = model.arch.graph(&model.config).map_err(OptimizeError::Input)?;
    as_planned(engine, plan)?.load(&native, model)
}

/// The model in a Plan's encodings, unscaled, all errors alike; `None` where the Plan has them so,
/// or the model was pruned.
pub fn plain_draft<'m>(model: &'m Model, plan: &Plan) -> Result<Option<Draft<'m>>> {
    // Which channels left is not in the Plan.
    let is_plain = plan.rounding.is_plain() && plan.scaled.is_empty();
    if (is_plain && plan.distilled.is_none()) || is_pruned(model, plan) {
        return Ok(None);
    }
    let mut draft = Draft::new(&model.graph, model);
    let mut config = model.config.clone();
    if let Some(width) = plan.mlp_width {
        let padded = pad::padded(&config).filter(|config| config.ffn_dim as u64 == width);
        let other = || OptimizeError::Input(format!("the Plan widens the MLP to {width}"));
        config = padded.ok_or_else(other)?;
        draft.set_config(config.clone());
    }
    let native = model.arch.graph(&config).map_err(OptimizeError::Input)?;
    draft.set_graph(inputs::apply(&native, &plan.int8_inputs).map_err(OptimizeError::Input)?);
    let encoding = |(name, encoding): (&String, &String)| {
        let lost = || OptimizeError::Input(format!("the Plan's {name} is not in the model"));
        let id = draft.graph().find_weight(name).ok_or_else(lost)?;
        Ok((id, by_name(encoding).expect("a Plan is checked when it is read")))
    };
    let encodings = plan.encodings.iter().map(encoding).collect::<Result<Vec<_>>>()?;
    Ok(Some(draft.planned(&encodings, "the Plan's")?))
}

/// What the file takes of memory beside its baseline.
fn memory(
    settings: &Settings,
    prepared: &Prepared,
    building: &Building<'_>,
) -> Result<Option<Memory>> {
    let pair = settings.footprint.as_deref().zip(prepared.memory.clone());
    let Some((footprint, baseline)) = pair else { return Ok(None) };
    let how = RunAs::of(&building.plan);
    let planned = footprint.planned(building.draft.graph(), &building.draft, &how)?;
    let artifact = Taken { planned, measured: footprint.measured(&building.path, &how) };
    Ok(Some(Memory { workload: footprint.workload(), baseline, artifact }))
}

impl Prepared {
    /// The baseline's matrices as costs were measured of them: with the artifact's shapes.
    fn timed(&self, building: &Building<'_>) -> Vec<Matrix> {
        let mut unchanged = building.draft.clone();
        unchanged.clear_encodings();
        Matrix::all(unchanged.graph(), &unchanged)
    }

    /// Bytes of the model as a GGUF file, as it is.
    pub fn source_bytes(&self) -> u64 {
        size::file_bytes(&self.model.metadata, &self.model.graph, &self.model)
    }
}

/// A run of this program on some text, in the report's schema; `asked` tells it from others of the
/// same moment.
pub fn run_report(
    (identity, seed, asked): (&Identity, u64, &str),
    engine: &dyn Engine,
    text: &Passages,
    metrics: Vec<Figure>,
    targets: Vec<Target>,
) -> RunReport {
    let (machine, workload) = (Machine::detect(), text.workload());
    let run_id =
        blake3::hash(format!("{}{}{asked}", identity.timestamp, workload.hash()).as_bytes());
    RunReport {
        run_id: run_id.to_hex()[..16].to_owned(),
        timestamp: identity.timestamp.clone(),
        machine: MachineSummary {
            id: machine.id(),
            cpu: machine.cpu.clone(),
            cores: machine.usable_cpus(),
            threads: engine.n_threads(),
            isa: engine.isa(),
            ram_bytes: machine.usable_memory_bytes().unwrap_or(0),
            gpu: None,
        },
        build: identity.build.clone(),
        seed,
        workload: WorkloadSummary::from(workload),
        metrics,
        targets,
        artefacts: Vec::new(),
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
        let budget = &settings.budget;
        let target =
            |(name, cap, unit)| Target::judge(name, Bound::AtMost, cap, unit, &self.figures);
        let targets =
            budget.caps().into_iter().map(target).collect::<std::result::Result<_, _>>()?;
        let run = (&settings.identity, budget.seed, &*budget.line());
        Ok(run_report(run, engine, &prepared.texts.heldout, self.figures.clone(), targets))
    }
}

/// The run with the artifact as it lies in its place, and its hash.
pub fn with_artifact(mut run: RunReport, path: &Path) -> Result<RunReport> {
    let io = |e| OptimizeError::failed(path.display().to_string(), e);
    run.artefacts.push(Artefact::of(path).map_err(io)?);
    Ok(run)
}
