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
use crate::error::Result;
use crate::progress::Watch;
use crate::sample::Sample;

/// Expected divergences by group and candidate; `None` for what is not considered.
pub type Expected = Vec<Vec<Option<f64>>>;

/// Rows of a matrix that are rounded to see.
const SAMPLED_ROWS: usize = 16;
/// The weight of what is true of all groups beside what was measured of one: an error of this share
/// of its candidates' mean.
const DOUBT: f64 = 0.1;

/// What was measured, as it is.
pub fn measured(losses: &[Vec<Option<Loss>>]) -> Expected {
    let kl = |loss: &Option<Loss>| loss.map(|loss| loss.kl.max(0.0));
    losses.iter().map(|of_group| of_group.iter().map(kl).collect()).collect()
}

/// Fills in the pairs that there was no time for.
///
/// # Errors
/// When the user stops it.
pub fn fill(
    expected: &mut Expected,
    late: &[(usize, usize)],
    groups: &[Group],
    uniforms: &[Uniform],
    draft: &Draft<'_>,
    watch: Watch<'_>,
) -> Result<()> {
    let mut errors: Vec<Vec<f64>> = Vec::with_capacity(groups.len());
    for group in groups {
        watch.check()?;
        errors.push(errors_of(group, draft));
    }
    // Of an encoding that no group may get any more nothing can be said.
    let allowed = |uniform: &&Uniform| {
        let has = |group: &Group| group.candidates.iter().any(|c| c.encoding == uniform.encoding);
        groups.iter().any(has)
    };
    let all = ratio(uniforms.iter().filter(allowed).map(|uniform| {
        let choices = groups::uniform(groups, uniform.encoding, draft.graph());
        (uniform.kl, choices.iter().zip(&errors).map(|(&choice, errors)| errors[choice]).sum())
    }));
    // By errors alone where nothing was measured.
    let all = all.unwrap_or(1.0);
    let per_error: Vec<f64> = expected
        .iter()
        .zip(&errors)
        .map(|(expected, errors)| {
            // What little an encoding of many bits loses is mostly noise, so it is believed less.
            let doubt = errors.iter().sum::<f64>() / errors.len() as f64 * DOUBT;
            let measured = expected.iter().zip(errors).skip(1);
            let measured = measured.filter_map(|(kl, error)| Some(((*kl)?, *error)));
            ratio(measured.chain([(all * doubt, doubt)])).unwrap_or(all)
        })
        .collect();
    for &(group, candidate) in late {
        expected[group][candidate] = Some(errors[group][candidate] * per_error[group]);
    }
    Ok(())
}

/// Of divergences to errors.
fn ratio(pairs: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let (kl, error) = pairs.fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
    (error > 0.0 && kl > 0.0).then(|| kl / error)
}

/// Per candidate the relative squared errors of what the group's matrices return, summed up.
fn errors_of(group: &Group, draft: &Draft<'_>) -> Vec<f64> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use crate::search::Load;
    use crate::testing::tiny_model;
    use std::sync::atomic::AtomicBool;
    use sterna_formats::encodings::by_name;

    fn filled(
        uniforms: &[Uniform],
        measured: Option<(usize, usize, f64)>,
    ) -> (Vec<Group>, Expected) {
        let tiny = tiny_model(4);
        let draft = Draft::new(&tiny.graph, &tiny);
        let allow = ["Q8_0", "Q4_0"].map(|name| by_name(name).unwrap());
        let groups = groups::of(&draft, &allow, 1);
        let mut expected: Expected = groups
            .iter()
            .map(|group| vec![None; group.candidates.len()])
            .map(|mut of_group: Vec<Option<f64>>| {
                of_group[0] = Some(0.0);
                of_group
            })
            .collect();
        if let Some((group, candidate, kl)) = measured {
            expected[group][candidate] = Some(kl);
        }
        let late: Vec<(usize, usize)> = (0..groups.len())
            .flat_map(|g| (1..groups[g].candidates.len()).map(move |c| (g, c)))
            .filter(|&(g, c)| expected[g][c].is_none())
            .collect();
        let stop = AtomicBool::new(false);
        let watch = Watch { progress: &Silent, stop: &stop };
        fill(&mut expected, &late, &groups, uniforms, &draft, watch).unwrap();
        (groups, expected)
    }

    fn uniform(name: &str, kl: f64) -> Uniform {
        Uniform { encoding: by_name(name).unwrap(), takes: Load::default(), kl }
    }

    #[test]
    fn groups_without_a_measurement_share_what_whole_plans_lose() {
        let (groups, expected) = filled(&[uniform("Q4_0", 0.5)], None);
        let low = |(of_group, group): (&Vec<Option<f64>>, &Group)| {
            let at = group.candidates.iter().position(|c| c.encoding.name() == "Q4_0");
            at.map_or(0.0, |at| of_group[at].unwrap())
        };
        let sum: f64 = expected.iter().zip(&groups).map(low).sum();
        assert!((sum - 0.5).abs() < 1e-9, "{sum}");
        // An encoding that screening took from all groups says nothing of those that are left.
        let (_, with_beaten) = filled(&[uniform("Q4_0", 0.5), uniform("Q2_K", 9.0)], None);
        assert_eq!(with_beaten, expected);
    }

    #[test]
    fn one_measurement_says_what_other_encodings_lose_and_noise_says_little() {
        let whole = [uniform("Q4_0", 0.5)];
        let (groups, plain) = filled(&whole, None);
        let at = |name: &str| {
            let candidates = &groups[0].candidates;
            candidates.iter().position(|c| c.encoding.name() == name).unwrap()
        };
        let (low, high) = (at("Q4_0"), at("Q8_0"));
        let (of_low, of_high) = (plain[0][low].unwrap(), plain[0][high].unwrap());
        let (_, tenfold) = filled(&whole, Some((0, low, of_low * 10.0)));
        let ratio = tenfold[0][high].unwrap() / of_high;
        assert!((7.0..10.0).contains(&ratio), "{ratio}");
        // The same of eight bits, of which the divergence is next to nothing.
        let (_, noisy) = filled(&whole, Some((0, high, of_high * 10.0)));
        let ratio = noisy[0][low].unwrap() / of_low;
        assert!((1.0..2.0).contains(&ratio), "{ratio}");
    }
}
