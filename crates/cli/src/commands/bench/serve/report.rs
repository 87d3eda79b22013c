//! What a benchmark of servers came to: plain data, as it is written to JSON.

use super::keys::Keys;
use super::server::Server;
use super::workload::Workload;
use serde::Serialize;
use sterna_measure::clock::timestamp_utc;
use sterna_measure::load::{Outcome, Ratios, Slo, Summary};
use sterna_measure::machine::Machine;

/// Names the form of this JSON.
const FORMAT: &str = "sterna-load 1";

/// All servers under one workload.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: &'static str,
    /// When it began, UTC.
    pub date: String,
    /// The command that repeats it.
    pub command: String,
    /// The CPU of this side, which is the servers' too where their URL is of this machine.
    pub cpu: String,
    /// CPUs that can be used.
    pub n_cpus: usize,
    /// What was sent, in words.
    pub load: String,
    /// The keys that were given.
    pub workload: Keys,
    /// Runs of each server.
    pub rounds: usize,
    /// As given; the first is the one that ratios are of.
    pub servers: Vec<Served>,
}

/// What one server did.
#[derive(Clone, Debug, Serialize)]
pub struct Served {
    /// Its name.
    pub name: String,
    /// Where it was.
    pub url: String,
    /// What started it; empty if it was running.
    pub command: Vec<String>,
    /// Of all its runs.
    pub summary: Summary,
    /// How much better the first server is than this one.
    pub first_is: Option<Ratios>,
    /// In the order taken.
    pub runs: Vec<Run>,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Counted from 0.
    pub round: usize,
    /// Of its prompts and arrivals.
    pub seed: u64,
    /// Of it alone.
    pub summary: Summary,
    /// The server's memory every few seconds, where it was watched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub memory_bytes: Vec<u64>,
    /// Each request, in order of sending.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<Outcome>,
}

impl Report {
    /// Before the first run.
    pub fn new(keys: Keys, workload: &Workload, rounds: usize, servers: &[Server]) -> Self {
        let machine = Machine::detect();
        let n_cpus = machine.usable_cpus();
        let served = |server: &Server| Served {
            name: server.name.clone(),
            url: server.url.clone(),
            command: server.command.clone(),
            summary: Summary::of(&[], workload.slo),
            first_is: None,
            runs: Vec::new(),
        };
        Self {
            format: FORMAT,
            date: timestamp_utc(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            cpu: machine.cpu,
            n_cpus,
            load: workload.words(),
            workload: keys,
            rounds,
            servers: servers.iter().map(served).collect(),
        }
    }

    /// Sums up the runs so far.
    pub fn conclude(&mut self, slo: Option<Slo>) {
        for server in &mut self.servers {
            let runs: Vec<&[Outcome]> = server.runs.iter().map(|run| &run.requests[..]).collect();
            server.summary = Summary::of(&runs, slo);
            let memories = server.runs.iter().filter_map(|run| run.summary.memory);
            server.summary.memory =
                memories.max_by(|a, b| a.growth_percent().total_cmp(&b.growth_percent()));
        }
        let first = self.servers[0].summary.clone();
        for server in self.servers.iter_mut().skip(1).filter(|server| !server.runs.is_empty()) {
            server.first_is = Some(first.over(&server.summary));
        }
    }

    /// The figures alone.
    pub fn without_requests(mut self) -> Self {
        for run in self.servers.iter_mut().flat_map(|server| server.runs.iter_mut()) {
            run.requests.clear();
            run.memory_bytes.clear();
        }
        self
    }
}
