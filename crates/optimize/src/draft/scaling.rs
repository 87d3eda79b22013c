//! Factors that weights are multiplied by on their way out of the source.
//!
//! In: places of a graph where a factor can move from what is read into the columns that read it,
//! and factors. Out: for each weight those of its rows and columns. All are powers of two, so that
//! floats keep every bit of their fractions and the model computes what it did; only F16's numbers
//! near zero (under 6.1e-5), which have fewer bits, may be off by up to 3e-8.

use crate::fit;
use std::collections::BTreeMap;
use std::sync::Arc;
use sterna_model::ops::{Activations, LayerNorm, Linear, RmsNorm, Swiglu};
use sterna_model::{Graph, Node, Role, ValueId, WeightId};

/// Where a factor can move: the givers' outputs are divided, the readers' columns multiplied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Of a norm, gain and shift; of the MLP's up matrix, its rows and bias.
    pub givers: Vec<WeightId>,
    /// Matrices that read what they give, and nothing else.
    pub readers: Vec<WeightId>,
}

/// Of one weight; what has none is multiplied by one.
#[derive(Debug, Clone, Default)]
pub struct Factors {
    /// By row.
    pub rows: Option<Arc<[f32]>>,
    /// By column; a vector's values are columns.
    pub cols: Option<Arc<[f32]>>,
}

/// The places of a graph whose linear layers have not been merged: norms, and up matrices of gated
/// MLPs, that linear layers alone read. A matrix that is used twice, as a tied head is, is in none.
pub fn places(graph: &Graph) -> Vec<Place> {
    let place = |node: &Node| {
        let op = node.op.as_any();
        let (givers, output) = match op.downcast_ref::<RmsNorm>() {
            Some(norm) if norm.group_len == graph.values[node.outputs[0].0].features => {
                (&node.weights, node.outputs[0])
            }
            None if op.is::<LayerNorm>() => (&node.weights, node.outputs[0]),
            None if op.is::<Swiglu>() => {
                let up = graph.nodes.iter().find(|n| n.outputs.contains(&node.inputs[1]))?;
                let is_read_once =
                    node.inputs[0] != node.inputs[1] && readers(graph, node.inputs[1]).count() == 1;
                let linear = up.op.as_any().downcast_ref::<Linear>()?;
                (linear.n_outputs() == 1 && is_read_once)
                    .then_some((&up.weights, node.outputs[0]))?
            }
            _ => return None,
        };
        let matrices = |reader: &Node| {
            let linear = reader.op.as_any().downcast_ref::<Linear>()?;
            let is_float = linear.activations == Activations::Float;
            is_float.then(|| reader.weights[..linear.n_outputs()].to_vec())
        };
        let readers = readers(graph, output).map(matrices).collect::<Option<Vec<_>>>()?.concat();
        let mut all = givers.iter().chain(&readers);
        let is_whole = graph.output != Some(output)
            && !readers.is_empty()
            && all.all(|&id| n_uses(graph, id) == 1);
        is_whole.then(|| Place { givers: givers.clone(), readers })
    };
    graph.nodes.iter().filter_map(place).collect()
}

fn readers(graph: &Graph, value: ValueId) -> impl Iterator<Item = &Node> {
    graph.nodes.iter().filter(move |node| node.inputs.contains(&value))
}

fn n_uses(graph: &Graph, id: WeightId) -> usize {
    graph.nodes.iter().flat_map(|node| &node.weights).filter(|&&used| used == id).count()
}

/// How strongly each place was scaled, and what follows for its weights.
#[derive(Debug, Clone, Default)]
pub struct Scaling {
    factors: BTreeMap<WeightId, Factors>,
    strengths: BTreeMap<String, f64>,
}

impl Scaling {
    /// Multiplies a place's readers by `factors`, one per column, and divides its givers by them.
    ///
    /// # Panics
    /// When the place has been scaled before, or a factor is no power of two.
    pub fn scale(&mut self, graph: &Graph, place: &Place, factors: &[f32], strength: f64) {
        assert!(factors.iter().all(|f| f.is_normal() && f.to_bits() << 9 == 0), "powers of two");
        let name = graph.decl(place.givers[0]).name.clone();
        assert!(self.strengths.insert(name, strength).is_none(), "a place is scaled once");
        let divisors: Arc<[f32]> = factors.iter().map(|factor| factor.recip()).collect();
        for &id in &place.givers {
            let of = self.factors.entry(id).or_default();
            match graph.decl(id).role {
                Role::MlpUp if fit::is_matrix(graph.decl(id)) => of.rows = Some(divisors.clone()),
                _ => of.cols = Some(divisors.clone()),
            }
        }
        let factors: Arc<[f32]> = factors.into();
        for &id in &place.readers {
            self.factors.entry(id).or_default().cols = Some(factors.clone());
        }
    }

    /// Of a weight; `None` where it is as in the source.
    pub fn of(&self, id: WeightId) -> Option<&Factors> {
        self.factors.get(&id)
    }

    /// By the name of each place's first giver: to what power of the root mean squares its readers'
    /// columns were multiplied, in whole powers of two.
    pub fn strengths(&self) -> &BTreeMap<String, f64> {
        &self.strengths
    }
}

impl Factors {
    /// Multiplies row `row` of the source.
    pub fn apply(&self, row: usize, values: &mut [f32]) {
        if let Some(cols) = &self.cols {
            values.iter_mut().zip(&**cols).for_each(|(value, factor)| *value *= factor);
        }
        if let Some(rows) = &self.rows {
            values.iter_mut().for_each(|value| *value *= rows[row]);
        }
    }

    /// What errors in the columns matter, now that what they read is smaller by the factors.
    pub fn weigh(&self, importance: &[f32]) -> Vec<f32> {
        let mut weights = importance.to_vec();
        if let Some(cols) = &self.cols {
            weights.iter_mut().zip(&**cols).for_each(|(weight, f)| *weight /= f * f);
        }
        weights
    }
}
