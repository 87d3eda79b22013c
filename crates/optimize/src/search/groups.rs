//! Groups of tensors that get one encoding together, and the encodings each may get.
//!
//! In: a draft and what is allowed. Out: per role and band of layers a [`Group`].

use super::costs::{Costs, Table};
use super::packed::Packed;
use crate::draft::Draft;
use crate::fit;
use std::collections::BTreeMap;
use sterna_formats::EncodingRef;
use sterna_formats::encodings::ENCODINGS;
use sterna_model::{Graph, WeightId, WeightSource};

/// Where the tensors of a file begin: at multiples of this.
const ALIGNMENT: u64 = 32;

/// An encoding that a group may get.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The encoding.
    pub encoding: EncodingRef,
    /// What all the group's tensors take in it.
    pub takes: Load,
}

/// What tensors take.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// Bytes in a file, padding between tensors included.
    pub bytes: u64,
    /// Nanoseconds of a generated token; 0 where nobody asked for times.
    pub nanos: f64,
    /// Nanoseconds of a prompt; 0 where nobody asked for its time.
    pub prompt_nanos: f64,
    /// Bytes of memory, packed for the kernels; 0 where nobody asked for memory.
    pub resident: u64,
}

impl Load {
    /// Whether none of it is more than another's.
    pub fn is_within(self, other: Self) -> bool {
        self.bytes <= other.bytes
            && self.nanos <= other.nanos
            && self.prompt_nanos <= other.prompt_nanos
            && self.resident <= other.resident
    }
}

impl std::iter::Sum for Load {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            bytes: sum.bytes + one.bytes,
            nanos: sum.nanos + one.nanos,
            prompt_nanos: sum.prompt_nanos + one.prompt_nanos,
            resident: sum.resident + one.resident,
        })
    }
}

/// Tensors that get one encoding.
#[derive(Debug, Clone)]
pub struct Group {
    /// For people: the tensor's name, or role and layers.
    pub name: String,
    /// The tensors.
    pub weights: Vec<WeightId>,
    /// What they may get, most bits first; the first is what they have.
    pub candidates: Vec<Candidate>,
}

/// Layers of a graph, at least 1.
pub fn n_layers(graph: &Graph) -> usize {
    graph.weights.iter().filter_map(|w| w.layer).max().map_or(1, |last| last + 1)
}

/// The groups of a draft's matrices, its layers in `n_bands` bands; in file order.
pub fn of(draft: &Draft<'_>, allow: &[EncodingRef], n_bands: usize) -> Vec<Group> {
    let n_layers = n_layers(draft.graph());
    let mut groups: BTreeMap<_, Vec<WeightId>> = BTreeMap::new();
    for (id, decl) in draft.matrices() {
        let band = decl.layer.map(|layer| layer * n_bands / n_layers);
        let source = draft.encoding(id);
        let key = (band, decl.role, fit::cols_of(decl), source.name());
        groups.entry(key).or_default().push(id);
    }
    let mut groups: Vec<Vec<WeightId>> = groups.into_values().collect();
    groups.sort_by_key(|weights| weights[0]);
    groups.into_iter().map(|weights| group(draft, allow, weights)).collect()
}

fn group(draft: &Draft<'_>, allow: &[EncodingRef], weights: Vec<WeightId>) -> Group {
    let (graph, source) = (draft.graph(), draft.encoding(weights[0]));
    let cols = fit::cols_of(graph.decl(weights[0]));
    // BF16 is as large as F16 and keeps three bits fewer of each weight.
    let has_f16 = allow.iter().any(|encoding| encoding.name() == "F16");
    let may_be = |encoding: &&EncodingRef| {
        let is_smaller = encoding.bits() < source.bits();
        let is_beaten = encoding.name() == "BF16" && has_f16;
        let is_allowed = allow.contains(encoding) && encoding.can_encode();
        is_allowed && encoding.fits(cols) && is_smaller && !is_beaten
    };
    let mut encodings = vec![source];
    encodings.extend(ENCODINGS.iter().filter(may_be));
    encodings[1..].sort_by(|a, b| b.bits().total_cmp(&a.bits()));
    let bytes = |encoding: EncodingRef| {
        let one = |id: &WeightId| fit::bytes_of(graph.decl(*id), encoding) as u64;
        weights.iter().map(|id| one(id).next_multiple_of(ALIGNMENT)).sum()
    };
    let candidate = |encoding| {
        let takes = Load { bytes: bytes(encoding), ..Load::default() };
        Candidate { encoding, takes }
    };
    let candidates = encodings.into_iter().map(candidate).collect();
    Group { name: name(graph, &weights), weights, candidates }
}

