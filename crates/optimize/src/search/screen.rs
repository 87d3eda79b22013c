//! Screening: which encodings are worth a measurement tensor by tensor.
//!
//! In: groups with every encoding that fits, and a judge. Out: the same groups without the
//! encodings that another beats on the whole model, fewer bytes and less divergence, when every
//! group has it. One measurement per encoding saves one per encoding and group.

use super::{Candidate, Depth, Group, Judge, groups};
use crate::error::Result;
use crate::progress::{Stage, Watch};
use sterna_formats::EncodingRef;
use sterna_model::Graph;

/// An encoding used wherever it fits.
#[derive(Debug, Clone, Copy)]
struct Uniform {
    encoding: EncodingRef,
    bytes: u64,
    kl: f64,
}

/// Leaves beaten encodings out of `groups`, and says so in `notes`; none if `is_late` becomes true
/// before all are measured.
///
/// # Errors
/// When the model cannot be run, or the user stops it.
pub fn screen(
    groups: &mut [Group],
    graph: &Graph,
    judge: &mut dyn Judge,
    watch: Watch<'_>,
    is_late: &dyn Fn() -> bool,
    notes: &mut Vec<String>,
) -> Result<()> {
    let encodings = encodings(groups);
    // Of one group its own measurements tell the same, and two encodings are soon measured.
    if groups.len() < 2 || encodings.len() < 3 {
        return Ok(());
    }
    let mut uniforms = Vec::new();
    for (done, &encoding) in encodings.iter().enumerate() {
        if is_late() {
            notes.push("the time budget left none to compare encodings on the whole model".into());
            return Ok(());
        }
        let note = format!("every tensor as {}", encoding.name());
        watch.step(Stage::Screen, done, encodings.len(), &note)?;
        let choices = groups::uniform(groups, encoding, graph);
        let loss = judge.judge(&groups::plan(groups, &choices), Depth::Quick)?;
        let bytes = groups::bytes(groups, &choices);
        uniforms.push(Uniform { encoding, bytes, kl: loss.kl });
    }
    watch.step(Stage::Screen, encodings.len(), encodings.len(), "done")?;
    let beaten: Vec<EncodingRef> =
        uniforms.iter().filter(|one| is_beaten(one, &uniforms)).map(|one| one.encoding).collect();
    for group in groups.iter_mut() {
        let own = group.candidates[0].encoding;
        group.candidates.retain(|c: &Candidate| c.encoding == own || !beaten.contains(&c.encoding));
    }
    if !beaten.is_empty() {
        let names: Vec<&str> = beaten.iter().map(|encoding| encoding.name()).collect();
        notes.push(format!(
            "{} left out of the search: another encoding gave this model fewer bytes and less \
             divergence when every tensor had it",
            names.join(", ")
        ));
    }
    Ok(())
}

/// Every encoding that some group may change to, most bits first.
fn encodings(groups: &[Group]) -> Vec<EncodingRef> {
    let mut all: Vec<EncodingRef> = Vec::new();
    for candidate in groups.iter().flat_map(|group| &group.candidates[1..]) {
        if !all.contains(&candidate.encoding) {
            all.push(candidate.encoding);
        }
    }
    all.sort_by(|a, b| b.bits().total_cmp(&a.bits()));
    all
}

/// Whether another is no larger and no worse, and better in one of the two.
fn is_beaten(one: &Uniform, all: &[Uniform]) -> bool {
    all.iter().any(|other| {
        let is_no_worse = other.bytes <= one.bytes && other.kl <= one.kl;
        is_no_worse && (other.bytes < one.bytes || other.kl < one.kl)
    })
}
