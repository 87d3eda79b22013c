//! The thread team: persistent workers that execute a list of steps in lockstep.
//!
//! In: a [`Job`] (how many items each step has, what to do with some) and the [`Memory`] it works
//! on. The caller's thread is worker 0. All workers walk the steps together with a spinning barrier
//! between them, and take items from one counter, so a decode step of 200 steps wakes nobody and
//! locks nothing. Between jobs workers spin for about a millisecond, then sleep.
//!
//! This folder is the runtime's only unsafe code. [`memory`] makes it safe to use: what a step
//! reads and writes is declared and checked beforehand, and parts of a buffer are handed out only
//! against a claim of items, which only the team can make.

pub mod cpus;
pub mod memory;
#[cfg(test)]
mod tests;

pub use memory::{Access, Io, Memory, Region, Span, Split};

use crate::RuntimeError;
use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};

/// Spins before a waiting worker yields (in a job) or sleeps (between jobs): a `pause` takes 15 to
/// 45 ns on current x86, so this is 0.3 to 1 ms.
const SPINS: usize = 20_000;

/// Spins where there are more workers than CPUs, so that the one waited for gets to run.
const CROWDED_SPINS: usize = 200;

/// The items of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Items {
    /// How many.
    pub count: usize,
    /// How many a worker takes at a time.
    pub chunk: usize,
}

impl Items {
    /// Panels that every worker takes in about `claims` parts: an even number each, since kernels
    /// compute two at a time, and of the one that keeps the workers busy alike.
    pub fn panels(count: usize, n_workers: usize, claims: usize) -> Self {
        let even_share = count.div_ceil((n_workers * claims).max(1)).max(1);
        // The longest that a worker is busy, if all are equally fast.
        let busy = |chunk: &usize| count.div_ceil(*chunk).div_ceil(n_workers) * chunk;
        let chunks = [even_share & !1, even_share.next_multiple_of(2)];
        let chunk =
            chunks.into_iter().filter(|&chunk| chunk > 0 && even_share > 1).min_by_key(busy);
        Self { count, chunk: chunk.unwrap_or(1) }
    }
}

/// What a team executes.
pub trait Job: Sync {
    /// The items of a step. Every worker asks and gets the same answer.
    fn items(&self, step: usize) -> Items;
    /// Does the claimed items of a step.
    fn work(&self, io: Io<'_>);
    /// Called on worker 0 when a step is done, while others may be in the next.
    fn finished(&self, step: usize) {
        let _ = step;
    }
}

/// Keeps a much-written word on cache lines of its own.
#[repr(align(128))]
#[derive(Default)]
struct Alone<T>(T);

/// What the caller hands to the workers.
#[derive(Clone, Copy)]
struct Task {
    job: *const dyn Job,
    memory: *const Memory<'static>,
    n_steps: usize,
}

/// State shared by the workers of a team.
struct Shared {
    n_workers: usize,
    spins: usize,
    /// Counts jobs; a change starts one.
    epoch: Alone<AtomicU64>,
    /// The next item of the current step.
    next: Alone<AtomicUsize>,
    /// Workers that reached the barrier.
    arrived: Alone<AtomicUsize>,
    /// Counts barriers passed.
    phase: Alone<AtomicUsize>,
    /// Whether each worker sleeps or is about to.
    asleep: Vec<Alone<AtomicBool>>,
    stop: AtomicBool,
    panicked: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    task: UnsafeCell<Option<Task>>,
}

// SAFETY: `task` is written only by the caller while no job runs (workers wait for `epoch`, which
// is stored with Release afterwards), and read by workers only after they saw the new epoch
// (Acquire). Its pointers stay valid while a job runs, see `Team::run`. The rest is atomics and a
// mutex.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointers are used only between the start and the end of `Team::run`.
unsafe impl Send for Shared {}

/// Persistent workers. Dropping it ends them.
pub struct Team {
    shared: Arc<Shared>,
    /// The CPU of the caller's thread while a job runs, where each worker has one of its own.
    cpu: Option<usize>,
    threads: Vec<JoinHandle<()>>,
    handles: Vec<Thread>,
}

impl Team {
    /// A team of `n_workers`, the caller's thread among them. When they are as many as `cpus`,
    /// worker `i` is pinned to `cpus[i]` (the caller's thread while a job runs: the scheduler takes
    /// tens of milliseconds to part two threads that it put on one CPU); fewer are left to the
    /// scheduler within the process's mask, because two programs that pin to the same first CPUs
    /// would starve each other.
    ///
    /// # Errors
    /// When the system starts no more threads.
    pub fn new(n_workers: usize, cpus: &[usize]) -> Result<Self, RuntimeError> {
        Self::named("sterna", n_workers, cpus)
    }

