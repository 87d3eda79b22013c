//! How matrices are rounded: plainly, or weighed by what they read on calibration text.
//!
//! In: a draft, and a judge of it. Out: the draft, perhaps weighed, and a note that says what was
//! measured. Unless it is asked for by name, weighing has to show that it helps this model: the
//! same encoding is measured both ways.

use super::Prepared;
use crate::draft::Draft;
use crate::engine::Engine;
use crate::error::Result;
use crate::fit;
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
use sterna_measure::quality::Passages;

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

/// Products that are summed up for second moments unless compensation is asked for by name: some
/// minutes' work.
const MAX_PRODUCTS: usize = 1_000_000_000_000;

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

/// The draft that was found, or the same rounded with feedback where that measures better; and what
/// it loses.
pub fn compensate<'p>(
    choice: Choice,
    prepared: &'p Prepared,
    engine: &'p dyn Engine,
    (mut found, loss): (Draft<'p>, Loss),
    judge: &mut dyn Judge,
    watch: Watch<'_>,
) -> Result<(Draft<'p>, Loss)> {
    if !matches!(choice, Choice::Auto | Choice::Compensated) || found.edits().next().is_none() {
        return Ok((found, loss));
    }
    let (model, passages) = (&prepared.model, &prepared.texts.calibration);
    let n_documents = match choice {
        Choice::Auto => affordable(&found, passages, MAX_PRODUCTS),
        _ => passages.len(),
    };
    if n_documents == 0 {
        found.note(
            "gptq: not tried, since it would take long for matrices of this size; ask for \
             --rounding compensated",
        );
        return Ok((found, loss));
    }
    let mut compensated = found.clone();
    let (graph, weights) = (&model.graph, model);
    let calibrated = Calibrated { engine, graph, weights, passages, n_documents, watch };
    let mut context = Context { calibrated: Some(calibrated), ..Context::default() };
    Gptq.apply(&mut compensated, &mut context)?;
    let made_up = judge.judge_draft(&compensated, None)?;
    let compensated_kl = made_up.kl;
    let measured = format!(
        "the plan as found: KL {:.5}, {compensated_kl:.5} with errors made up for by later columns",
        loss.kl
    );
    if choice == Choice::Compensated || compensated_kl < loss.kl {
        compensated.note(format!("gptq: {measured}; they are"));
        return Ok((compensated, made_up));
    }
    found.note(format!("gptq: {measured}; they are not"));
    Ok((found, loss))
}

/// Documents whose second moments take at most so many products; none where they would be too few
/// tokens to know the inputs by.
fn affordable(found: &Draft<'_>, passages: &Passages, max_products: usize) -> usize {
    let cols: Vec<usize> =
        found.edits().map(|(id, _)| fit::cols_of(found.graph().decl(id))).collect();
    let per_token: usize = cols.iter().map(|cols| cols * cols / 2).sum();
    let max_tokens = max_products / per_token.max(1);
    let (mut n_tokens, mut n_documents) = (0, 0);
    for passage in passages.iter() {
        if n_tokens + passage.tokens.len() > max_tokens {
            let wanted = 2 * cols.iter().max().expect("there are edits");
            return if n_tokens < wanted { 0 } else { n_documents };
        }
        n_tokens += passage.tokens.len();
        n_documents += 1;
    }
    n_documents
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::Edit;
    use crate::testing::tiny_model;
    use sterna_formats::encodings::by_name;
    use sterna_measure::Workload;
    use sterna_measure::quality::Scoring;

    #[test]
    fn large_matrices_get_less_text_and_too_little_is_none() {
        let tiny = tiny_model(3);
        let mut draft = Draft::new(&tiny.graph, &tiny);
        let id = tiny.graph.find_weight("blk.1.attn_q.weight").unwrap();
        let encoding = by_name("Q4_0").unwrap();
        draft.encode(id, Edit { encoding, bytes: None, provenance: "test".into() }).unwrap();
        let workload = Workload::new("test", vec![vec![1; 9]; 10], 90).unwrap();
        let scoring = Scoring::Documents { bos: None, n_unscored: 0 };
        let passages = Passages::new(&workload, scoring).unwrap();
        // 32 columns: 512 products a token, and 64 tokens wanted.
        assert_eq!(affordable(&draft, &passages, MAX_PRODUCTS), 10);
        assert_eq!(affordable(&draft, &passages, 512 * 75), 8);
        assert_eq!(affordable(&draft, &passages, 512 * 70), 0);
    }
}
