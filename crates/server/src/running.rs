//! Generations in flight, which end with whoever waits for them.

use crate::backend::Backend;
use std::sync::Arc;
use sterna_engine::{EngineError, Output, Request, RequestId, Sink};
use tokio::sync::mpsc;

/// The generations of one HTTP request. Dropping it cancels those that have not ended: a client
/// that goes away drops its response, streamed or not, and with it this.
pub struct Running {
    backend: Arc<dyn Backend>,
    /// The generations, `None` when they have ended.
    open: Vec<Option<RequestId>>,
    outputs: mpsc::UnboundedReceiver<(usize, Output)>,
    /// The first piece, where it was waited for already.
    first: Option<(usize, Output)>,
}

impl Running {
    /// Submits all of them, or none.
    ///
    /// # Errors
    /// Of the first that the engine does not take.
    pub fn start(backend: Arc<dyn Backend>, requests: Vec<Request>) -> Result<Self, EngineError> {
        let (sender, outputs) = mpsc::unbounded_channel();
        let mut running =
            Self { backend, open: Vec::with_capacity(requests.len()), outputs, first: None };
        for (index, request) in requests.into_iter().enumerate() {
            let sender = sender.clone();
            // Sending to somebody who is gone fails, which tells the engine so.
            let sink: Sink = Box::new(move |output| sender.send((index, output)).is_ok());
            let id = running.backend.submit(request, sink)?;
            running.open.push(Some(id));
        }
        Ok(running)
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
            let why = EngineError::Internal("the engine ended before the answer did".into());
            (first_open, Output::Failed(why))
        });
        if matches!(output, Output::Finished(_) | Output::Failed(_)) {
            self.open[index] = None;
        }
        Some((index, output))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.open.len()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.open.iter().flatten().for_each(|&id| self.backend.cancel(id));
    }
}
