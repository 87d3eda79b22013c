//! Deadlines: who cannot be answered in time is told so at once, and who is too late is computed no
//! further, so that the machine's time goes to answers that are still of use.

use crate::core::Said;
use crate::forecast::{Forecast, Load};
use crate::request::Output;
use crate::schedule::Schedule;
use crate::sequence::{Listener, Sequence};
use crate::{EngineError, fairness};
use std::time::Duration;

/// Estimates what a new sequence need not compute: what the tree or the disk has of it, and what
/// somebody as urgent has too who came before, and so computes first.
pub fn estimate(schedule: &mut Schedule, sequence: &mut Sequence) {
    let Schedule { running, queue, tree, disk, .. } = schedule;
    sequence.look_up(tree, disk.as_mut());
    let before = running.iter().chain(&*queue).filter(|s| s.class() <= sequence.class());
    sequence.n_followed = before.map(|other| sequence.common(other)).max().unwrap_or(0);
}

/// Checks that a new sequence can be answered by its deadline, as far as can be told: behind
/// everybody who is as urgent and came before.
///
/// # Errors
/// When it cannot.
pub fn check(
    now: Duration,
    schedule: &Schedule,
    forecast: &Forecast,
    sequence: &Sequence,
) -> Result<(), EngineError> {
    let Some(deadline) = sequence.request.deadline else { return Ok(()) };
    let deadline = deadline.saturating_sub(sequence.request.waited);
    let rank = fairness::rank(sequence.class(), Duration::ZERO);
    let is_ahead =
        |s: &&Sequence| fairness::rank(s.class(), now.saturating_sub(s.arrived())) <= rank;
    let all = schedule.running.iter().chain(&schedule.queue).filter(is_ahead);
    let shared = |s: &Sequence| load(s, s.n_found.max(s.n_followed));
    let ahead = all.map(shared).fold(Load::default(), |a, b| Load {
        n: a.n + b.n,
        prompt_rows: a.prompt_rows + b.prompt_rows,
        tokens: a.tokens + b.tokens,
    });
    match forecast.answered_in(ahead, shared(sequence), schedule.pacing.places()) {
        Some(time) if time > deadline => Err(too_late(time, deadline)),
        _ => Ok(()),
    }
}

/// Takes away the listeners that are too late, and those in the queue that will be even if all
/// others went away. Sequences that nobody listens to any more are left to be ended: their keys.
pub fn expire(
    now: Duration,
    schedule: &mut Schedule,
    forecast: &Forecast,
) -> (Vec<(Listener, Said)>, Vec<u64>) {
    let (mut gone, mut over) = (Vec::new(), Vec::new());
    let Schedule { running, queue, pacing, tree, disk, .. } = schedule;
    let running = running.iter_mut().map(|sequence| (sequence, false));
    for (sequence, waits) in running.chain(queue.iter_mut().map(|sequence| (sequence, true))) {
        if sequence.listeners.iter().all(|listener| listener.deadline.is_none()) {
            continue;
        }
        let time = |sequence: &Sequence| {
            let own = load(sequence, sequence.n_found);
            let least = forecast.answered_in(Load::default(), own, pacing.places());
            least.filter(|_| waits).unwrap_or_default()
        };
        let mut least = time(sequence);
        if waits && sequence.listeners.iter().any(|listener| is_late(listener, now + least)) {
            // Others may have computed its beginning since.
            sequence.look_up(tree, disk.as_mut());
            least = time(sequence);
        }
        let late = |listener: &mut Listener| is_late(listener, now + least);
        for listener in sequence.listeners.extract_if(.., late) {
            let left = listener.deadline.unwrap_or_default().saturating_sub(now);
            let why = match left {
                Duration::ZERO => EngineError::DeadlineMissed,
                left => too_late(least, left),
            };
            let failed = (listener.id, Output::Failed(why));
            gone.push((listener, failed));
        }
        if sequence.listeners.is_empty() {
            over.push(sequence.key);
        }
    }
    (gone, over)
}

fn is_late(listener: &Listener, answered: Duration) -> bool {
    listener.deadline.is_some_and(|deadline| answered >= deadline)
}

/// What is left to do for a sequence, of which somebody has the first `n_spared` tokens.
fn load(sequence: &Sequence, n_spared: usize) -> Load {
    let n_done = sequence.n_computed.max(n_spared);
    let prompt_rows = if sequence.is_decoding() { 0 } else { sequence.tokens.len() - n_done };
    let tokens = sequence.request.likely_tokens().saturating_sub(sequence.n_new()).max(1);
    Load { n: 1, prompt_rows, tokens }
}

fn too_late(time: Duration, left: Duration) -> EngineError {
    let excess = time.saturating_sub(left).as_secs_f64().ceil().clamp(1.0, 3600.0);
    EngineError::TooLate {
        answered_in_ms: time.as_millis() as u64,
        deadline_ms: left.as_millis() as u64,
        retry_after: excess as u32,
    }
}
