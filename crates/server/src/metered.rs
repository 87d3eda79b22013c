//! The agents' quotas, before an engine: whatever way a request comes, it passes here.

use crate::agents::Agents;
use crate::backend::Backend;
use crate::quotas::{Meter, locked};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use sterna_engine::{
    EngineError, Flushed, Output, Reply, Request, RequestId, SessionError, Sink, Stats,
};

/// An engine that agents use within their quotas.
pub struct Metered {
    /// What computes.
    pub engine: Arc<dyn Backend>,
    /// Who may use how much.
    pub agents: Arc<Agents>,
    /// The time.
    pub now: fn() -> SystemTime,
}

/// A request in flight, which ends when it is dropped: at the latest with its sink.
struct Open(Arc<Mutex<Meter>>);

impl Drop for Open {
    fn drop(&mut self) {
        locked(&self.0, Meter::end);
    }
}

impl Backend for Metered {
    fn submit(&self, request: Request, mut sink: Sink) -> Result<RequestId, EngineError> {
        let Some(meter) = self.agents.meter(&request.agent) else {
            return self.engine.submit(request, sink);
        };
        let now = (self.now)().duration_since(UNIX_EPOCH).unwrap_or_default();
        locked(meter, |meter| meter.begin(now, request.prompt.len()))?;
        let mut open = Some(Open(meter.clone()));
        let counting = move |output: Output| {
            match (&output, &open) {
                (Output::Token { .. }, Some(open)) => locked(&open.0, Meter::token),
                // Before the client hears of it: its next request may come at once.
                (Output::Finished(_) | Output::Failed(_), _) => open = None,
                _ => {}
            }
            sink(output)
        };
        self.engine.submit(request, Box::new(counting))
    }

    fn cancel(&self, id: RequestId) {
        self.engine.cancel(id);
    }

    fn stats(&self) -> Stats {
        self.engine.stats()
    }

    fn fork(&self, session: &str, child: &str, reply: Reply<Result<usize, SessionError>>) {
        self.engine.fork(session, child, reply);
    }

    fn end_session(&self, session: &str, reply: Reply<bool>) {
        self.engine.end_session(session, reply);
    }

    fn flush(&self, reply: Reply<Flushed>) {
        self.engine.flush(reply);
    }
}
