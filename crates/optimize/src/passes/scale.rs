//! `scale`: moves the size of what matrices read into their columns (AWQ, Lin et al. 2023;
//! SmoothQuant, Xiao et al. 2022).
//!
//! A block of columns shares one scale, so a column that reads large inputs is rounded as coarsely
//! as its neighbours though its errors count for more. Multiplied by a factor, which the norm
//! before it (or the MLP's up matrix) is divided by, it is rounded more finely, and the model
//! computes the same. It costs nothing at run time: the factors are in the weights.

use super::{Context, Pass};
use crate::draft::Draft;
use crate::draft::scaling::{Factors, Place, places};
use crate::error::Result;
use crate::importance::Importance;
use crate::sample::Sample;
use sterna_formats::EncodingRef;
use sterna_model::WeightSource;

/// Activation-aware scaling.
pub struct Scale;

/// What strengths are chosen by.
#[derive(Clone, Copy)]
pub struct Scales<'a> {
    /// The mean squares of what matrices read.
    pub inputs: &'a Importance,
    /// The encoding whose errors are to be small; rows that do not fit it take what they can.
    pub encoding: EncodingRef,
}

/// Powers of the inputs' root mean squares that are tried besides none.
const STRENGTHS: &[f64] = &[0.25, 0.5, 0.75, 1.0];
/// The error that is left has to be less than this of what it was.
const WORTHWHILE: f64 = 0.98;
/// Rows of a matrix that are rounded to see.
const SAMPLED_ROWS: usize = 64;
/// Factors are from 2 to the minus this to 2 to this.
const MAX_EXPONENT: f64 = 5.0;

impl Pass for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn about(&self) -> &'static str {
        "multiplies columns by how large their inputs are, and norms by the inverse; before \
         rounding the model computes the same"
    }

    fn apply(&self, draft: &mut Draft<'_>, context: &mut Context<'_>) -> Result<()> {
        let Some(scales) = context.scales else { return Ok(()) };
        let (mut n, mut sums) = (0, (0.0, 0.0));
        let places = places(draft.graph());
        for place in &places {
            let Some(best) = best(draft, place, scales) else { continue };
            if best.error < best.unscaled * WORTHWHILE {
                sums = (sums.0 + best.unscaled, sums.1 + best.error);
                draft.scale(place, &best.factors, best.strength);
                n += 1;
            }
        }
        let (n_places, name) = (places.len(), scales.encoding.name());
        draft.note(match n {
            0 => format!("scale: no factor at {n_places} places makes errors in {name} smaller"),
            _ => format!(
                "scale: factors moved at {n} of {n_places} places; the weighed errors of their \
                 readers in {name} fall by {:.0}%",
                (1.0 - sums.1 / f64::max(sums.0, f64::MIN_POSITIVE)) * 100.0
            ),
        });
        Ok(())
    }
}

/// What a place gains.
struct Best {
    strength: f64,
    factors: Vec<f32>,
    error: f64,
    unscaled: f64,
}

/// The strength with the least error; `None` where the source's weights are no floats, whose
/// rounding a factor would change, the inputs were never seen, or the place has been scaled.
fn best(draft: &Draft<'_>, place: &Place, scales: Scales<'_>) -> Option<Best> {
    let weights = || place.givers.iter().chain(&place.readers);
    if weights().any(|&id| draft.encoding(id).grid().is_some()) {
        return None;
    }
    let giver = &draft.graph().decl(place.givers[0]).name;
    if draft.scaling().strengths().contains_key(giver) {
        return None;
    }
    let first = draft.graph().decl(place.readers[0]);
    let squares = scales.inputs.seen(&first.name)?;
    let samples: Vec<Sample> =
        place.readers.iter().map(|&id| Sample::of(draft, id, SAMPLED_ROWS)).collect();
    let encoding = scales.encoding;
    let error = |factors: &[f32]| -> f64 {
        samples.iter().map(|sample| error(sample, factors, &squares, draft, encoding)).sum()
    };
    let unscaled = error(&vec![1.0; squares.len()]);
    let tried = STRENGTHS.iter().map(|&strength| {
        let factors = factors(&squares, strength);
        Best { strength, error: error(&factors), factors, unscaled }
    });
    tried.min_by(|a, b| a.error.total_cmp(&b.error))
}

/// The root mean squares to the power of `strength`, around one, as powers of two. A column that
/// reads zeros only is left.
fn factors(squares: &[f32], strength: f64) -> Vec<f32> {
    let log = |square: f32| 0.5 * f64::from(square).log2();
    let seen: Vec<f64> = squares.iter().filter(|&&s| s > 0.0).map(|&s| log(s)).collect();
    let middle = seen.iter().sum::<f64>() / seen.len().max(1) as f64;
    let exponent = |square: f32| ((log(square) - middle) * strength).round();
    let factor = |&square: &f32| match square > 0.0 {
        true => exponent(square).clamp(-MAX_EXPONENT, MAX_EXPONENT).exp2() as f32,
        false => 1.0,
    };
    squares.iter().map(factor).collect()
}

