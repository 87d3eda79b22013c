//! Whether any plan is within the caps on bytes and time, before any plan is measured.
//!
//! In: caps, the model's metadata, the draft that encodings are chosen for. Out: nothing, or a
//! sentence that names the cap that binds and the least that can be asked for instead.

use super::desk::TIME_AIM;
use super::{EVIDENCE_BYTES, Prepared, Settings, build};
use crate::budget::Budget;
use crate::draft::Draft;
use crate::error::{OptimizeError, Result};
use crate::footprint::{RunAs, Taken};
use crate::search::{Costs, Group, Load, Packed, groups};
use sterna_formats::{EncodingRef, Metadata};
use sterna_measure::figure::short;
use sterna_model::WeightSource;

/// Refuses a cap on the file that no plan keeps.
///
/// # Errors
/// Then.
pub fn size(budget: &Budget, metadata: &Metadata, base: &Draft<'_>) -> Result<()> {
    let fixed = build::fixed_bytes(metadata, base) + EVIDENCE_BYTES as u64;
    let what = Capped { flag: "--max-size", cap: budget.max_size, thing: "the file", fixed };
    what.check(&budget.allow, base)
}

/// Refuses a cap on bits per weight that no plan keeps.
///
/// # Errors
/// Then.
pub fn bits(budget: &Budget, n_parameters: u64, base: &Draft<'_>) -> Result<()> {
    let Some((bits, cap)) = budget.target_bpw.zip(budget.tensor_bytes(n_parameters)) else {
        return Ok(());
    };
    let least = least(&budget.allow, base) + vector_bytes(base);
    if least <= cap {
        return Ok(());
    }
    // Rounded up, so that what is said can be asked for.
    let least = (least as f64 * 8.0 / n_parameters as f64 * 1000.0).ceil() / 1000.0;
    Err(OptimizeError::Input(format!(
        "--target-bpw {bits} cannot be kept: in the fewest bits allowed all tensors together take \
         {least} per weight; ask for --target-bpw {least}, or allow encodings of fewer bits with \
         --allow"
    )))
}

/// Bytes of what is no matrix.
pub fn vector_bytes(base: &Draft<'_>) -> u64 {
    base.weight_bytes() as u64 - matrix_bytes(base)
}

/// Bytes of all matrices as they are.
fn matrix_bytes(base: &Draft<'_>) -> u64 {
    let matrices = base.matrices().map(|(id, decl)| crate::fit::bytes_of(decl, base.encoding(id)));
    matrices.sum::<usize>() as u64
}

/// Bytes of all matrices in the fewest bits allowed.
fn least(allow: &[EncodingRef], base: &Draft<'_>) -> u64 {
    let groups = groups::of(base, allow, 1);
    let lowest = groups.iter().map(|group| group.candidates.len() - 1).collect::<Vec<_>>();
    groups::takes(&groups, &lowest).bytes
}

/// Bytes of memory besides what grouped matrices take by `packed`, as the baseline was measured, or
/// as it is planned where nobody could measure.
pub fn memory_besides(memory: &Taken, planned: u64, base: &Draft<'_>) -> u64 {
    let predicted = memory.predict(planned).unwrap_or(planned);
    predicted.saturating_sub(matrix_bytes(base))
}

/// Refuses a cap on memory that no plan keeps, where all but grouped matrices take `besides`.
///
/// # Errors
/// Then.
pub fn memory(budget: &Budget, packed: &Packed, besides: u64, base: &Draft<'_>) -> Result<()> {
    let mut groups = groups::of(base, &budget.allow, 1);
    groups::reside(&mut groups, base.graph(), packed);
    let of_group = |group: &Group| {
        let all = group.candidates.iter().map(|candidate| candidate.takes.resident);
        all.min().unwrap_or(0)
    };
    let matrices = groups.iter().map(of_group).sum::<u64>();
    let least = matrices + besides;
    let Some(cap) = budget.max_memory.filter(|&cap| cap < least) else { return Ok(()) };
    // What a process takes besides its plan is measured, and a little other each time.
    let least = least + least / 50;
    Err(OptimizeError::Input(format!(
        "--max-memory {cap} cannot be kept: in the fewest bytes that the kernels here work with, \
         the loaded model takes {least}, {matrices} of them for matrices; ask for --max-memory \
         {least}, or allow encodings of fewer bits with --allow"
    )))
}

