//! Estimates: what pairs of group and encoding that time did not allow to measure would lose.
//!
//! In: what was measured, and the matrices. Out: per group and candidate an expected divergence.
//! Divergence is nearly linear in the relative squared error of each matrix's output (the linearity
//! theorem of HIGGS, Malinovskii et al. 2024), so one measurement of a group says what its other
//! encodings lose; a group without any is taken to be as sensitive as all are together. Estimates
//! choose which plans are measured; no plan is chosen by them.

use super::screen::Uniform;
use super::{Group, Loss, groups};
use crate::draft::Draft;
use crate::sample::Sample;

/// Expected divergences by group and candidate; `None` for what is not considered.
pub type Expected = Vec<Vec<Option<f64>>>;

/// Rows of a matrix that are rounded to see.
const SAMPLED_ROWS: usize = 16;

/// What was measured, as it is.
pub fn measured(losses: &[Vec<Option<Loss>>]) -> Expected {
    let kl = |loss: &Option<Loss>| loss.map(|loss| loss.kl.max(0.0));
    losses.iter().map(|of_group| of_group.iter().map(kl).collect()).collect()
}

/// Fills in the pairs that there was no time for.
pub fn fill(
    expected: &mut Expected,
    late: &[(usize, usize)],
    groups: &[Group],
    uniforms: &[Uniform],
    draft: &Draft<'_>,
) {
    let errors: Vec<Vec<f64>> = groups.iter().map(|group| errors(group, draft)).collect();
    let per_error: Vec<Option<f64>> = expected
        .iter()
        .zip(&errors)
        .map(|(expected, errors)| {
            let measured = expected.iter().zip(errors).skip(1);
            ratio(measured.filter_map(|(kl, error)| Some(((*kl)?, *error))))
        })
        .collect();
    let all = ratio(uniforms.iter().map(|uniform| {
        let choices = groups::uniform(groups, uniform.encoding, draft.graph());
        (uniform.kl, choices.iter().zip(&errors).map(|(&choice, errors)| errors[choice]).sum())
    }));
    // By errors alone where nothing was measured.
    let all = all.unwrap_or(1.0);
    for &(group, candidate) in late {
        let per_error = per_error[group].unwrap_or(all);
        expected[group][candidate] = Some(errors[group][candidate] * per_error);
    }
}

/// Of divergences to errors.
fn ratio(pairs: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let (kl, error) = pairs.fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
    (error > 0.0 && kl > 0.0).then(|| kl / error)
}

/// Per candidate the relative squared errors of what the group's matrices return, summed up.
fn errors(group: &Group, draft: &Draft<'_>) -> Vec<f64> {
    let mut errors = vec![0.0; group.candidates.len()];
    for &id in &group.weights {
        let sample = Sample::of(draft, id, SAMPLED_ROWS);
        let importance = draft.importance(id);
        let alike = vec![1.0; sample.cols()];
        let squares = importance.as_deref().unwrap_or(&alike);
        let power = sample.power(squares).max(f64::MIN_POSITIVE);
        for (error, candidate) in errors.iter_mut().zip(&group.candidates).skip(1) {
            *error += sample.error(candidate.encoding, importance.as_deref(), squares) / power;
        }
    }
    errors
}
