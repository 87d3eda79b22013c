//! What the server needs of an engine, so that tests can put a scripted one in its place.

use sterna_engine::{
    EngineError, Flushed, Handle, Reply, Request, RequestId, SessionError, Sink, Stats,
};

/// An engine as the server sees it; [`Handle`] is the one that computes.
pub trait Backend: Send + Sync {
    /// Queues requests that one client sends together: all of them, or none. The pieces of each
    /// come through its sink.
    ///
    /// # Errors
    /// When one cannot be served, the queue is full, or the engine is ending.
    fn submit(&self, requests: Vec<(Request, Sink)>) -> Result<Vec<RequestId>, EngineError>;

    /// Ends a request whose client went away; nothing happens when it is over.
    fn cancel(&self, id: RequestId);

    /// Counters and gauges, as they are now.
    fn stats(&self) -> Stats;

    /// Gives the pages of a session another name; how many tokens they hold.
    fn fork(&self, session: &str, child: &str, reply: Reply<Result<usize, SessionError>>);

    /// Lets a session's pages go; whether there was one.
    fn end_session(&self, session: &str, reply: Reply<bool>);

    /// Empties the response cache and the prefix tree, and the disk below it; what was in them.
    fn flush(&self, reply: Reply<Flushed>);
}

impl Backend for Handle {
    fn submit(&self, requests: Vec<(Request, Sink)>) -> Result<Vec<RequestId>, EngineError> {
        let mut ids = Vec::with_capacity(requests.len());
        for (request, sink) in requests {
            match Self::submit(self, request, sink) {
                Ok(id) => ids.push(id),
                Err(why) => {
                    ids.into_iter().for_each(|id| Self::cancel(self, id));
                    return Err(why);
                }
            }
        }
        Ok(ids)
    }

    fn cancel(&self, id: RequestId) {
        Self::cancel(self, id);
    }

    fn stats(&self) -> Stats {
        Self::stats(self)
    }

    fn fork(&self, session: &str, child: &str, reply: Reply<Result<usize, SessionError>>) {
        Self::fork(self, session, child, reply);
    }

    fn end_session(&self, session: &str, reply: Reply<bool>) {
        Self::end_session(self, session, reply);
    }

    fn flush(&self, reply: Reply<Flushed>) {
        Self::flush(self, reply);
    }
}
