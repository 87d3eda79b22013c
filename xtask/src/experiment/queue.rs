//! Runs of an experiment, several at a time, none before those it is made from.

use super::design::{Arm, Experiment};
use super::trial::Run;
use anyhow::{Context, Result, bail};
use std::sync::{Condvar, Mutex};

/// What the workers share.
struct State {
    /// The next run to start.
    next: usize,
    /// Per run, what it gave.
    done: Vec<Option<Run>>,
    error: Option<anyhow::Error>,
}

/// Runs every arm with every seed, `jobs` at a time, in the file's order.
///
/// # Errors
/// The first error of a run; no other is started after it.
pub fn run_all(
    experiment: &Experiment,
    jobs: usize,
    run: &(dyn Fn(&Arm, u64) -> Result<Run> + Sync),
) -> Result<Vec<Run>> {
    let with_seeds = |arm| experiment.seeds_of(arm).iter().map(move |&seed| (arm, seed));
    let all: Vec<(&Arm, u64)> = experiment.arm.iter().flat_map(with_seeds).collect();
    let done = all.iter().map(|_| None).collect();
    let state = Mutex::new(State { next: 0, done, error: None });
    let changed = Condvar::new();
    let is_ready = |state: &State, (arm, seed): (&Arm, u64)| {
        arm.needs().iter().all(|name| {
            let partner = experiment.partner_seed(name, seed);
            let mut done = state.done.iter().flatten();
            done.any(|run| run.arm == *name && run.seed == partner)
        })
    };
    let work = || loop {
        let mut now = state.lock().expect("no worker panics");
        let at = now.next;
        if at == all.len() || now.error.is_some() {
            return;
        }
        now.next += 1;
        // Those it waits for come before it in the file, so somebody runs them already.
        while !is_ready(&now, all[at]) {
            now = changed.wait(now).expect("no worker panics");
            if now.error.is_some() {
                return;
            }
        }
        drop(now);
        let (arm, seed) = all[at];
        let outcome = run(arm, seed).with_context(|| format!("arm {} seed {seed}", arm.name));
        let mut now = state.lock().expect("no worker panics");
        match outcome {
            Ok(run) => now.done[at] = Some(run),
            Err(error) => drop(now.error.get_or_insert(error)),
        }
        changed.notify_all();
    };
    std::thread::scope(|scope| (0..jobs).for_each(|_| drop(scope.spawn(work))));
    let state = state.into_inner().expect("no worker panics");
    match state.error {
        Some(error) => bail!(error),
        None => Ok(state.done.into_iter().flatten().collect()),
    }
}
