//! The engine's thread: takes commands, computes batches on a runner, hands out what was said.

use crate::EngineError;
use crate::batch::Batch;
use crate::constraint::Held;
use crate::core::{Core, Said};
use crate::disk::thread::{Disk, Job};
use crate::disk::{Event, Kept, Order};
use crate::drafter::Drafter;
use crate::handle::{Command, Handle, Shared, Sink};
use crate::limits::Limits;
use crate::request::{Output, RequestId};
use crate::speculation::Speculate;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use sterna_model::Tokenizer;
use sterna_runtime::Runner;

/// Tells the time since some beginning.
pub type Clock = Box<dyn Fn() -> Duration + Send>;

/// Starts an engine on a runner of which no sequence was made; the thread ends when it is drained
/// or all handles are gone.
///
/// # Errors
/// When the system starts no thread.
pub fn start(
    runner: Runner,
    tokenizer: Arc<Tokenizer>,
    limits: Limits,
    clock: Clock,
) -> std::io::Result<(Handle, JoinHandle<()>)> {
    start_with(runner, tokenizer, limits, clock, Extras::default())
}

/// What an engine may have besides.
#[derive(Default)]
pub struct Extras {
    /// A disk below the prefix tree, which [`crate::disk::open`] opened for the engine's runner.
    pub kept: Option<Kept>,
    /// How to speculate.
    pub speculate: Speculate,
    /// A draft model of the same vocabulary.
    pub drafter: Option<Drafter>,
}

/// The same with what there is besides.
///
/// # Errors
/// As [`start`].
pub fn start_with(
    runner: Runner,
    tokenizer: Arc<Tokenizer>,
    limits: Limits,
    clock: Clock,
    extras: Extras,
) -> std::io::Result<(Handle, JoinHandle<()>)> {
    let (sender, commands) = channel();
    let Extras { kept, speculate, drafter } = extras;
    let embeds = runner.program().hidden_len().is_some();
    let counters = kept.as_ref().map(Kept::counters);
    let shared = Arc::new(Shared::new(limits, embeds, counters));
    let (tier, disk) = kept.map(|kept| (kept.tier, kept.disk)).unzip();
    let core = Core::with_disk(limits, tokenizer, tier).with_speculation(speculate);
    let sinks = BTreeMap::new();
    let worker = Worker { runner, drafter, core, sinks, shared: shared.clone(), clock, disk };
    let thread = std::thread::Builder::new().name("sterna-engine".into());
    let thread = thread.spawn(move || worker.run(&commands))?;
    Ok((Handle::new(shared, sender), thread))
}

struct Worker {
    runner: Runner,
    drafter: Option<Drafter>,
    core: Core,
    sinks: BTreeMap<RequestId, Sink>,
    shared: Arc<Shared>,
    clock: Clock,
    disk: Option<Disk>,
}

/// How long commands may wait while the thread listens to the disk alone.
const LISTEN: Duration = Duration::from_millis(1);

impl Worker {
    fn run(mut self, commands: &Receiver<Command>) {
        let mut is_open = true;
        while is_open || !self.core.is_idle() {
            if self.core.is_idle() {
                match commands.recv() {
                    Ok(command) => is_open &= self.obey(command),
                    Err(_) => is_open = false,
                }
            }
            while let Ok(command) = commands.try_recv() {
                is_open &= self.obey(command);
            }
            while let Some(event) = self.disk.as_ref().and_then(Disk::heard) {
                self.hear(event);
            }
            if !self.step() && self.core.wakes_at().is_some() {
                // All who are there wait for the disk.
                let event = self.disk.as_ref().and_then(|disk| disk.wait(LISTEN));
                event.into_iter().for_each(|event| self.hear(event));
            }
        }
    }

    /// Takes what the disk says; what it read goes where it belongs at once.
    fn hear(&mut self, event: Event) {
        for (page, bytes) in self.core.heard(event) {
            self.runner.page_mut(page).copy_from_slice(&bytes);
        }
        self.order();
    }

    /// Passes the core's orders on to the disk.
    fn order(&mut self) {
        let Self { runner, core, disk: Some(disk), .. } = self else { return };
        for order in core.orders() {
            match order {
                Order::Load(load) => disk.push(Job::Load(load)),
                Order::Touch(segments) => disk.push(Job::Touch(segments)),
                Order::Clear => disk.push(Job::Clear),
                Order::Save(save, pages) => {
                    let bytes: usize = pages.iter().map(|&page| runner.page(page).len()).sum();
                    if disk.has_room(bytes as u64) {
                        let pages = pages.iter().map(|&page| runner.page(page).to_vec()).collect();
                        disk.push(Job::Save(save, pages));
                    } else {
                        disk.counters.dropped.fetch_add(1, Ordering::Relaxed);
                        core.heard(Event::Gone(save.id));
                    }
                }
            }
        }
    }

