//! How layers see their inputs: as they are, or as int8 codes.
//!
//! In: what was asked for, and a judge. Out: the judge's draft, perhaps on int8 inputs, and a note
//! that says what was measured.

use super::Prepared;
use super::start::Start;
use crate::draft::Draft;
use crate::error::{OptimizeError, Result};
use crate::judge::ModelJudge;
use crate::observe::observe;
use crate::passes::int8::{Int8, Ranges, Scales};
use crate::passes::{Context, Pass};
use crate::progress::{Stage, Watch};
use crate::search::{Depth, Judge};
use std::collections::BTreeMap;
use sterna_model::Graph;
use sterna_model::archs::Arch;
use sterna_model::config::Config;
use sterna_model::plan::inputs;

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// As the architecture has them.
    #[default]
    Float,
    /// Codes with a scale per row.
    Dynamic,
    /// Codes with one scale for all rows; whichever way of choosing it measures best, or this one.
    Static(Option<Ranges>),
}

impl Choice {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Choice::Float => "as they are",
            Choice::Dynamic => "int8 codes with a scale per row",
            Choice::Static(None) => "int8 codes with one scale, chosen as measures best",
            Choice::Static(Some(Ranges::MinMax)) => "int8 codes with one scale, of the largest",
            Choice::Static(Some(Ranges::Percentile)) => "int8 codes with one scale, of 99.9%",
            Choice::Static(Some(Ranges::Entropy)) => "int8 codes with one scale, by KL divergence",
        }
    }
}

/// Changes the judge's draft to what was asked for.
pub fn decide(
    choice: Choice,
    prepared: &Prepared,
    start: &Start<'_>,
    judge: &mut ModelJudge<'_>,
    watch: Watch<'_>,
) -> Result<()> {
    let before = judge.draft.clone();
    if choice != Choice::Float && !Int8::applies(before.graph()) {
        judge.draft.note("int8: left, since all layers but the head see int8 codes already");
        return Ok(());
    }
    let asked = match choice {
        Choice::Float => return Ok(()),
        Choice::Dynamic => {
            let kl = measured(judge, &before, Scales::Dynamic)?;
            judge.draft.note(format!("int8: inputs in 8 bits, a scale per row: KL {kl:.5}"));
            return Ok(());
        }
        Choice::Static(asked) => asked,
    };
    let passages = &prepared.texts.observed;
    let mut told = |done| {
        let note = "looking at how large inputs are";
        watch.step(Stage::Baseline, done, passages.len(), note)
    };
    let observed = observe(start.graph, start.weights, judge.engine, passages, &mut told)?;
    let ways: Vec<Ranges> = asked.map_or(Ranges::ALL.into(), |ranges| vec![ranges]);
    let mut tried = Vec::new();
    for ranges in ways {
        let by_matrix = ranges.of_all(&observed);
        let kl = measured(judge, &before, Scales::Static(&by_matrix))?;
        tried.push((kl, ranges, judge.draft.clone()));
    }
    let each: Vec<String> =
        tried.iter().map(|(kl, ranges, _)| format!("{} {kl:.5}", ranges.name())).collect();
    let best = tried.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).expect("one way at least");
    judge.draft = best.2;
    judge.draft.note(format!(
        "int8: inputs in 8 bits, one scale for all rows of a layer: KL by how ranges were chosen: \
         {}; {} taken",
        each.join(", "),
        best.1.name()
    ));
    Ok(())
}

/// The ranges of a graph's int8 inputs, those left out that its architecture has in any case.
///
/// # Errors
/// When the architecture has no such model.
pub fn ranges(arch: &dyn Arch, config: &Config, graph: &Graph) -> Result<BTreeMap<String, f64>> {
    let native = arch.graph(config).map_err(OptimizeError::Input)?;
    Ok(inputs::of(graph, &native))
}

/// Gives the judge's draft such inputs, and gives what that alone loses.
fn measured<'a>(judge: &mut ModelJudge<'a>, before: &Draft<'a>, scales: Scales<'_>) -> Result<f64> {
    judge.draft = before.clone();
    let mut context = Context { int8: Some(scales), ..Context::default() };
    Int8.apply(&mut judge.draft, &mut context)?;
    Ok(judge.judge(&[], Depth::Full)?.kl)
}
