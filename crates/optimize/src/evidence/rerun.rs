//! The models of a bundle, run again: the same bits, and speeds that agree.
//!
//! In: a bundle that was read, its source model, an engine. Out: more checks.

use super::times::{Runs, Times};
use super::verify::{Bundle, Outcome, Verification};
use super::{FLOAT_INPUTS, Facts, PLAIN};
use crate::engine::{Engine, Loaded};
use crate::error::Result;
use crate::pipeline::{Effort, prove, speed};
use crate::progress::{Stage, Watch};
use crate::size;
use crate::tasks::Questions;
use crate::yardstick::{Reading, Yardstick};
use std::path::{Path, PathBuf};
use sterna_formats::OpenOptions;
use sterna_measure::quality::tasks::{Choice, Question};
use sterna_measure::stats::Interval;
use sterna_measure::{Clock, Figure};
use sterna_model::plan::Source;
use sterna_model::{Artifact, Model};

/// What is run again.
pub struct Again<'a> {
    /// The baseline, where it is not where it was.
    pub baseline: Option<PathBuf>,
    /// Whether to time both models too.
    pub speed: bool,
    /// Runs models.
    pub engine: &'a dyn Engine,
    /// Tells the time.
    pub clock: &'a dyn Clock,
    /// Whom to tell.
    pub watch: Watch<'a>,
}

/// Runs the models again and adds what came of it.
///
/// # Errors
/// When the baseline cannot be opened, a model not run, or the user stops it.
pub fn rerun(bundle: &Bundle, again: &Again<'_>, found: &mut Verification) -> Result<()> {
    // Both ran as the bundle says, whatever this program was told.
    let engine = again.engine.with_kv(&bundle.manifest.made.kv)?;
    let again = Again { baseline: again.baseline.clone(), engine: &*engine, ..*again };
    again.watch.outcome(run(bundle, &again, found))
}

fn run(bundle: &Bundle, again: &Again<'_>, found: &mut Verification) -> Result<()> {
    let (engine, watch) = (again.engine, again.watch);
    let source = &bundle.manifest.source;
    let path = again.baseline.clone().unwrap_or_else(|| PathBuf::from(&source.path));
    let options = OpenOptions { tokenizer: source.tokenizer.as_ref().map(PathBuf::from) };
    let model = Model::open_with(&path, &options)?;
    let content = Source::of(&model).content;
    if content != source.content {
        let words = format!("{} is another model: it hashes to {content}", path.display());
        found.add("baseline", Outcome::Fails, words);
        return Ok(());
    }
    found.add("baseline", Outcome::Holds, format!("{} is the source", path.display()));
    found.tell("source", sizes(bundle, &model));
    let text = &bundle.evidence.text;
    let n = bundle.evidence.candidates.len() + 1;
    watch.step(Stage::Verify, 0, n, "running the baseline on held-out text")?;
    let baseline = engine.load(&model.graph, &model)?;
    let folder = bundle.artifact.model.path().parent().unwrap_or(Path::new("."));
    let mut yardstick = Yardstick::new(baseline, text, folder)?;
    for (index, candidate) in bundle.evidence.candidates.iter().enumerate() {
        let facts = &candidate.facts;
        watch.step(Stage::Verify, index + 1, n, &format!("running {}", facts.label))?;
        let reading = read(bundle, &model, facts, engine, &mut yardstick)?;
        let Some(reading) = reading else {
            found.add(&facts.label, Outcome::Fails, "cannot be made of this source");
            continue;
        };
        if index == 0 {
            let is_same = reading.divergence.baseline() == bundle.evidence.baseline;
            found.tell("baseline's predictions", same_bits(is_same, text.n_scored()));
        }
        let is_same = reading.divergence.compared() == candidate.said;
        found.tell(&format!("predictions of {}", facts.label), same_bits(is_same, text.n_scored()));
    }
    watch.step(Stage::Verify, n, n, "done")?;
    if !bundle.evidence.tasks.is_empty() {
        tasks(bundle, &model, again, found)?;
    }
    if again.speed {
        time(bundle, &model, again, found)?;
    }
    Ok(())
}

/// What the manifest and the report say of the source.
fn sizes(bundle: &Bundle, model: &Model) -> std::result::Result<String, String> {
    let bytes = size::file_bytes(&model.metadata, &model.graph, model);
    let (said, facts) = (bundle.manifest.source.bytes, &bundle.report.details.model);
    let n = model.graph.n_parameters();
    if (bytes, n) != (said, facts.n_parameters) {
        return Err(format!(
            "has {n} parameters in {bytes} bytes, and the bundle says {} in {said}",
            facts.n_parameters
        ));
    }
    for facts in &bundle.evidence.candidates {
        let Some(name) = &facts.facts.encoding else { continue };
        let draft = prove::uniform_draft(model, name).map_err(|error| error.to_string())?;
        let bytes = draft.map(|draft| size::file_bytes(&model.metadata, draft.graph(), &draft));
        if bytes != Some(facts.facts.bytes) {
            return Err(format!("{} would have {bytes:?} bytes", facts.facts.label));
        }
    }
    Ok(format!("{n} parameters in {bytes} bytes, as the bundle says"))
}

