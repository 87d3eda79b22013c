//! How matrices are rounded: plainly, or weighed by what they read on calibration text; and whether
//! columns are scaled by it first.
//!
//! In: a draft, and a judge of it. Out: the draft, perhaps weighed and scaled, and notes that say
//! what was measured. Unless they are asked for by name, both have to show that they help this
//! model: the same encoding is measured both ways.

use super::start::Start;
use super::{Prepared, inputs};
use crate::draft::Draft;
use crate::engine::Engine;
use crate::error::Result;
use crate::fit;
use crate::importance::Importance;
use crate::judge::ModelJudge;
use crate::observe::observe;
use crate::passes::gptq::{Calibrated, Gptq};
use crate::passes::scale::{Scale, Scales};
use crate::passes::weigh::Weigh;
use crate::passes::{Context, Pass};
use crate::progress::{Stage, Watch};
use crate::scan;
use crate::search::{Depth, Judge, Loss, groups};
use std::sync::Arc;
use sterna_formats::EncodingRef;
use sterna_measure::quality::Passages;
use sterna_model::WeightId;

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

/// Whether columns are scaled by what they read (AWQ).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scaling {
    /// Where that measures better on calibration text, unless rounding is to be plain.
    #[default]
    Auto,
    /// Wherever it makes the errors of single layers smaller.
    On,
    /// Nowhere.
    Off,
}

impl Scaling {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Scaling::Auto => "columns by what they read, where that measures better",
            Scaling::On => "columns by what they read",
            Scaling::Off => "none",
        }
    }
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
    (choice, scaling): (Choice, Scaling),
    prepared: &Prepared,
    start: &Start<'_>,
    allow: &[EncodingRef],
    judge: &mut ModelJudge<'_>,
    watch: Watch<'_>,
) -> Result<()> {
    let is_scaled = match scaling {
        Scaling::Auto => choice != Choice::Plain,
        Scaling::On => true,
        Scaling::Off => false,
    };
    let draft_graph = judge.draft.graph();
    let has_int8 = !inputs::ranges(prepared.model.arch, start.config, draft_graph)?.is_empty();
    if is_scaled && has_int8 {
        judge
            .draft
            .note("scale: left, since the ranges of int8 inputs are those of columns as they are");
    }
    let is_scaled = is_scaled && !has_int8;
    if choice == Choice::Plain && !is_scaled {
        return Ok(());
    }
    let importance = Arc::new(importance(prepared, start, judge, watch)?);
    let groups = groups::of(&judge.draft, allow, 1);
    let compared = compared(&groups).map(|encoding| {
        let choices = groups::uniform(&groups, encoding, judge.draft.graph());
        Compared { encoding, plan: groups::plan(&groups, &choices) }
    });
    let Some(compared) = compared.filter(|compared| !compared.plan.is_empty()) else {
        judge.draft.note("rounding: no block encoding may be used, so there is nothing to decide");
        return Ok(());
    };
    let mut kl = None;
    if choice != Choice::Plain {
        let mut weighed = judge.draft.clone();
        let mut context = Context { importance: Some(importance.clone()), ..Context::default() };
        Weigh.apply(&mut weighed, &mut context)?;
        if choice == Choice::Auto {
            let words = "weigh: errors weighed by inputs";
            kl = Some(compared.contest(judge, weighed, kl, words)?);
        } else {
            weighed.note("weigh: rounding errors are weighed by inputs, as asked for");
            judge.draft = weighed;
        }
    }
    if is_scaled {
        let mut scaled = judge.draft.clone();
        let scales = Scales { inputs: &importance, encoding: compared.encoding };
        let mut context = Context { scales: Some(scales), ..Context::default() };
        Scale.apply(&mut scaled, &mut context)?;
        let is_unchanged = scaled.scaling().strengths().is_empty();
        if !is_unchanged && scan::finite(scaled.graph(), &scaled).is_err() {
            judge.draft.note("scale: left, since factors take weights beyond what F16 holds");
        } else if is_unchanged || scaling == Scaling::On {
            judge.draft = scaled;
        } else {
            let words = "scale: columns scaled by their inputs";
            compared.contest(judge, scaled, kl, words)?;
        }
    }
    Ok(())
}

/// All matrices in one encoding: what ways of rounding are compared by.
struct Compared {
    encoding: EncodingRef,
    plan: Vec<(WeightId, EncodingRef)>,
}

impl Compared {
    /// Leaves the judge with the better of its draft, whose divergence may be known, and a rival,
    /// and returns its divergence.
    fn contest<'a>(
        &self,
        judge: &mut ModelJudge<'a>,
        rival: Draft<'a>,
        known: Option<f64>,
        words: &str,
    ) -> Result<f64> {
        let ours = match known {
            Some(kl) => kl,
            None => judge.judge(&self.plan, Depth::Full)?.kl,
        };
        let before = std::mem::replace(&mut judge.draft, rival);
        let theirs = judge.judge(&self.plan, Depth::Full)?.kl;
        let is_taken = theirs < ours;
        let verdict = if is_taken { "taken" } else { "left" };
        if !is_taken {
            judge.draft = before;
        }
        let name = self.encoding.name();
        judge.draft.note(format!(
            "{words}: KL {ours:.4} without and {theirs:.4} with all matrices as {name}: {verdict}"
        ));
        Ok(ours.min(theirs))
    }
}

/// The draft that was found, or the same rounded with feedback where that measures better; and what
/// it loses.
pub fn compensate<'p>(
    (choice, prepared, start): (Choice, &'p Prepared, &Start<'p>),
    engine: &'p dyn Engine,
    (mut found, loss): (Draft<'p>, Loss),
    judge: &mut dyn Judge,
    watch: Watch<'_>,
) -> Result<(Draft<'p>, Loss)> {
    if !matches!(choice, Choice::Auto | Choice::Compensated) || found.edits().next().is_none() {
        return Ok((found, loss));
    }
    let passages = &prepared.texts.observed;
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
    let Start { graph, weights, .. } = *start;
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
    start: &Start<'_>,
    judge: &mut ModelJudge<'_>,
    watch: Watch<'_>,
) -> Result<Importance> {
    let passages = &prepared.texts.observed;
    let mut told = |done| {
        let note = "looking at what matrices read";
        watch.step(Stage::Baseline, done, passages.len(), note)
    };
    let observed = observe(start.graph, start.weights, judge.engine, passages, &mut told)?;
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
