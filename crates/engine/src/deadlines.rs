//! Deadlines: who cannot be answered in time is told so at once, and who is too late is computed no
//! further, so that the machine's time goes to answers that are still of use.

use crate::core::Said;
use crate::forecast::{Forecast, Load};
use crate::request::Output;
use crate::schedule::Schedule;
use crate::sequence::{Listener, Sequence};
use crate::{EngineError, fairness};
use std::time::Duration;

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
    n_cached: usize,
) -> Result<(), EngineError> {
    let Some(deadline) = sequence.request.deadline else { return Ok(()) };
    let deadline = deadline.saturating_sub(sequence.request.waited);
    let rank = fairness::rank(sequence.class(), Duration::ZERO);
    let is_ahead =
        |s: &&Sequence| fairness::rank(s.class(), now.saturating_sub(s.arrived())) <= rank;
    let all = schedule.running.iter().chain(&schedule.queue).filter(is_ahead);
    let ahead = all.map(load).fold(Load::default(), |a, b| Load {
        n: a.n + b.n,
        prompt_rows: a.prompt_rows + b.prompt_rows,
        tokens: a.tokens + b.tokens,
    });
    let prompt_rows = sequence.n_left() - n_cached;
    let own = Load { prompt_rows, ..load(sequence) };
    match forecast.answered_in(ahead, own, schedule.limits.max_running) {
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
    let Schedule { running, queue, limits, .. } = schedule;
    let running = running.iter_mut().map(|sequence| (sequence, false));
    for (sequence, waits) in running.chain(queue.iter_mut().map(|sequence| (sequence, true))) {
        if sequence.listeners.iter().all(|listener| listener.deadline.is_none()) {
            continue;
        }
        let own = load(sequence);
        let least = forecast.answered_in(Load::default(), own, limits.max_running);
        let least = least.filter(|_| waits).unwrap_or_default();
        let is_late = |listener: &mut Listener| {
            listener.deadline.is_some_and(|deadline| now + least >= deadline)
        };
        for listener in sequence.listeners.extract_if(.., is_late) {
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

/// What is left to do for a sequence.
fn load(sequence: &Sequence) -> Load {
    let prompt_rows = if sequence.is_decoding() { 0 } else { sequence.n_left() };
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