fn name(graph: &Graph, weights: &[WeightId]) -> String {
    let (first, last) = (graph.decl(weights[0]), graph.decl(weights[weights.len() - 1]));
    if weights.len() == 1 {
        return first.name.clone();
    }
    let role = fit::role_name(first.role);
    match (first.layer, last.layer) {
        (Some(from), Some(to)) => format!("{role}, layers {from} to {to}"),
        _ => format!("{role}, {} tensors", weights.len()),
    }
}

/// A choice as encodings of weights; groups that keep what they have are left out.
pub fn plan(groups: &[Group], choices: &[usize]) -> Vec<(WeightId, EncodingRef)> {
    let changed = groups.iter().zip(choices).filter(|(_, choice)| **choice != 0);
    changed
        .flat_map(|(group, &choice)| {
            let encoding = group.candidates[choice].encoding;
            group.weights.iter().map(move |id| (*id, encoding))
        })
        .collect()
}

/// What a choice takes.
pub fn takes(groups: &[Group], choices: &[usize]) -> Load {
    groups.iter().zip(choices).map(|(group, &choice)| group.candidates[choice].takes).sum()
}

/// Puts measured times to the candidates; those whose time was not measured are left out, but for
/// what a group has, which always is.
pub fn time(groups: &mut [Group], graph: &Graph, costs: &Costs) {
    let prompt = costs.prompt.as_ref().map(|(_, table)| table);
    for group in groups {
        let takes = |table: &Table, encoding: EncodingRef| {
            let decls = group.weights.iter().map(|id| graph.decl(*id));
            decls.map(|decl| table.nanos(decl, encoding)).sum::<Option<f64>>()
        };
        let times = |encoding: EncodingRef| {
            let prompt = prompt.map_or(Some(0.0), |table| takes(table, encoding));
            takes(&costs.token, encoding).zip(prompt)
        };
        let times: Vec<_> = group.candidates.iter().map(|c| times(c.encoding)).collect();
        for (candidate, times) in group.candidates.iter_mut().zip(&times) {
            let takes = &mut candidate.takes;
            (takes.nanos, takes.prompt_nanos) = times.unwrap_or_default();
        }
        let mut index = 0;
        group.candidates.retain(|_| {
            index += 1;
            index == 1 || times[index - 1].is_some()
        });
    }
}

/// Puts what is planned for them in memory to the candidates.
pub fn reside(groups: &mut [Group], graph: &Graph, packed: &Packed) {
    for group in groups {
        let from = group.candidates[0].encoding;
        for candidate in &mut group.candidates {
            let decls = group.weights.iter().map(|id| graph.decl(*id));
            let bytes = decls.map(|decl| packed.bytes(decl, from, candidate.encoding));
            candidate.takes.resident = bytes.sum();
        }
    }
}

/// Every group in `encoding` where it fits, else in its fallback, else as it is.
pub fn uniform(groups: &[Group], encoding: EncodingRef, graph: &Graph) -> Vec<usize> {
    let choice = |group: &Group| {
        let cols = fit::cols_of(graph.decl(group.weights[0]));
        let (wanted, _) = fit::or_fallback(encoding, cols);
        group.candidates.iter().position(|c| c.encoding == wanted).unwrap_or(0)
    };
    groups.iter().map(choice).collect()
}

/// Every group in its fewest bytes; `None` when nothing can be changed.
pub fn lowest(groups: &[Group]) -> Option<Vec<usize>> {
    let choices: Vec<usize> = groups.iter().map(|group| group.candidates.len() - 1).collect();
    choices.iter().any(|choice| *choice != 0).then_some(choices)
}
