//! What pruning did: smaller by how much, faster by how much, worse by how much (B11).
//!
//! In: a model and what became of it, reopened from disk. Out: a run in `measure`'s schema. Pruning
//! only counts where it is faster: the targets hold the time saved to the arithmetic saved.

use super::Cut;
use crate::engine::Engine;
use crate::error::Result;
use crate::evidence::derive;
use crate::evidence::times::Times;
use crate::pipeline::speed::{self, Effort};
use crate::pipeline::{Identity, run_report};
use crate::progress::{Stage, Watch};
use crate::yardstick::{Reading, Yardstick};
use serde_json::{Value, json};
use std::path::Path;
use sterna_measure::quality::Passages;
use sterna_measure::report::{Bound, RunReport, Target};
use sterna_measure::{Clock, Figure, MeasureError, Unit};
use sterna_model::Model;

/// How much of the arithmetic saved has to be saved in time, percent.
const WORTH_PERCENT: f64 = 80.0;
/// Positions that tokens see, for counting arithmetic.
const CONTEXT: usize = 64;

/// A model made of the baseline.
pub struct Made<'m> {
    /// `pruned` or `recovered`.
    pub name: &'static str,
    /// The model as it lies on disk.
    pub model: &'m Model,
}

/// How to measure.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    /// Runs models.
    pub engine: &'a dyn Engine,
    /// Where files may be that go with the run.
    pub folder: &'a Path,
    /// Text that nothing was chosen by.
    pub held_out: &'a Passages,
    /// How long to compare speeds.
    pub effort: Effort,
    /// Tells the time.
    pub clock: &'a dyn Clock,
    /// Whom to tell.
    pub watch: Watch<'a>,
    /// What the report says of this run.
    pub identity: &'a Identity,
    /// The seed of the choice of text.
    pub seed: u64,
}

/// Measures what was made, the pruned model first, beside the baseline.
///
/// # Errors
/// When a model cannot be run, or the user stops it.
pub fn measure(
    baseline: &Model,
    made: &[Made<'_>],
    means: &Means<'_>,
) -> Result<(RunReport, Times)> {
    let Means { engine, held_out, watch, .. } = *means;
    let mut figures = sizes(baseline, made)?;
    watch.step(Stage::Verify, 0, 5, "running the baseline on held-out text")?;
    let loaded = engine.load(&baseline.graph, baseline)?;
    let mut yardstick = Yardstick::new(loaded, held_out, means.folder)?;
    for one in made {
        watch.step(Stage::Verify, 1, 5, &format!("running the {} model", one.name))?;
        let mut loaded = engine.load(&one.model.graph, one.model)?;
        figures.extend(quality(one.name, &yardstick.read(&mut *loaded)?)?);
    }
    drop(yardstick);
    let mut times = Times::default();
    if let Some(pruned) = made.first() {
        let mut models = (
            engine.load(&baseline.graph, baseline)?,
            engine.load(&pruned.model.graph, pruned.model)?,
        );
        let tokens = speed::tokens(held_out);
        let (effort, clock) = (means.effort, means.clock);
        times = speed::measure(&mut *models.0, &mut *models.1, tokens, effort, clock, watch)?;
        figures.extend(times.derive()?.figures);
        figures.extend(worth(&figures)?);
    }
    watch.step(Stage::Verify, 5, 5, "done")?;
    let is_worth = |name: &str| {
        let name = format!("{name}_time_saved_percent");
        Target::judge(&name, Bound::AtLeast, WORTH_PERCENT, Unit::Percent, &figures)
    };
    let targets =
        ["prefill", "decode"].map(is_worth).into_iter().collect::<std::result::Result<_, _>>()?;
    let asked = (means.identity, means.seed, &*means.identity.command);
    let run = run_report(asked, engine, held_out, figures, targets);
    Ok((run, times))
}

fn sizes(baseline: &Model, made: &[Made<'_>]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let ratio =
        |name: &str, method: &str, value: f64| Figure::computed(name, Unit::Ratio, method, value);
    for one in made {
        let (graph, name) = (&one.model.graph, one.name);
        let parameters = graph.n_parameters() as f64 / baseline.graph.n_parameters() as f64;
        let macs = graph.cost(CONTEXT).macs / baseline.graph.cost(CONTEXT).macs;
        figures.extend([
            ratio(
                &format!("{name}_parameters_ratio"),
                "parameters of the model over the baseline's",
                parameters,
            )?,
            ratio(
                &format!("{name}_macs_ratio"),
                "multiply-accumulates of a token that sees 64 positions, over the baseline's",
                macs,
            )?,
            Figure::read(
                &format!("{name}_file_bytes"),
                Unit::Bytes,
                "length of the model's file",
                one.model.checkpoint().files().iter().map(|file| file.bytes().len()).sum::<usize>()
                    as f64,
            )?,
        ]);
    }
    Ok(figures)
}

/// The figures of a reading, named for its model.
fn quality(name: &str, reading: &Reading) -> std::result::Result<Vec<Figure>, MeasureError> {
    const NAMES: [&str; 3] = ["perplexity_drop_percent", "kl_mean", "top1_agreement"];
    let mut all = reading.drop.figures()?;
    all.extend(reading.divergence.figures()?);
    let wanted = all.into_iter().filter(|figure| NAMES.contains(&figure.name()));
    wanted.map(|figure| derive::named(name, figure)).collect()
}

/// Time saved over arithmetic saved.
fn worth(figures: &[Figure]) -> std::result::Result<Vec<Figure>, MeasureError> {
    let value = |name: &str| {
        let figure = figures.iter().find(|figure| figure.name() == name);
        figure.and_then(Figure::value)
    };
    let saved_macs = 1.0 - value("pruned_macs_ratio").unwrap_or(1.0);
    let share = |kind: &str| {
        let name = format!("{kind}_time_saved_percent");
        let method = format!(
            "of the arithmetic saved: (1 - {kind}_time_ratio) over (1 - pruned_macs_ratio)"
        );
        match value(&format!("{kind}_time_ratio")) {
            Some(ratio) if saved_macs > 0.0 => {
                let percent = (1.0 - ratio) / saved_macs * 100.0;
                Figure::computed(&name, Unit::Percent, &method, percent)
            }
            Some(_) => {
                let reason = "no arithmetic was saved";
                Figure::unavailable(&name, Unit::Percent, &method, reason)
            }
            None => {
                let reason = "no times were compared";
                Figure::unavailable(&name, Unit::Percent, &method, reason)
            }
        }
    };
    ["prefill", "decode"].map(share).into_iter().collect()
}

/// The page of text.
pub fn text(run: &RunReport) -> String {
    let metrics = run.metrics.iter().map(|figure| figure.line() + "\n");
    let targets = run.targets.iter().map(|target| crate::report::target_line(target) + "\n");
    metrics.chain(targets).collect()
}

/// The run as JSON, with what left and every time taken under `prune`.
///
/// # Errors
/// When two metrics share a name.
pub fn to_json(run: &RunReport, cut: &Cut, times: &Times) -> Result<Value> {
    let mut all: Value = serde_json::from_str(&run.to_json()?).expect("own JSON");
    let details = json!({ "cut": cut, "times": times });
    all.as_object_mut().expect("a struct").insert("prune".into(), details);
    Ok(all)
}
