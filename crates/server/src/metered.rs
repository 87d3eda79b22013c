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
struct Open {
    meter: Arc<Mutex<Meter>>,
    prompt_tokens: usize,
}

impl Open {
    /// The sink, before which its pieces are counted.
    fn counting(self, mut sink: Sink) -> Sink {
        let mut open = Some(self);
        Box::new(move |output| {
            match (&output, &open) {
                (Output::Token { .. }, Some(open)) => locked(&open.meter, Meter::token),
                // Before the client hears of it: its next request may come at once.
                (Output::Finished(_), _) => open = None,
                (Output::Failed(why), _) => {
                    if let (EngineError::TooLate { .. }, Some(open)) = (why, &open) {
                        locked(&open.meter, |meter| meter.give_back(1, open.prompt_tokens));
                    }
                    open = None;
                }
                _ => {}
            }
            sink(output)
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        locked(&self.meter, Meter::end);
    }
}

impl Backend for Metered {
    fn submit(&self, requests: Vec<(Request, Sink)>) -> Result<Vec<RequestId>, EngineError> {
        // They are of one client.
        let agent = requests.first().map(|(request, _)| request.agent.as_str());
        let Some(meter) = agent.and_then(|agent| self.agents.meter(agent)) else {
            return self.engine.submit(requests);
        };
        let now = (self.now)().duration_since(UNIX_EPOCH).unwrap_or_default();
        let n = requests.len();
        let prompt_tokens = requests.iter().map(|(request, _)| request.prompt.len()).sum();
        locked(meter, |meter| meter.begin(now, n, prompt_tokens))?;
        let counted = requests.into_iter().map(|(request, sink)| {
            let open = Open { meter: meter.clone(), prompt_tokens: request.prompt.len() };
            (request, open.counting(sink))
        });
        let taken = self.engine.submit(counted.collect());
        if taken.is_err() {
            locked(meter, |meter| meter.give_back(n, prompt_tokens));
        }
        taken
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
