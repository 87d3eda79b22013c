//! The engine as other threads see it: requests in, pieces of answers out, numbers to show.

use crate::EngineError;
use crate::core::Flushed;
use crate::disk::thread::Counters;
use crate::limits::Limits;
use crate::request::{Output, Request, RequestId};
use crate::sessions::SessionError;
use crate::stats::Stats;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

/// Takes the pieces of an answer, on the engine's thread: it must not block. `false` says that
/// nobody listens any more, which cancels the request.
pub type Sink = Box<dyn FnMut(Output) -> bool + Send>;

/// What a handle tells the engine's thread.
pub(crate) enum Command {
    Submit(RequestId, Box<Request>, Sink),
    Cancel(RequestId),
    Fork(String, String, Reply<Result<usize, SessionError>>),
    EndSession(String, Reply<bool>),
    Flush(Reply<Flushed>),
    Drain,
}

/// Takes what a command came to, on the engine's thread: it must not block.
pub type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// What the handles and the thread share.
pub(crate) struct Shared {
    pub limits: Limits,
    /// Whether the runner keeps what embeddings are made of.
    embeds: bool,
    /// Requests that were submitted and have not ended.
    pub open: AtomicUsize,
    /// Why nothing is taken any more. Held while a request is sent, so that each that is accepted
    /// comes before the end.
    pub closed: Mutex<Option<EngineError>>,
    pub stats: Mutex<Stats>,
    /// Counted by the disk's thread, also while the engine's own waits.
    disk: Option<Arc<Counters>>,
    next_id: AtomicU64,
}

impl Shared {
    pub fn new(limits: Limits, embeds: bool, disk: Option<Arc<Counters>>) -> Self {
        Self {
            limits,
            embeds,
            disk,
            open: AtomicUsize::new(0),
            closed: Mutex::default(),
            stats: Mutex::new(Stats {
                pages: limits.n_pages,
                max_running: limits.max_running,
                paced_running: limits.max_running.min(limits.max_rows),
                paced_rows: limits.max_rows,
                ..Stats::default()
            }),
            next_id: AtomicU64::new(0),
        }
    }
}

/// An engine with a thread of its own. Clones are the same engine; when the last is dropped, the
/// thread ends with what is in flight.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    commands: Sender<Command>,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>, commands: Sender<Command>) -> Self {
        Self { shared, commands }
    }

    /// What the engine shares out.
    pub fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// Queues a request. What is wrong with it is said at once; what happens later comes through
    /// the sink.
    ///
    /// # Errors
    /// When it is not a request that can be served, the queue is full, or the engine is ending or
    /// has failed.
    pub fn submit(&self, request: Request, sink: Sink) -> Result<RequestId, EngineError> {
        let shared = &self.shared;
        shared.limits.check(&request)?;
        if request.embed.is_some() && !shared.embeds {
            let why = "this model has no linear head, before which its embeddings would be";
            return Err(EngineError::Invalid(why.into()));
        }
        let closed = shared.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &*closed {
            return Err(why.clone());
        }
        let most = shared.limits.most_open();
        let one_more = |open: usize| (open < most).then_some(open + 1);
        let (order, load) = (Ordering::AcqRel, Ordering::Acquire);
        if shared.open.fetch_update(order, load, one_more).is_err() {
            return Err(EngineError::QueueFull { waiting: shared.limits.max_queue });
        }
        let id = RequestId(shared.next_id.fetch_add(1, Ordering::Relaxed));
        if self.commands.send(Command::Submit(id, Box::new(request), sink)).is_err() {
            shared.open.fetch_sub(1, Ordering::AcqRel);
            return Err(EngineError::Draining);
        }
        Ok(id)
    }

    /// Ends a request whose client went away; nothing happens when it is over.
    pub fn cancel(&self, id: RequestId) {
        self.tell(Command::Cancel(id));
    }

    /// Gives the pages of a session another name; the reply has the number of tokens they hold. It
    /// is dropped by an engine that has ended, as those of the other commands are.
    pub fn fork(&self, session: &str, child: &str, reply: Reply<Result<usize, SessionError>>) {
        self.tell(Command::Fork(session.to_owned(), child.to_owned(), reply));
    }

    /// Lets a session's pages go; the reply says whether there was one.
    pub fn end_session(&self, session: &str, reply: Reply<bool>) {
        self.tell(Command::EndSession(session.to_owned(), reply));
    }

    /// Empties the response cache and the prefix tree, and the disk below it; the reply has what
    /// was in them.
    pub fn flush(&self, reply: Reply<Flushed>) {
        self.tell(Command::Flush(reply));
    }

    fn tell(&self, command: Command) {
        // An engine that has ended has nothing to do it with.
        let _ = self.commands.send(command);
    }

    /// Takes no new requests from now on; those in flight are finished.
    pub fn drain(&self) {
        let mut closed = self.shared.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.get_or_insert(EngineError::Draining);
        self.tell(Command::Drain);
    }

    /// Requests that have not ended.
    pub fn n_open(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }

    /// Counters and gauges, as they were after the last batch.
    pub fn stats(&self) -> Stats {
        let stats = self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let disk = self.shared.disk.as_ref().map_or(stats.disk, |counters| counters.stats());
        Stats { disk, ..stats }
    }
}