    /// A team whose threads begin with a name of their own.
    ///
    /// # Errors
    /// When the system starts no more threads.
    pub fn named(name: &str, n_workers: usize, cpus: &[usize]) -> Result<Self, RuntimeError> {
        assert!(n_workers > 0);
        let shared = Arc::new(Shared {
            n_workers,
            spins: if n_workers > cpus.len() { CROWDED_SPINS } else { SPINS },
            epoch: Alone::default(),
            next: Alone::default(),
            arrived: Alone::default(),
            phase: Alone::default(),
            asleep: (0..n_workers).map(|_| Alone::default()).collect(),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            panic: Mutex::new(None),
            task: UnsafeCell::new(None),
        });
        let own_cpu = |worker: usize| (n_workers == cpus.len()).then(|| cpus[worker]);
        let cpu = own_cpu(0).filter(|_| n_workers > 1);
        let mut team = Self { shared, cpu, threads: Vec::new(), handles: Vec::new() };
        for worker in 1..n_workers {
            let shared = team.shared.clone();
            let cpu = own_cpu(worker);
            let thread = std::thread::Builder::new()
                .name(format!("{name}-{worker}"))
                .spawn(move || serve(&shared, worker, cpu))
                .map_err(|e| RuntimeError::Threads { wanted: n_workers, reason: e.to_string() })?;
            team.handles.push(thread.thread().clone());
            team.threads.push(thread);
        }
        Ok(team)
    }

    /// Workers, the caller's thread included.
    pub fn n_workers(&self) -> usize {
        self.shared.n_workers
    }

