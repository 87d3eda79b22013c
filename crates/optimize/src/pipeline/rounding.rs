//! How matrices are rounded: plainly, or weighed by what they read on calibration text.
//!
//! In: a draft, and a judge of it. Out: the draft, perhaps weighed, and a note that says what was
//! measured. Unless it is asked for by name, weighing has to show that it helps this model: the
//! same encoding is measured both ways.

use super::Prepared;
use crate::draft::Draft;
use crate::engine::Engine;
use crate::error::Result;
use crate::importance::Importance;
use crate::judge::ModelJudge;
use crate::observe::observe;
use crate::passes::gptq::{Calibrated, Gptq};
use crate::passes::weigh::Weigh;
use crate::passes::{Context, Pass};
use crate::progress::{Stage, Watch};
use crate::search::{Depth, Judge, Loss, groups};
use std::sync::Arc;
use sterna_formats::EncodingRef;

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Whichever measures better on calibration text.
    #[default]
    Auto,
    /// All errors alike.
    Plain,
    /// Errors by the mean squares of inputs.
    Weighed,
    /// Weighed, and later columns make up for the errors of earlier ones.
    Compensated,
}

impl Choice {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Choice::Auto => {
                "plain, weighed by what matrices read, or compensated, as measures best"
            }
            Choice::Plain => "plain",
            Choice::Weighed => "weighed by what matrices read",
            Choice::Compensated => "weighed by what matrices read, and compensated",
        }
    }
}

/// Bits at which both ways are compared: with more they hardly differ, with fewer than are likely
/// used they differ too much.
const COMPARED_BITS: f64 = 4.5;

/// Decides for the judge's draft, and changes it.
pub fn decide(
    choice: Choice,
    prepared: &Prepared,
    allow: &[EncodingRef],
    judge: &mut ModelJudge<'_>,
    watch: Watch<'_>,
) -> Result<()> {
    if choice == Choice::Plain {
        return Ok(());
    }
    let importance = Arc::new(importance(prepared, judge, watch)?);
    let mut weighed = judge.draft.clone();
    let mut context = Context { importance: Some(importance), ..Context::default() };
    Weigh.apply(&mut weighed, &mut context)?;
    if choice != Choice::Auto {
        weighed.note("weigh: rounding errors are weighed by inputs, as asked for");
        judge.draft = weighed;
        return Ok(());
    }
    let groups = groups::of(&judge.draft, allow, 1);
    let Some(encoding) = compared(&groups) else { return Ok(()) };
    let plan = groups::plan(&groups, &groups::uniform(&groups, encoding, judge.draft.graph()));
    if plan.is_empty() {
        return Ok(());
    }
    let plain_kl = judge.judge(&plan, Depth::Full)?.kl;
    let mut plain = std::mem::replace(&mut judge.draft, weighed);
    let weighed_kl = judge.judge(&plan, Depth::Full)?.kl;
    let measured = format!(
        "all matrices as {}: KL {plain_kl:.4} rounded plainly, {weighed_kl:.4} weighed by inputs",
        encoding.name()
    );
    if weighed_kl < plain_kl {
        judge.draft.note(format!("weigh: {measured}; errors are weighed"));
    } else {
        plain.note(format!("weigh: {measured}; errors are not weighed"));
        judge.draft = plain;
    }
    Ok(())
}

/// The draft that was found, or the same rounded with feedback where that measures better.
pub fn compensate<'p>(
    choice: Choice,
    prepared: &'p Prepared,
    engine: &'p dyn Engine,
    (mut found, loss): (Draft<'p>, Loss),
    judge: &mut dyn Judge,
    watch: Watch<'_>,
) -> Result<Draft<'p>> {
    if !matches!(choice, Choice::Auto | Choice::Compensated) || found.edits().next().is_none() {
        return Ok(found);
    }
    let mut compensated = found.clone();
    let (model, passages) = (&prepared.model, &prepared.texts.calibration);
    let (graph, weights) = (&model.graph, model);
    let calibrated = Calibrated { engine, graph, weights, passages, watch };
    let mut context = Context { calibrated: Some(calibrated), ..Context::default() };
    Gptq.apply(&mut compensated, &mut context)?;
    let compensated_kl = judge.judge_draft(&compensated)?.kl;
    let measured = format!(
        "the plan as found: KL {:.5}, {compensated_kl:.5} with errors made up for by later columns",
        loss.kl
    );
    if choice == Choice::Compensated || compensated_kl < loss.kl {
        compensated.note(format!("gptq: {measured}; they are"));
        return Ok(compensated);
    }
    found.note(format!("gptq: {measured}; they are not"));
    Ok(found)
}

fn importance(
    prepared: &Prepared,
    judge: &mut ModelJudge<'_>,
    watch: Watch<'_>,
) -> Result<Importance> {
    let (model, passages) = (&prepared.model, &prepared.texts.calibration);
    let mut told = |done| {
        let note = "looking at what matrices read";
        watch.step(Stage::Baseline, done, passages.len(), note)
    };
    let observed = observe(&model.graph, model, judge.engine, passages, &mut told)?;
    for warning in observed.warnings() {
        judge.draft.note(format!("weigh: {warning}"));
    }
    Ok(observed.importance())
}

/// Of all encodings that groups may get, the one nearest to [`COMPARED_BITS`].
fn compared(groups: &[groups::Group]) -> Option<EncodingRef> {
    let all = groups.iter().flat_map(|group| &group.candidates[1..]).map(|c| c.encoding);
    let blocks = all.filter(|encoding| encoding.grid().is_some());
    blocks.min_by(|a, b| {
        let distance = |e: &EncodingRef| (e.bits() - COMPARED_BITS).abs();
        distance(a).total_cmp(&distance(b)).then(a.name().cmp(b.name()))
    })
}
