//! Layers that see their inputs as int8 codes because a Plan says so, or a file that was quantized
//! without one, not because their architecture is made that way.
//!
//! In: a graph, and ranges by the names of matrices. Out: the graph that computes so; and
//! the ranges of a graph again. A range is the absolute maximum that codes reach, in the units of
//! the inputs, or [`OWN`], where each row has a scale of its own.

use crate::Graph;
use crate::ops::linear::Range;
use crate::ops::{Activations, Linear};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The range of inputs whose rows have scales of their own.
pub const OWN: f64 = 0.0;

/// The metadata key of a GGUF file without a Plan: the ranges as a JSON object.
pub const KEY: &str = "sterna.int8_inputs";

/// The ranges as the metadata of a file has them.
pub fn print(ranges: &BTreeMap<String, f64>) -> String {
    serde_json::to_string(ranges).expect("names and finite numbers are JSON")
}

/// Reads them again.
///
/// # Errors
/// When it is no such object.
pub fn parse(text: &str) -> Result<BTreeMap<String, f64>, String> {
    serde_json::from_str(text).map_err(|error| format!("metadata key {KEY}: {error}"))
}

/// What a range means; `None` for a number that is none.
pub fn activations(range: f64) -> Option<Activations> {
    if range == OWN {
        return Some(Activations::Int8PerToken);
    }
    let exact = range as f32;
    Range::new(exact).filter(|_| f64::from(exact) == range).map(Activations::Int8Static)
}

/// The graph with these ranges.
///
/// # Errors
/// When a matrix is not there, is in no linear layer, sees codes already, or has another range than
/// those that share its input.
pub fn apply(graph: &Graph, ranges: &BTreeMap<String, f64>) -> Result<Graph, String> {
    let mut edited = graph.clone();
    let mut n_found = 0;
    for node in &mut edited.nodes {
        let Some(linear) = node.op.as_any().downcast_ref::<Linear>() else { continue };
        let matrices = &node.weights[..linear.n_outputs()];
        let names = matrices.iter().map(|id| graph.decl(*id).name.as_str());
        let found: Vec<Option<f64>> = names.map(|name| ranges.get(name).copied()).collect();
        let Some(range) = found[0] else {
            continue;
        };
        let name = &node.name;
        if linear.activations.is_int8() || found.iter().any(|other| *other != Some(range)) {
            return Err(format!("the inputs of {name} are int8 codes otherwise"));
        }
        let activations =
            activations(range).ok_or_else(|| format!("{range} is no range for {name}"))?;
        n_found += found.len();
        node.op = Arc::new(Linear { activations, ..linear.clone() });
    }
    match n_found == ranges.len() {
        true => Ok(edited),
        false => Err("a matrix whose inputs should be int8 codes is in no layer, or shared".into()),
    }
}

/// The ranges that make `graph` of `native`, the graph as its architecture has it.
pub fn of(graph: &Graph, native: &Graph) -> BTreeMap<String, f64> {
    let by_name = |graph: &Graph| -> BTreeMap<String, f64> {
        let mut ranges = BTreeMap::new();
        for node in &graph.nodes {
            let Some(linear) = node.op.as_any().downcast_ref::<Linear>() else { continue };
            let range = match linear.activations {
                Activations::Float => continue,
                Activations::Int8PerToken => OWN,
                Activations::Int8Static(range) => f64::from(range.get()),
            };
            let matrices = &node.weights[..linear.n_outputs()];
            ranges.extend(matrices.iter().map(|id| (graph.decl(*id).name.clone(), range)));
        }
        ranges
    };
    let native = by_name(native);
    by_name(graph).into_iter().filter(|(name, _)| !native.contains_key(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{archs, testing};

    #[test]
    fn ranges_come_back_and_wrong_ones_are_refused() {
        let arch = archs::by_name("llama").unwrap();
        let graph = arch.graph(&testing::config("llama")).unwrap();
        let ranges = BTreeMap::from([
            ("blk.0.attn_q.weight".to_owned(), 2.5),
            ("blk.1.ffn_down.weight".to_owned(), OWN),
        ]);
        let edited = apply(&graph, &ranges).unwrap();
        assert_eq!(of(&edited, &graph), ranges);
        assert_eq!(parse(&print(&ranges)), Ok(ranges.clone()));
        assert!(parse("[1]").unwrap_err().contains(KEY));
        assert!(edited.to_string().contains("activations=int8 within 2.5"), "{edited}");
        assert!(apply(&edited, &ranges).unwrap_err().contains("codes otherwise"));
        for (name, range) in
            [("blk.0.attn_q.weight", f64::NAN), ("blk.0.attn_norm.weight", 1.0), ("none", OWN)]
        {
            assert!(apply(&graph, &BTreeMap::from([(name.to_owned(), range)])).is_err(), "{name}");
        }
    }

    #[test]
    fn a_range_is_a_number_of_32_bits_that_has_a_scale() {
        assert_eq!(activations(OWN), Some(Activations::Int8PerToken));
        for bad in [-1.0, f64::NAN, f64::INFINITY, 0.1, 1e-40, 1e300] {
            assert_eq!(activations(bad), None, "{bad}");
        }
        assert!(matches!(activations(0.5), Some(Activations::Int8Static(r)) if r.get() == 0.5));
    }
}
