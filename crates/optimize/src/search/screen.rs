//! Screening: which encodings are worth a measurement tensor by tensor.
//!
//! In: groups with every encoding that fits, and a judge. Out: what each encoding costs the whole
//! model, used wherever it fits. Those that another beats, fewer bytes and less divergence, need no
//! search; the best of the others are plans to start from, whatever time is left.

use super::{Depth, Goal, Group, Judge, Least, Load, groups};
use crate::error::Result;
use crate::progress::{Stage, Watch};
use sterna_formats::EncodingRef;
use sterna_model::Graph;

/// An encoding used wherever it fits.
#[derive(Debug, Clone, Copy)]
pub struct Uniform {
    /// The encoding.
    pub encoding: EncodingRef,
    /// What all groups take.
    pub takes: Load,
    /// Mean divergence on the first part of the calibration text.
    pub kl: f64,
}

/// Measures every encoding that some group may change to, until `is_late`, but one in any case:
/// most bits first, and last those by which the goal's bytes and time would not be kept.
///
/// # Errors
/// When the model cannot be run, or the user stops it.
pub fn measure(
    groups: &[Group],
    graph: &Graph,
    goal: Goal,
    judge: &mut dyn Judge,
    watch: Watch<'_>,
    is_late: &dyn Fn() -> bool,
) -> Result<Vec<Uniform>> {
    let mut encodings = encodings(groups);
    // Of one group its own measurements tell the same, and two encodings are soon measured.
    if groups.len() < 2 || encodings.len() < 3 {
        return Ok(Vec::new());
    }
    encodings.sort_by_key(|&encoding| {
        let choices = groups::uniform(groups, encoding, graph);
        !goal.has_room(groups::takes(groups, &choices))
    });
    let mut uniforms = Vec::new();
    for (done, &encoding) in encodings.iter().enumerate() {
        if done > 0 && is_late() {
            break;
        }
        let note = format!("every tensor as {}", encoding.name());
        watch.step(Stage::Screen, done, encodings.len(), &note)?;
        let choices = groups::uniform(groups, encoding, graph);
        let loss = judge.judge(&groups::plan(groups, &choices), Depth::Quick)?;
        let takes = groups::takes(groups, &choices);
        uniforms.push(Uniform { encoding, takes, kl: loss.kl });
    }
    watch.step(Stage::Screen, encodings.len(), encodings.len(), "done")?;
    Ok(uniforms)
}

/// The encodings of `allow` that no other beats; `notes` names those that are left out.
pub fn unbeaten(
    allow: &[EncodingRef],
    uniforms: &[Uniform],
    notes: &mut Vec<String>,
) -> Vec<EncodingRef> {
    let beaten: Vec<EncodingRef> =
        uniforms.iter().filter(|one| is_beaten(one, uniforms)).map(|one| one.encoding).collect();
    if !beaten.is_empty() {
        let names: Vec<&str> = beaten.iter().map(|encoding| encoding.name()).collect();
        notes.push(format!(
            "{} left out of the search: another encoding gave this model fewer bytes and less \
             divergence when every tensor had it",
            names.join(", ")
        ));
    }
    allow.iter().copied().filter(|encoding| !beaten.contains(encoding)).collect()
}

/// At most this many plans to start from.
const MAX_STARTS: usize = 2;

/// The plans to measure first, as labels and choices: the encodings that by their divergence reach
/// the goal, the best first.
pub fn starts(
    uniforms: &[Uniform],
    groups: &[Group],
    graph: &Graph,
    goal: Goal,
) -> Vec<(String, Vec<usize>)> {
    let mut fitting: Vec<&Uniform> = uniforms.iter().filter(|one| is_within(one, goal)).collect();
    match goal.least {
        Least::Divergence => fitting.sort_by(|a, b| a.kl.total_cmp(&b.kl)),
        Least::Bytes => fitting.sort_by_key(|one| one.takes.bytes),
        Least::Time => fitting.sort_by(|a, b| a.takes.nanos.total_cmp(&b.takes.nanos)),
    }
    let start = |one: &&Uniform| {
        let label = format!("uniform {}", one.encoding.name());
        (label, groups::uniform(groups, one.encoding, graph))
    };
    fitting.iter().take(MAX_STARTS).map(start).collect()
}

/// Whether it should reach the goal.
fn is_within(one: &Uniform, goal: Goal) -> bool {
    let drop = one.kl.exp_m1() * 100.0;
    goal.has_room(one.takes) && goal.drop_limit().is_none_or(|limit| drop <= limit)
}

/// Every encoding that some group may change to, most bits first.
pub fn encodings(groups: &[Group]) -> Vec<EncodingRef> {
    let mut all: Vec<EncodingRef> = Vec::new();
    for candidate in groups.iter().flat_map(|group| &group.candidates[1..]) {
        if !all.contains(&candidate.encoding) {
            all.push(candidate.encoding);
        }
    }
    all.sort_by(|a, b| b.bits().total_cmp(&a.bits()));
    all
}

/// Whether another takes no more of anything and is no worse, and is better in something.
fn is_beaten(one: &Uniform, all: &[Uniform]) -> bool {
    all.iter().any(|other| {
        let is_other = other.takes != one.takes || other.kl < one.kl;
        other.takes.is_within(one.takes) && other.kl <= one.kl && is_other
    })
}