    /// Executes `n_steps` steps of a job: all items of a step are done before the next begins.
    /// `memory` has an access declaration for each step.
    ///
    /// # Panics
    /// When a worker panicked in the job; all workers have left the job by then.
    pub fn run(&mut self, n_steps: usize, job: &dyn Job, memory: &mut Memory<'_>) {
        assert!(n_steps <= memory.n_steps(), "each step declares its access");
        if n_steps == 0 {
            return;
        }
        let _pinned = self.cpu.and_then(cpus::Pinned::to);
        let shared = &*self.shared;
        let memory: *const Memory<'_> = memory;
        // SAFETY: only lifetimes are erased. The pointers are used by workers between the epoch's
        // change below and the barrier after the last step, and this call returns only after that
        // barrier, so both borrows outlive every use.
        let task = unsafe {
            Task {
                job: std::mem::transmute::<*const (dyn Job + '_), *const (dyn Job + 'static)>(job),
                memory: memory.cast(),
                n_steps,
            }
        };
        // SAFETY: no job runs: the previous call waited for all workers, and `&mut self` makes this
        // the only call. Workers read `task` only after the epoch below.
        unsafe { *shared.task.get() = Some(task) };
        shared.epoch.0.fetch_add(1, Ordering::SeqCst);
        for (handle, asleep) in self.handles.iter().zip(&shared.asleep[1..]) {
            if asleep.0.load(Ordering::SeqCst) {
                handle.unpark();
            }
        }
        walk(shared, 0, task);
        if shared.panicked.swap(false, Ordering::Relaxed) {
            let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
            resume_unwind(panic.unwrap_or_else(|| Box::new("a worker panicked")));
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.epoch.0.fetch_add(1, Ordering::SeqCst);
        for handle in &self.handles {
            handle.unpark();
        }
        for thread in self.threads.drain(..) {
            // A worker catches every panic of a job, so it has none of its own to tell.
            let _ = thread.join();
        }
    }
}

/// A worker's life: wait for a job, walk it, again.
fn serve(shared: &Shared, worker: usize, cpu: Option<usize>) {
    if let Some(cpu) = cpu {
        cpus::pin(cpu);
    }
    let mut seen = 0;
    loop {
        seen = wait_for_job(shared, worker, seen);
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        // SAFETY: the epoch changed and no stop was asked, so the caller stored a task before and
        // leaves it alone until all workers passed the job's last barrier.
        if let Some(task) = unsafe { *shared.task.get() } {
            walk(shared, worker, task);
        }
    }
}

/// Spins, then sleeps, until the epoch differs from `seen`; returns it.
fn wait_for_job(shared: &Shared, worker: usize, seen: u64) -> u64 {
    for _ in 0..shared.spins {
        let epoch = shared.epoch.0.load(Ordering::Acquire);
        if epoch != seen {
            return epoch;
        }
        std::hint::spin_loop();
    }
    let asleep = &shared.asleep[worker].0;
    asleep.store(true, Ordering::SeqCst);
    // The caller changes the epoch before it looks at `asleep`, we the other way round: one of us
    // sees the other.
    let epoch = loop {
        let epoch = shared.epoch.0.load(Ordering::SeqCst);
        if epoch != seen {
            break epoch;
        }
        std::thread::park();
    };
    asleep.store(false, Ordering::SeqCst);
    epoch
}

/// One worker's walk through all steps of a job.
fn walk(shared: &Shared, worker: usize, task: Task) {
    // SAFETY: `Team::run` keeps both alive until the last barrier, which comes after every use
    // here.
    let (job, memory) = unsafe { (&*task.job, &*task.memory) };
    for step in 0..task.n_steps {
        if !shared.panicked.load(Ordering::Relaxed) {
            let part = AssertUnwindSafe(|| work(shared, worker, step, job, memory));
            catch(shared, part);
        }
        barrier(shared);
        if worker == 0 {
            catch(shared, AssertUnwindSafe(|| job.finished(step)));
        }
    }
}

/// Runs a part of a job. A panic is kept for the caller: unwinding through `Team::run` would end
/// the borrows that other workers still use.
fn catch(shared: &Shared, part: AssertUnwindSafe<impl FnOnce()>) {
    if let Err(panic) = catch_unwind(part) {
        shared.panicked.store(true, Ordering::Relaxed);
        let mut first = shared.panic.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(panic);
    }
}

/// Takes items of a step until none are left.
fn work(shared: &Shared, worker: usize, step: usize, job: &dyn Job, memory: &Memory<'_>) {
    let Items { count, chunk } = job.items(step);
    if shared.n_workers == 1 {
        if count > 0 {
            job.work(Io::new(memory, step, 0..count, worker, 1));
        }
    } else {
        while shared.next.0.load(Ordering::Relaxed) < count {
            let start = shared.next.0.fetch_add(chunk, Ordering::Relaxed);
            if start >= count {
                break;
            }
            let items = start..count.min(start + chunk);
            job.work(Io::new(memory, step, items, worker, shared.n_workers));
        }
    }
}

/// Waits until every worker is here. The last to arrive resets the item counter for the next step.
fn barrier(shared: &Shared) {
    if shared.n_workers == 1 {
        return;
    }
    // The phase cannot change before we arrive, so this reads the current one.
    let phase = shared.phase.0.load(Ordering::Relaxed);
    if shared.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == shared.n_workers {
        shared.arrived.0.store(0, Ordering::Relaxed);
        shared.next.0.store(0, Ordering::Relaxed);
        shared.phase.0.store(phase.wrapping_add(1), Ordering::Release);
        return;
    }
    let mut spins = 0;
    while shared.phase.0.load(Ordering::Acquire) == phase {
        if spins < shared.spins {
            std::hint::spin_loop();
            spins += 1;
        } else {
            std::thread::yield_now();
        }
    }
}