fn same_bits(is_same: bool, n: usize) -> std::result::Result<String, String> {
    match is_same {
        true => Ok(format!("{n} come out the same, bit for bit")),
        false => Err("come out otherwise than recorded; results depend on --bf16-dot and \
                      --flags, which must be as in the manifest's command"
            .into()),
    }
}

fn read(
    bundle: &Bundle,
    model: &Model,
    facts: &Facts,
    engine: &dyn Engine,
    yardstick: &mut Yardstick,
) -> Result<Option<Reading>> {
    let Artifact { model: artifact, plan, .. } = &bundle.artifact;
    let draft = match &facts.encoding {
        None if facts.kind == FLOAT_INPUTS => {
            let mut loaded = prove::float_inputs(&bundle.artifact, engine)?;
            return yardstick.read(&mut *loaded).map(Some);
        }
        None if facts.kind != PLAIN => {
            let engine = prove::as_planned(engine, plan)?;
            return yardstick.read(&mut *engine.load(&artifact.graph, artifact)?).map(Some);
        }
        None => prove::plain_draft(model, plan)?,
        Some(name) => prove::uniform_draft(model, name)?,
    };
    let Some(draft) = draft else { return Ok(None) };
    // Uniform encodings are run as the baseline is, the artifact's own as its Plan says.
    let kv = if facts.encoding.is_some() { engine.kv() } else { plan.kv.clone() };
    let engine = engine.with_kv(&kv)?;
    yardstick.read(&mut *engine.load(draft.graph(), &draft)?).map(Some)
}

/// Both models with the same optimizations, as they are asked and timed.
fn pair(
    bundle: &Bundle,
    model: &Model,
    engine: &dyn Engine,
) -> Result<(Box<dyn Loaded>, Box<dyn Loaded>)> {
    let Artifact { model: artifact, plan, .. } = &bundle.artifact;
    let baseline = engine.without(&plan.off)?.load(&model.graph, model)?;
    let artifact = prove::as_planned(engine, plan)?.load(&artifact.graph, artifact)?;
    Ok((baseline, artifact))
}

/// Asks both again.
fn tasks(
    bundle: &Bundle,
    model: &Model,
    again: &Again<'_>,
    found: &mut Verification,
) -> Result<()> {
    let (mut baseline, mut artifact) = pair(bundle, model, again.engine)?;
    let stated = &bundle.evidence.tasks;
    let n_tokens = baseline.vocab_len().min(artifact.vocab_len());
    let is_known = |choice: &Choice| choice.tokens.iter().all(|&token| (token as usize) < n_tokens);
    let can_ask =
        |question: &Question| question.is_sound() && question.choices.iter().all(is_known);
    if !stated.iter().all(|task| task.questions.iter().all(can_ask)) {
        found.add("tasks", Outcome::Fails, "a question is none, or not in this model's tokens");
        return Ok(());
    }
    let asked: Vec<Questions> = stated
        .iter()
        .map(|task| Questions { name: task.name.clone(), questions: task.questions.clone() })
        .collect();
    let answered = prove::answers(&asked, &mut *baseline, &mut *artifact, again.watch)?;
    for (now, stated) in answered.iter().zip(stated) {
        let n = stated.questions.len();
        found.tell(&format!("answers of {}", stated.name), same_bits(now == stated, n));
    }
    Ok(())
}

/// Times both again; agreement is that the intervals meet.
fn time(bundle: &Bundle, model: &Model, again: &Again<'_>, found: &mut Verification) -> Result<()> {
    let (mut baseline, mut artifact) = pair(bundle, model, again.engine)?;
    let tokens = speed::tokens(&bundle.evidence.text);
    let stated = &bundle.evidence.times;
    let most = |of: fn(&Runs) -> usize| stated.runs.iter().map(of).max().unwrap_or(0);
    let (n_prompt, n_generate) = (most(|runs| runs.n_prompt), most(|runs| runs.n_generate));
    let effort = Effort { n_prompt, n_generate, ..Effort::default() };
    let models = (&mut *baseline, &mut *artifact);
    let times = speed::measure(models.0, models.1, tokens, effort, again.clock, again.watch)?;
    let works = |times: &Times| -> Vec<(usize, usize)> {
        times.runs.iter().map(|runs| (runs.n_prompt, runs.n_generate)).collect()
    };
    if works(&times) != works(stated) {
        let words = "other lengths fit here than were timed; nothing can be compared";
        found.add("speed", Outcome::NotChecked, words);
        return Ok(());
    }
    for now in times.derive()?.figures.iter().filter(|f| f.name().ends_with("_time_ratio")) {
        let stated = bundle.report.run.metric(now.name());
        let (outcome, words) = agreement(stated, now);
        found.add(now.name(), outcome, words);
    }
    Ok(())
}

fn agreement(stated: Option<&Figure>, now: &Figure) -> (Outcome, String) {
    let Some((stated, before)) = stated.and_then(|f| Some((f, f.ci95()?))) else {
        return (Outcome::NotChecked, format!("{}; the bundle states none", now.line()));
    };
    let words = format!("{}, stated {}", now.line(), stated.line());
    let meets = |now: Interval| now.low <= before.high && before.low <= now.high;
    match now.ci95() {
        Some(now) if meets(now) => (Outcome::Holds, format!("{words}: the intervals meet")),
        Some(_) => (Outcome::Fails, format!("{words}: the intervals do not meet")),
        None => (Outcome::NotChecked, words),
    }
}
