//! `int8`: linear layers see their inputs as int8 codes, of a scale per row (dynamic), or of one
//! for all rows that was found on calibration text (static): nothing is measured as they run.
//!
//! Without it, the runtime's integer kernels have a scale per 256 inputs of a row, which is finer
//! than both. Encoders are run so by other tools, and hardware that knows no finer scales asks for
//! it. The head keeps its inputs: few bits less there change what is said.

use super::{Context, Pass};
use crate::draft::Draft;
use crate::error::{OptimizeError, Result};
use crate::observe::{Input, Observed};
use std::collections::BTreeMap;
use sterna_model::ops::Linear;
use sterna_model::plan::inputs;
use sterna_model::{Graph, Node, Role, WeightDecl};

/// Inputs in 8 bits.
pub struct Int8;

/// What scales are made of.
#[derive(Clone, Copy)]
pub enum Scales<'a> {
    /// Each row's largest magnitude.
    Dynamic,
    /// The largest magnitude that codes reach, by matrix.
    Static(&'a BTreeMap<String, f32>),
}

/// How a range is chosen by the magnitudes that were seen (S-2). What is beyond is clipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// The largest.
    MinMax,
    /// What 99.9% are within.
    Percentile,
    /// What loses least by KL divergence.
    Entropy,
}

impl Ranges {
    /// All of them.
    pub const ALL: [Ranges; 3] = [Ranges::MinMax, Ranges::Percentile, Ranges::Entropy];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Ranges::MinMax => "minmax",
            Ranges::Percentile => "percentile",
            Ranges::Entropy => "entropy",
        }
    }

    /// The ranges of all that was seen, by matrix.
    pub fn of_all(self, observed: &Observed) -> BTreeMap<String, f32> {
        let of = |input: &Input| {
            let range = self.of(input);
            input.matrices.iter().map(move |name| (name.clone(), range)).collect::<Vec<_>>()
        };
        observed.inputs.iter().flat_map(of).collect()
    }

    /// The range; no number above 0 where only zeros were seen.
    fn of(self, input: &Input) -> f32 {
        match self {
            Ranges::MinMax => input.magnitudes.largest(),
            Ranges::Percentile => input.magnitudes.percentile(0.999),
            Ranges::Entropy => input.magnitudes.entropy_range(128),
        }
    }
}

impl Int8 {
    /// Whether there is a layer whose inputs it would change.
    pub fn applies(graph: &Graph) -> bool {
        Self::count(graph) > 0
    }

    /// The layers whose inputs it would change.
    pub fn count(graph: &Graph) -> usize {
        graph.nodes.iter().filter(|node| matrices(graph, node).is_some()).count()
    }
}

/// The matrices of a linear layer that does not see int8 codes yet and is not the head.
fn matrices<'g>(graph: &'g Graph, node: &Node) -> Option<Vec<&'g WeightDecl>> {
    let linear = node.op.as_any().downcast_ref::<Linear>()?;
    let decls = node.weights[..linear.n_outputs()].iter().map(|id| graph.decl(*id));
    let is_head = |decl: &WeightDecl| matches!(decl.role, Role::Head | Role::TokenEmbedding);
    let is_open = !linear.activations.is_int8() && !decls.clone().any(is_head);
    is_open.then(|| decls.collect())
}

impl Pass for Int8 {
    fn name(&self) -> &'static str {
        "int8"
    }

    fn about(&self) -> &'static str {
        "has layers see their inputs as int8 codes with a scale per row, or one for all rows"
    }

    fn apply(&self, draft: &mut Draft<'_>, context: &mut Context<'_>) -> Result<()> {
        let Some(scales) = context.int8 else { return Ok(()) };
        let graph = draft.graph();
        let mut ranges = BTreeMap::new();
        for node in &graph.nodes {
            let Some(decls) = matrices(graph, node) else { continue };
            let names: Vec<&String> = decls.iter().map(|decl| &decl.name).collect();
            let range = match scales {
                Scales::Dynamic => Some(inputs::OWN),
                Scales::Static(ranges) => {
                    ranges.get(names[0]).map(|range| f64::from(*range)).filter(|range| *range > 0.0)
                }
            };
            // A layer that was never reached keeps its inputs.
            let range = range.filter(|range| inputs::activations(*range).is_some());
            ranges.extend(
                range.into_iter().flat_map(|r| names.iter().map(move |n| ((*n).clone(), r))),
            );
        }
        let edited = inputs::apply(graph, &ranges).map_err(OptimizeError::Input)?;
        if !ranges.is_empty() {
            draft.set_graph(edited);
        }
        Ok(())
    }
}