/// Bytes by which a plan is predicted to take more memory than may be.
///
/// # Errors
/// When it cannot be planned.
pub fn over_memory(
    settings: &Settings,
    prepared: &Prepared,
    (draft, how): (&Draft<'_>, &RunAs),
) -> Result<u64> {
    let measured = settings.footprint.as_deref().zip(prepared.memory.as_ref());
    let Some((max, (footprint, baseline))) = settings.budget.max_memory.zip(measured) else {
        return Ok(0);
    };
    let predicted = baseline.predict(footprint.planned(draft.graph(), draft, how)?);
    Ok(predicted.unwrap_or(0).saturating_sub(max))
}

/// Refuses a cap on time that no plan keeps by measured costs.
///
/// # Errors
/// Then.
pub fn time(budget: &Budget, costs: &Costs, base: &Draft<'_>) -> Result<()> {
    let mut groups = groups::of(base, &budget.allow, 1);
    groups::time(&mut groups, base.graph(), costs);
    let least = |of: fn(&Load) -> f64, rest: f64| {
        let fastest = |group: &Group| {
            group.candidates.iter().map(|one| of(&one.takes)).fold(f64::INFINITY, f64::min)
        };
        // A little more than the least, which is what the search aims below.
        (groups.iter().map(fastest).sum::<f64>() + rest) / TIME_AIM
    };
    let takes = |ms: f64, rest: f64| {
        format!(
            "with every matrix in the encoding that is fastest here it takes {} ms, {} of them for \
             what is no matrix",
            short(ms),
            short(rest / 1e6)
        )
    };
    let (rest, ratio) = (costs.token.rest, costs.p95_ratio);
    let ms = least(|takes| takes.nanos, rest) / 1e6;
    if let Some(cap) = budget.token_nanos(ratio).filter(|cap| ms * 1e6 > *cap) {
        return Err(OptimizeError::Input(format!(
            "a median token in {} ms cannot be had: {}; ask for --itl {}ms (--tokens-per-s {}) or \
             --latency-p95 {}ms, or allow faster encodings with --allow",
            short(cap / 1e6),
            takes(ms, rest),
            short(ms * 1.01),
            short(0.99e3 / ms),
            short(ms * 1.01 * ratio),
        )));
    }
    let Some((cap, (n, table))) = budget.max_ttft_ms.zip(costs.prompt.as_ref()) else {
        return Ok(());
    };
    let ms = least(|takes| takes.prompt_nanos, table.rest) / 1e6;
    if ms <= cap {
        return Ok(());
    }
    Err(OptimizeError::Input(format!(
        "the first token after a prompt of {n} in {} ms cannot be had: {}; ask for --ttft {}ms, or \
         allow faster encodings with --allow",
        short(cap),
        takes(ms, table.rest),
        short(ms * 1.01),
    )))
}

/// A cap.
struct Capped {
    flag: &'static str,
    cap: Option<u64>,
    thing: &'static str,
    /// Bytes that no encoding changes.
    fixed: u64,
}

impl Capped {
    fn check(&self, allow: &[EncodingRef], base: &Draft<'_>) -> Result<()> {
        let Self { flag, cap, thing, fixed } = *self;
        let matrices = least(allow, base);
        let least = matrices + fixed;
        let Some(cap) = cap.filter(|&cap| cap < least) else { return Ok(()) };
        Err(OptimizeError::Input(format!(
            "{flag} {cap} cannot be kept: in the fewest bits allowed {thing} takes {least} bytes, \
             {matrices} of them for matrices; ask for {flag} {least}, or allow encodings of fewer \
             bits with --allow"
        )))
    }
}