    /// Does what a handle asked for; whether more may come.
    fn obey(&mut self, command: Command) -> bool {
        let now = (self.clock)();
        match command {
            Command::Submit(id, request, sink) => {
                self.sinks.insert(id, sink);
                let said = self.core.submit(now, id, *request);
                self.hand_out(said);
            }
            Command::Cancel(id) => {
                let said = self.core.cancel(now, id);
                self.hand_out(said.into_iter().collect());
            }
            Command::Fork(session, child, reply) => reply(self.core.fork(&session, &child)),
            Command::EndSession(session, reply) => reply(self.core.end_session(&session)),
            Command::Flush(reply) => {
                let flushed = self.core.flush();
                self.order();
                reply(flushed);
            }
            Command::Drain => return false,
        }
        true
    }

    /// Lets the draft model guess, where that pays.
    fn draft(&mut self) {
        let Self { core, drafter: Some(drafter), clock, .. } = self else { return };
        let wanted = core.wanted_drafts();
        if wanted.is_empty() {
            return;
        }
        let drafted = catch_unwind(AssertUnwindSafe(|| drafter.draft(&wanted, &*clock)));
        let why = match drafted {
            Ok(Ok(drafted)) => return core.propose(drafted),
            Ok(Err(error)) => error.to_string(),
            Err(_) => bug().to_string(),
        };
        // Answers are the same without it.
        core.forget_drafter(why);
        self.drafter = None;
    }

    /// Computes one batch; whether there was one.
    fn step(&mut self) -> bool {
        self.draft();
        let start = (self.clock)();
        let late = self.core.expire(start);
        if !late.is_empty() {
            self.hand_out(late);
        }
        let batch = self.core.plan(start);
        self.order();
        if batch.parts.is_empty() {
            self.hand_out(Vec::new());
            return false;
        }
        let mut held = self.core.take_held(&batch);
        let Self { runner, core, clock, .. } = self;
        let computed = catch_unwind(AssertUnwindSafe(|| forward(runner, core, &batch, &mut held)));
        core.give_back(held);
        let said = match computed {
            Ok(Ok(())) => {
                let now = clock();
                core.pool(&batch, runner.hidden());
                core.complete(now, now.saturating_sub(start), &batch, runner.logits())
            }
            Ok(Err(why)) => core.fail(&batch, &why),
            Err(_) => core.fail(&batch, &bug()),
        };
        self.hand_out(said);
        self.order();
        true
    }

    /// Gives everybody what was said; the numbers come first, so that who has an answer finds it
    /// counted.
    fn hand_out(&mut self, said: Vec<Said>) {
        *self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner) = self.core.stats();
        for (id, output) in said {
            let is_last = matches!(output, Output::Finished(_) | Output::Failed(_));
            // Cancelled a moment ago.
            let Some(sink) = self.sinks.get_mut(&id) else { continue };
            let is_heard = tell(sink, output);
            if !is_last && !is_heard {
                // What it says at the end would not be heard either.
                let _ = self.core.cancel((self.clock)(), id);
            }
            if is_last || !is_heard {
                self.sinks.remove(&id);
                self.shared.open.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }
}

/// When the thread ends early, by a panic, nobody waits for ever.
impl Drop for Worker {
    fn drop(&mut self) {
        let why = if std::thread::panicking() { bug() } else { EngineError::Draining };
        self.shared.closed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        for sink in self.sinks.values_mut() {
            tell(sink, Output::Failed(bug()));
        }
        self.shared.open.fetch_sub(self.sinks.len(), Ordering::AcqRel);
    }
}

/// Whether a sink heard it; one that panics does not.
fn tell(sink: &mut Sink, output: Output) -> bool {
    catch_unwind(AssertUnwindSafe(|| sink(output))).unwrap_or(false)
}

fn bug() -> EngineError {
    let why = "the engine panicked, which is a bug of sterna; please report it";
    EngineError::Internal(why.into())
}

/// Computes a batch, and on another thread what may come next where grammars say so.
fn forward(
    runner: &mut Runner,
    core: &Core,
    batch: &Batch,
    held: &mut [(u64, Held)],
) -> Result<(), EngineError> {
    for &(from, to) in &batch.copies {
        runner.copy_page(from, to);
    }
    let computed = std::thread::scope(|scope| {
        if !held.is_empty() {
            scope.spawn(|| held.iter_mut().for_each(|(_, held)| held.prepare()));
        }
        runner.forward_paged(&core.chunks(batch)).map(|_| ())
    });
    computed.map_err(|error| EngineError::Internal(error.to_string()))
}
