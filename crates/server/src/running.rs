//! Generations in flight, which end with whoever waits for them.

use crate::access::Notes;
use crate::backend::Backend;
use crate::errors::ApiError;
use crate::model::Model;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use sterna_engine::{EngineError, Finished, Output, Request, RequestId, Sink};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Pieces of an answer that wait for its client, at most. One that reads, but more slowly than they
/// come, would otherwise make the server keep all that its request can generate.
const MOST_WAITING: usize = 1 << 16;

/// The generations of one HTTP request. Dropping it cancels those that have not ended: a client
/// that goes away drops its response, streamed or not, and with it this.
pub struct Running {
    model: Arc<Model>,
    /// For the log.
    notes: Notes,
    /// Choices of each prompt, which are one after another.
    n: usize,
    /// Whether they are answers, which are counted and noted as such.
    is_counted: bool,
    /// The ends that have come.
    ended: Vec<Option<Finished>>,
    /// The generations, `None` when they have ended.
    open: Vec<Option<RequestId>>,
    outputs: mpsc::Receiver<(usize, Output)>,
    /// So many pieces waited that one was dropped, and its generation with it.
    is_behind: Arc<AtomicBool>,
    /// The first piece, where it was waited for already.
    first: Option<(usize, Output)>,
}

impl Running {
    /// Submits all of them, or none; `n` in turn are choices of one prompt.
    ///
    /// # Errors
    /// Of the first that the engine does not take.
    pub fn start(
        model: &Arc<Model>,
        requests: Vec<Request>,
        n: usize,
    ) -> Result<Self, EngineError> {
        let (sender, outputs) = mpsc::channel(MOST_WAITING);
        let notes = Notes::current();
        let waited = notes.note().waited;
        let is_behind = Arc::new(AtomicBool::new(false));
        let with_sinks = requests.into_iter().enumerate().map(|(index, request)| {
            let (sender, is_behind) = (sender.clone(), is_behind.clone());
            // Sending to somebody who is gone, or far behind, fails, which tells the engine so.
            let sink: Sink = Box::new(move |output| match sender.try_send((index, output)) {
                Ok(()) => true,
                Err(error) => {
                    is_behind.fetch_or(matches!(error, TrySendError::Full(_)), Ordering::Relaxed);
                    false
                }
            });
            (Request { waited, ..request }, sink)
        });
        let ids = model.served.engine.submit(with_sinks.collect())?;
        let open: Vec<Option<RequestId>> = ids.into_iter().map(Some).collect();
        let (model, ended) = (model.clone(), vec![None; open.len()]);
        Ok(Self { model, notes, n, is_counted: true, ended, open, outputs, is_behind, first: None })
    }

    /// The same of what is no answer of a model's: neither counted nor noted as one.
    pub fn uncounted(mut self) -> Self {
        self.is_counted = false;
        self
    }

    /// Waits for the first piece.
    ///
    /// # Errors
    /// When it says that there will be no others.
    pub async fn begun(&mut self) -> Result<(), EngineError> {
        match self.next().await {
            Some((_, Output::Failed(why))) => Err(why),
            first => {
                self.first = first;
                Ok(())
            }
        }
    }

    /// The next piece, with the index of its request; `None` when all have ended. Each has ended
    /// with exactly one `Finished` or `Failed` then.
    pub async fn next(&mut self) -> Option<(usize, Output)> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let first_open = self.open.iter().position(Option::is_some)?;
        let (index, output) = self.outputs.recv().await.unwrap_or_else(|| {
            let why = match self.is_behind.load(Ordering::Relaxed) {
                true => "the answer came faster than its client read it, and too much of it waited",
                false => "the engine ended before the answer did",
            };
            (first_open, Output::Failed(EngineError::Internal(why.into())))
        });
        match &output {
            Output::Finished(end) => {
                self.open[index] = None;
                self.ended[index] = Some(end.clone());
                self.count();
            }
            Output::Failed(why) => {
                self.open[index] = None;
                self.notes.note().error = Some(ApiError::from(why.clone()).code());
            }
            Output::Prompt(_) | Output::Token { .. } => {}
        }
        Some((index, output))
    }

    /// When the last has come to its end, counts and notes what all of them were.
    fn count(&self) {
        if !self.is_counted || self.open.iter().any(Option::is_some) {
            return;
        }
        let Some(ended) = self.ended.iter().cloned().collect::<Option<Vec<Finished>>>() else {
            return;
        };
        self.model.groups.count(&ended, self.n);
        self.notes.note().end(&ended, self.n);
    }

    /// Ends them from elsewhere.
    pub fn canceller(&self) -> Canceller {
        Canceller {
            backend: self.model.served.engine.clone(),
            ids: self.open.iter().flatten().copied().collect(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.open.len()
    }
}

/// Ends generations that somebody else listens to.
pub struct Canceller {
    backend: Arc<dyn Backend>,
    ids: Vec<RequestId>,
}

impl Canceller {
    /// Ends them; who listens is told so.
    pub fn cancel(&self) {
        self.ids.iter().for_each(|&id| self.backend.cancel(id));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.open.iter().flatten().for_each(|&id| self.model.served.engine.cancel(id));
    }
}
