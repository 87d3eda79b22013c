//! The thread that reads and writes, so that the engine never waits for a disk.
//!
//! In: jobs; reads go before writes, since somebody waits for them. Out: events. Writes queue up to
//! a number of bytes; beyond it the caller drops them.

use super::hash::SegmentId;
use super::store::Store;
use super::{Event, Load, Save};
use crate::stats::DiskStats;
use crate::worker::Clock;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes of pages that may wait to be written.
const MOST_QUEUED: u64 = 256 << 20;

/// What was read and written so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes of pages read.
    pub read: AtomicU64,
    /// Bytes of files written.
    pub written: AtomicU64,
    /// Bytes of files that made room.
    pub evicted: AtomicU64,
    /// Segments that were not written since too many waited.
    pub dropped: AtomicU64,
    /// Segments that were not written since the system refused.
    pub failed: AtomicU64,
    /// Files that were damaged or could not be read.
    pub refused: AtomicU64,
}

impl Counters {
    /// As numbers.
    pub fn stats(&self) -> DiskStats {
        DiskStats {
            read_bytes: self.read.load(Relaxed),
            written_bytes: self.written.load(Relaxed),
            evicted_bytes: self.evicted.load(Relaxed),
            dropped_writes: self.dropped.load(Relaxed),
            failed_writes: self.failed.load(Relaxed),
            refused_files: self.refused.load(Relaxed),
        }
    }
}

/// What the thread is to do.
pub enum Job {
    /// Read pages.
    Load(Load),
    /// Write a segment with these pages.
    Save(Save, Vec<Vec<u8>>),
    /// Note that these were used.
    Touch(Vec<SegmentId>),
    /// Remove all that were written before.
    Clear,
}

#[derive(Default)]
struct Queue {
    loads: VecDeque<Load>,
    others: VecDeque<Job>,
    /// Bytes of pages to write, those being written now among them.
    queued: u64,
    is_closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job; `None` when all are done and no more will come.
    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            let load = queue.loads.pop_front().map(Job::Load);
            if let Some(job) = load.or_else(|| queue.others.pop_front()) {
                return Some(job);
            }
            if queue.is_closed {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The thread, as the engine's thread sees it. When it is dropped, what is queued is written first.
pub struct Disk {
    shared: Arc<Shared>,
    events: Receiver<Event>,
    thread: Option<JoinHandle<()>>,
    /// What was read and written so far.
    pub counters: Arc<Counters>,
}

impl Disk {
    /// Starts the thread on a folder.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn start(store: Store, clock: Clock, counters: Arc<Counters>) -> std::io::Result<Self> {
        let (sender, events) = channel();
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        let work = move |mut store: Store| {
            while let Some(job) = own.next() {
                run(&mut store, job, &clock, &sender, &own);
            }
        };
        let thread = std::thread::Builder::new().name("sterna-disk".into());
        let thread = Some(thread.spawn(move || work(store))?);
        Ok(Self { shared, events, thread, counters })
    }

    /// Whether pages of so many bytes may be queued for writing. What is too large for the queue
    /// may when nothing else waits.
    pub fn has_room(&self, bytes: u64) -> bool {
        let queued = self.shared.lock().queued;
        queued == 0 || queued + bytes <= MOST_QUEUED
    }

    /// Queues a job.
    pub fn push(&self, job: Job) {
        let mut queue = self.shared.lock();
        match job {
            Job::Load(load) => queue.loads.push_back(load),
            Job::Save(..) | Job::Touch(_) | Job::Clear => {
                queue.queued += bytes(&job);
                queue.others.push_back(job);
            }
        }
        drop(queue);
        self.shared.changed.notify_one();
    }

    /// What happened, if anything.
    pub fn heard(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// What happens next, if it is soon.
    pub fn wait(&self, most: Duration) -> Option<Event> {
        match self.events.recv_timeout(most) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                // The thread is gone, and whoever waits for it goes on after a while.
                std::thread::sleep(most);
                None
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of it cost cached pages only.
            let _ = thread.join();
        }
    }
}

/// Bytes of pages that a job carries.
fn bytes(job: &Job) -> u64 {
    match job {
        Job::Save(_, pages) => pages.iter().map(|page| page.len() as u64).sum(),
        Job::Load(_) | Job::Touch(_) | Job::Clear => 0,
    }
}

fn run(store: &mut Store, job: Job, clock: &Clock, events: &Sender<Event>, shared: &Shared) {
    // Nobody hears the events of an engine that ends; its writes are done even so.
    let tell = |event: Event| drop(events.send(event));
    let written = bytes(&job);
    match job {
        Job::Load(load) => {
            let start = clock();
            let (pages, is_gone) = store.load(&load);
            let took = clock().saturating_sub(start);
            if is_gone {
                tell(Event::Gone(load.segment));
            }
            let Load { number, first, n_pages: n_wanted, .. } = load;
            tell(Event::Loaded { number, first, n_wanted, pages, took });
        }
        Job::Save(save, pages) => match store.save(&save, &pages) {
            Ok(gone) => {
                gone.into_iter().for_each(|id| tell(Event::Gone(id)));
                tell(Event::Saved(save.id));
            }
            Err(error) => {
                store.note_failure(&error);
                tell(Event::Gone(save.id));
            }
        },
        Job::Touch(segments) => store.touch(&segments),
        Job::Clear => store.clear(),
    }
    shared.lock().queued -= written;
}
