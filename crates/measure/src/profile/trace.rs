//! A run as a Chrome trace: JSON that chrome://tracing and ui.perfetto.dev load.
//!
//! In: spans of steps and of workers, run by run. Out: one process per run, in it one track for the
//! steps (from barrier to barrier, with bytes, operations and share of the roofline) and one per
//! worker, whose gaps are waiting. Format: "Trace Event Format", complete (`X`) events, in
//! microseconds.

use super::{Roofs, Work};
use serde_json::{Value, json};
use std::time::Duration;

/// One span.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// The step's name.
    pub name: &'a str,
    /// Its kind.
    pub kind: &'a str,
    /// Its layer, if it belongs to one.
    pub layer: Option<usize>,
    /// The batch, counted from 0.
    pub batch: usize,
    /// Who did it; `None` is the step as a whole.
    pub worker: Option<usize>,
    /// When it began.
    pub start: Duration,
    /// When it ended.
    pub end: Duration,
    /// What the step did in this batch.
    pub work: Work,
}

/// A trace being put together.
#[derive(Debug, Default)]
pub struct Trace {
    events: Vec<Value>,
    n_runs: usize,
}

impl Trace {
    /// Adds a run with a name such as `pp512`.
    pub fn run<'a>(
        &mut self,
        name: &str,
        n_workers: usize,
        roofs: &Roofs,
        events: impl Iterator<Item = Event<'a>>,
    ) {
        self.n_runs += 1;
        let pid = self.n_runs;
        let named = |kind: &str, tid: usize, name: &str| {
            let args = json!({"name": name});
            json!({"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": args})
        };
        self.events.push(named("process_name", 0, name));
        self.events.push(named("thread_name", 0, "steps"));
        let worker = |w: usize| named("thread_name", w + 1, &format!("worker {w}"));
        self.events.extend((0..n_workers).map(worker));
        let micros = |time: Duration| time.as_nanos() as f64 / 1e3;
        self.events.extend(events.map(|event| {
            json!({
                "ph": "X",
                "name": event.name,
                "cat": event.kind,
                "pid": pid,
                "tid": event.worker.map_or(0, |worker| worker + 1),
                "ts": micros(event.start),
                "dur": micros(event.end.saturating_sub(event.start)),
                "args": args(&event, roofs),
            })
        }));
    }

    /// The JSON text.
    pub fn to_json(&self) -> String {
        json!({"displayTimeUnit": "ns", "traceEvents": self.events}).to_string() + "\n"
    }
}

/// What the viewer shows of an event: a worker's part has no amounts of its own.
fn args(event: &Event<'_>, roofs: &Roofs) -> Value {
    let mut args = json!({"kind": event.kind, "layer": event.layer, "batch": event.batch});
    if event.worker.is_none() {
        let seconds = event.end.saturating_sub(event.start).as_secs_f64();
        let least = roofs.seconds(&event.work).filter(|_| seconds > 0.0);
        args["bytes"] = json!(event.work.bytes);
        args["flops"] = json!(event.work.flops);
        args["share_of_roofline"] = json!(least.map(|least| least / seconds));
    }
    args
}
