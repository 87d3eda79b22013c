//! A line of the log per request, written when its answer is over, and what else is told of it.
//!
//! In: what [`crate::edge`] sees of a request, and what handlers note on the way ([`Notes`]).
//! Out: an event of `tracing`, and an [`Access`] for whoever collects traces. Neither ever holds a
//! prompt, an answer or a key.

use crate::answer::finish_reason;
use crate::app::App;
use crate::cost::Cost;
use crate::trace::TraceParent;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};
use sterna_engine::Finished;
use tracing::{debug, info};

/// The status of a request whose client went away before there was an answer, as nginx logs it.
const CLIENT_GONE: u16 = 499;
/// Routes that programs ask every few seconds: their lines are for those who look for them, at the
/// level `debug`.
const QUIET: [&str; 8] = [
    "/health",
    "/health/live",
    "/health/ready",
    "/ping",
    "/version",
    "/metrics",
    "/api/v1/stats",
    "/api/v1/batch/metrics",
];

/// What is known of a request when it is over.
#[derive(Clone, Debug)]
pub struct Access {
    /// Its id.
    pub id: String,
    /// GET, POST, ...
    pub method: String,
    /// Its route, or its path where there is no such route.
    pub route: String,
    /// Of the answer; 499 where the client went away before there was one.
    pub status: u16,
    /// Whether the client went away before the answer's end.
    pub is_cut: bool,
    /// The trace that the client made it part of.
    pub trace: Option<TraceParent>,
    /// When it came.
    pub started: SystemTime,
    /// From there to the end of the answer.
    pub took: Duration,
    /// What its handler found out.
    pub noted: Noted,
}

impl Access {
    /// Whether it is one of those that come every few seconds and say nothing new.
    fn is_quiet(&self) -> bool {
        self.status < 400 && QUIET.contains(&self.route.as_str())
    }
}

/// What a handler finds out about its request.
#[derive(Clone, Debug, Default)]
pub struct Noted {
    /// Who asked, where it is said.
    pub agent: Option<String>,
    /// How urgent it was.
    pub class: Option<&'static str>,
    /// How long it waited for its model to be there.
    pub waited: Duration,
    /// The model that answered.
    pub model: Option<String>,
    /// Tokens and times of a generation that came to its end.
    pub cost: Option<Cost>,
    /// Why its choices ended.
    pub finish_reasons: Vec<&'static str>,
    /// The code of the error that it ended with.
    pub error: Option<&'static str>,
}

impl Noted {
    /// The end of all choices, `n` in turn for each prompt.
    pub(crate) fn end(&mut self, ended: &[Finished], n: usize) {
        self.cost = Some(Cost::of(ended, n));
        self.finish_reasons = ended.iter().map(|end| finish_reason(end.reason)).collect();
    }
}

tokio::task_local! {
    /// Of the request whose handler runs: so that what a handler finds out deep inside reaches the
    /// line without passing through every function between.
    static CURRENT: Notes;
}

/// What is noted of a request, shared by all who note.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<Noted>>);

impl Notes {
    /// Those of the request at hand; outside of one, some that nobody reads.
    pub fn current() -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_default()
    }

    /// Runs the handler of the request that these belong to.
    pub async fn within<F: Future>(self, handler: F) -> F::Output {
        CURRENT.scope(self, handler).await
    }

    /// Does a part of its work on another thread.
    pub fn within_thread<T>(self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, work)
    }

    /// Where to note something.
    pub fn note(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in work. Dropping it writes its line.
pub struct Line {
    app: Arc<App>,
    notes: Notes,
    access: Access,
}

impl Line {
    /// Begins with what is known when the request comes.
    pub fn begin(app: Arc<App>, request: &Request, id: &str) -> Self {
        let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        let agent = request.headers().get("x-agent-id").and_then(|agent| agent.to_str().ok());
        let notes = Notes::default();
        notes.note().agent = agent.map(str::to_owned);
        let access = Access {
            id: id.to_owned(),
            method: request.method().to_string(),
            route: matched.unwrap_or(request.uri().path()).to_owned(),
            status: CLIENT_GONE,
            is_cut: true,
            trace: TraceParent::of(request.headers()),
            started: (app.options.now)(),
            took: Duration::ZERO,
            noted: Noted::default(),
        };
        Self { app, notes, access }
    }

    /// Where its handler notes what it finds out.
    pub fn notes(&self) -> Notes {
        self.notes.clone()
    }

    /// The response, whose end is the end of the line.
    pub fn end_with(mut self, response: Response) -> Response {
        self.access.status = response.status().as_u16();
        response.map(|body| Body::new(Watched { body, line: self }))
    }

    fn write(&self) {
        let Access { id, method, route, status, trace, took, noted, .. } = &self.access;
        let total_ms = rounded_ms(took.as_secs_f64());
        if self.access.is_quiet() {
            debug!(target: "sterna::access", id, method, route, status, total_ms, "request");
            return;
        }
        let cost = noted.cost.as_ref();
        let ms = |seconds: fn(&Cost) -> f64| cost.map(|cost| rounded_ms(seconds(cost)));
        let trace_id = trace.as_ref().map(|trace| trace.trace_id.as_str());
        let parent_id = trace.as_ref().map(|trace| trace.parent_id.as_str());
        info!(
            target: "sterna::access",
            id,
            method,
            route,
            status,
            total_ms,
            model = noted.model.as_deref(),
            agent = noted.agent.as_deref(),
            class = noted.class,
            prompt_tokens = cost.map(|cost| cost.prompt_tokens),
            cached_tokens = cost.map(|cost| cost.cached_tokens),
            new_tokens = cost.map(|cost| cost.new_tokens),
            queue_ms = ms(|cost| cost.queue_seconds),
            prefill_ms = ms(|cost| cost.prefill_seconds),
            decode_ms = ms(|cost| cost.decode_seconds),
            error = noted.error,
            client_gone = self.access.is_cut.then_some(true),
            trace_id,
            parent_id,
            "request"
        );
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let now = (self.app.options.now)();
        self.access.took = now.duration_since(self.access.started).unwrap_or_default();
        self.access.noted = std::mem::take(&mut *self.notes.note());
        self.write();
        if let Some(traces) = &self.app.options.traces
            && !self.access.is_quiet()
        {
            traces.send(&self.access);
        }
    }
}

/// Hundredths of a millisecond are noise.
fn rounded_ms(seconds: f64) -> f64 {
    (seconds * 1e4).round() / 10.0
}

/// A body that is watched to its end.
struct Watched {
    body: Body,
    line: Line,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() {
            self.line.access.is_cut = false;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // A body whose end is known is not asked for it.
        self.line.access.is_cut &= !self.body.is_end_stream();
    }
}
