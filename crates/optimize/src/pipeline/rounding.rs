//! How matrices are rounded: plainly, or weighed by what they read on calibration text.
//!
//! In: a draft, and a judge of it. Out: the draft, perhaps weighed, and a note that says what was
//! measured. Unless it is asked for by name, weighing has to show that it helps this model: the
//! same encoding is measured both ways.

use super::Prepared;
use crate::error::Result;
use crate::importance::Importance;
use crate::judge::ModelJudge;
use crate::observe::observe;
use crate::passes::{Context, Pass, weigh::Weigh};
use crate::progress::{Stage, Watch};
use crate::search::{Depth, Judge, groups};
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
}

impl Choice {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Choice::Auto => "plain, or weighed by what matrices read, as measures better",
            Choice::Plain => "plain",
            Choice::Weighed => "weighed by what matrices read",
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
    if choice == Choice::Weighed {
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