/// What rounding a matrix adds to the squares of its outputs, once its columns are multiplied.
fn error(
    sample: &Sample,
    by: &[f32],
    squares: &[f32],
    draft: &Draft<'_>,
    encoding: EncodingRef,
) -> f64 {
    let of = Factors { rows: None, cols: Some(by.into()) };
    let mut weights = squares.to_vec();
    weights.resize(sample.cols(), 0.0);
    let weights = of.weigh(&weights);
    let importance = (!draft.rounding().is_plain()).then_some(&weights[..]);
    sample.scaled(&of).error(encoding, importance, &weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::Edit;
    use crate::fit;
    use crate::testing::{tiny_model, tiny_model_of};
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    use std::sync::Arc;
    use sterna_formats::encodings::by_name;
    use sterna_model::eval_graph;

    const TOKENS: &[u32] = &[1, 5, 9, 2, 30, 17];

    /// The same model with columns of very different sizes, and what they read then: every place
    /// scaled by random powers of two.
    fn uneven<'a>(mut draft: Draft<'a>, rng: &mut StdRng) -> (Draft<'a>, Importance) {
        let mut inputs = Importance::default();
        for place in places(draft.graph()) {
            let cols = fit::cols_of(draft.graph().decl(place.readers[0]));
            let factors: Vec<f32> =
                (0..cols).map(|_| f32::exp2(rng.random_range(-3..=3) as f32)).collect();
            for &id in &place.readers {
                let squares = factors.iter().map(|factor| (factor * factor).recip());
                inputs.set(&draft.graph().decl(id).name, squares.collect());
            }
            draft.scale(&place, &factors, 1.0);
        }
        (draft, inputs)
    }

    #[test]
    fn factors_that_move_change_no_bit_of_any_logit() {
        let tiny = tiny_model(7);
        let draft = Draft::new(&tiny.graph, &tiny);
        let found = places(&tiny.graph);
        // Two norms and one MLP in each layer; the head is tied to the embedding.
        assert_eq!(found.len(), 6, "{found:?}");
        let (uneven, _) = uneven(draft, &mut StdRng::seed_from_u64(1));
        assert_eq!(uneven.scaling().strengths().len(), 6);
        let plain = eval_graph(&tiny.graph, &tiny, TOKENS).unwrap();
        assert_eq!(eval_graph(uneven.graph(), &uneven, TOKENS).unwrap(), plain);
    }

    #[test]
    fn nothing_moves_where_inputs_are_rounded_or_normalised_again() {
        let ternary = tiny_model_of("bitnet-b1.58", 7);
        assert_eq!(places(&ternary.graph), [], "its layers read int8 codes");
        let tiny = tiny_model(7);
        let mut stored = Draft::new(&tiny.graph, &tiny);
        for name in ["blk.0.attn_q.weight", "blk.0.ffn_up.weight"] {
            let encoding = by_name("Q8_0").unwrap();
            let edit = Edit { encoding, bytes: None, provenance: "test".into() };
            stored.encode(tiny.graph.find_weight(name).unwrap(), edit).unwrap();
        }
        let (_, inputs) = uneven(Draft::new(&tiny.graph, &tiny), &mut StdRng::seed_from_u64(1));
        let mut draft = Draft::new(stored.graph(), &stored);
        let scales = Scales { inputs: &inputs, encoding: by_name("Q4_0").unwrap() };
        let mut context = Context { scales: Some(scales), ..Context::default() };
        Scale.apply(&mut draft, &mut context).unwrap();
        let names: Vec<&String> = draft.scaling().strengths().keys().collect();
        assert!(
            !names.is_empty() && names.iter().all(|name| name.starts_with("blk.1")),
            "{names:?}"
        );
    }

    #[test]
    fn uneven_columns_are_rounded_as_well_as_even_ones() {
        let tiny = tiny_model(8);
        let (source, inputs) =
            uneven(Draft::new(&tiny.graph, &tiny), &mut StdRng::seed_from_u64(2));
        let wanted = eval_graph(&tiny.graph, &tiny, TOKENS).unwrap();
        let encoding = by_name("Q4_0").unwrap();
        let error = |mut draft: Draft<'_>| -> f64 {
            for layer in 0..2 {
                for matrix in ["attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up"] {
                    let name = format!("blk.{layer}.{matrix}.weight");
                    let id = draft.graph().find_weight(&name).unwrap();
                    let edit = Edit { encoding, bytes: None, provenance: "test".into() };
                    draft.encode(id, edit).unwrap();
                }
            }
            let got = eval_graph(draft.graph(), &draft, TOKENS).unwrap();
            got.iter().zip(&wanted).map(|(a, b)| f64::from((a - b) * (a - b))).sum()
        };
        let even = error(Draft::new(&tiny.graph, &tiny));
        let mut draft = Draft::new(source.graph(), &source);
        let unscaled = error(draft.clone());
        let scales = Scales { inputs: &inputs, encoding };
        let mut context = Context { scales: Some(scales), ..Context::default() };
        Scale.apply(&mut draft, &mut context).unwrap();
        // Strength one takes the planted factors back, and with them every bit of the even model.
        assert!(draft.notes()[0].starts_with("scale: factors moved at 4 of 6 places"));
        assert_eq!(error(draft.clone()), even);
        assert!(even < unscaled / 4.0, "{even} {unscaled}");
        // Where errors are weighed, by what the columns read after scaling.
        draft.weigh(Arc::new(inputs));
        let id = draft.graph().find_weight("blk.0.attn_q.weight").unwrap();
        let weights = draft.importance(id).unwrap();
        assert!(weights.iter().all(|&weight| weight == weights[0]), "{weights:?}");
    }
}
