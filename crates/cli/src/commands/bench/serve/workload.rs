//! From keys to a workload: files, defaults, and what cannot go together.
//!
//! In: [`Keys`] of flags and of a file. Out: [`Workload`], which cannot be wrong any more.

use super::drive::Prompts;
use super::keys::Keys;
use crate::show::bad_input;
use anyhow::Context;
use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use sterna_measure::load::trace::{FORMATS, Format, Record};
use sterna_measure::load::{Arrivals, Replay, Shape, Slo, Traffic, Vocabulary};

/// Workloads by name, from `workloads/serve/`.
const NAMED: &[(&str, &str)] = &[
    ("shared-prefix", include_str!("../../../../../../workloads/serve/shared-prefix.toml")),
    ("agents-69", include_str!("../../../../../../workloads/serve/agents-69.toml")),
    ("small-69", include_str!("../../../../../../workloads/serve/small-69.toml")),
    ("azure-code", include_str!("../../../../../../workloads/serve/azure-code.toml")),
];

/// The keys of a file or of a name; none are none.
///
/// # Errors
/// When there is no such workload, or it has a key too many or of the wrong kind.
pub fn read(workload: Option<&str>) -> anyhow::Result<Keys> {
    let Some(name) = workload else { return Ok(Keys::default()) };
    if let Some((_, text)) = NAMED.iter().find(|(known, _)| *known == name) {
        return parse(name, text);
    }
    let names: Vec<&str> = NAMED.iter().map(|(known, _)| *known).collect();
    let text = std::fs::read_to_string(name).with_context(|| {
        format!("{name} is neither a file nor a workload; the workloads are {}", names.join(", "))
    })?;
    parse(name, &text)
}

fn parse(name: &str, text: &str) -> anyhow::Result<Keys> {
    // What toml says of an unknown key lists the known ones.
    toml::from_str(text).map_err(|error| bad_input(format!("{name}: {error}")))
}

/// What is sent in each round.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Lengths and times.
    pub traffic: Traffic,
    /// Limits to be kept.
    pub slo: Option<Slo>,
    /// Requests before each run.
    pub n_warm_up: usize,
    /// How long a request may take.
    pub timeout: Duration,
    seed: u64,
    vocabulary: Vocabulary,
    is_text: bool,
}

impl Workload {
    /// What the keys say.
    ///
    /// # Errors
    /// When keys contradict each other, or there is nothing to send, or the trace cannot be read.
    pub fn new(keys: &Keys) -> anyhow::Result<Self> {
        let workload = Self {
            traffic: traffic(keys)?,
            slo: keys.slo,
            n_warm_up: keys.warmup.unwrap_or(1),
            timeout: keys.timeout.map_or(Duration::from_secs(600), |timeout| timeout.0),
            seed: keys.seed.unwrap_or(1),
            vocabulary: Vocabulary::new(keys.vocab.unwrap_or(32_000))?,
            is_text: keys.text.unwrap_or(false),
        };
        // Whether there is anything to send shows before a server is started.
        Arrivals::of(&workload.traffic, workload.seed)?;
        Ok(workload)
    }

    /// The same with another number of agents, each of which asks as often.
    #[must_use]
    pub fn with_agents(&self, n_agents: usize) -> Self {
        Self { traffic: self.traffic.with_agents(n_agents), ..self.clone() }
    }

    /// How often all agents together ask: the key that says so and its value. Agents that each wait
    /// for an answer have none.
    pub fn pace(&self) -> Option<(&'static str, f64)> {
        match &self.traffic {
            Traffic::Closed(_) => None,
            Traffic::Poisson { rate, .. } => Some(("rate", *rate)),
            Traffic::Replay { replay, .. } => Some(("time-scale", replay.time_scale)),
        }
    }

    /// Requests of each agent, or all of a trace.
    pub fn requests_per_agent(&self) -> usize {
        match &self.traffic {
            Traffic::Closed(shape) | Traffic::Poisson { shape, .. } => shape.n_requests,
            Traffic::Replay { .. } => 1,
        }
    }

    /// A server that runs through all rounds has cached the prompts of those before, so each round
    /// has prompts of its own.
    pub fn seed_of(&self, round: usize) -> u64 {
        self.seed.wrapping_add(round as u64)
    }

    /// What is sent, for people.
    pub fn words(&self) -> String {
        let what = match &self.traffic {
            Traffic::Closed(shape) => {
                format!("{}, each after the answer to its last", shape_words(shape))
            }
            Traffic::Poisson { shape, rate } => {
                format!("{}, {rate} per second at random times", shape_words(shape))
            }
            Traffic::Replay { records, replay } => format!(
                "a trace of {} requests for {} agents, times x {}, lengths x {}",
                records.len(),
                replay.n_agents,
                replay.time_scale,
                replay.token_scale
            ),
        };
        let form = if self.is_text { "words" } else { "token ids" };
        format!("{what}; {form} from seed {}, {} to warm up", self.seed, self.n_warm_up)
    }

    /// How prompts become tokens or words.
    pub fn prompts(&self, seed: u64) -> Prompts {
        Prompts { seed, vocabulary: self.vocabulary, is_text: self.is_text }
    }
}

fn shape_words(shape: &Shape) -> String {
    let Shape { n_agents, n_requests, n_prefix, n_own, n_gen } = shape;
    format!(
        "{n_agents} agents x {n_requests} requests of {n_prefix} shared + {n_own} own tokens, \
         {n_gen} generated"
    )
}

fn traffic(keys: &Keys) -> anyhow::Result<Traffic> {
    let n_agents = keys.agents.unwrap_or(16);
    let Some(trace) = &keys.trace else {
        refuse(
            &[
                ("--time-scale", keys.time_scale.is_some()),
                ("--token-scale", keys.token_scale.is_some()),
                ("--duration", keys.duration.is_some()),
            ],
            "is for traces; give one with --trace, or leave it out",
        )?;
        let shape = Shape {
            n_agents,
            n_requests: keys.requests_per_agent.unwrap_or(1),
            n_prefix: keys.prefix_tokens.unwrap_or(240),
            n_own: keys.own_tokens.unwrap_or(16),
            n_gen: keys.gen_tokens.unwrap_or(64),
        };
        return Ok(match keys.rate {
            None => Traffic::Closed(shape),
            Some(rate) => Traffic::Poisson { shape, rate },
        });
    };
    refuse(
        &[
            ("--requests-per-agent", keys.requests_per_agent.is_some()),
            ("--prefix-tokens", keys.prefix_tokens.is_some()),
            ("--own-tokens", keys.own_tokens.is_some()),
            ("--gen-tokens", keys.gen_tokens.is_some()),
            ("--rate", keys.rate.is_some()),
        ],
        "cannot be chosen for a trace, which has its own; leave it out",
    )?;
    let replay = Replay {
        n_agents,
        time_scale: keys.time_scale.unwrap_or(1.0),
        token_scale: keys.token_scale.unwrap_or(1.0),
        duration: keys.duration.map(|duration| duration.0),
    };
    Ok(Traffic::Replay { records: trace.records()?, replay })
}

fn refuse(flags: &[(&str, bool)], why: &str) -> anyhow::Result<()> {
    match flags.iter().find(|(_, is_given)| *is_given) {
        Some((flag, _)) => Err(bad_input(format!("{flag} {why}"))),
        None => Ok(()),
    }
}

/// A trace's format and file: `azure:code.csv`. A workload that names no file asks for one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceFile {
    format: &'static Format,
    path: PathBuf,
}

/// More text than any published trace has.
const MAX_TRACE_BYTES: u64 = 1 << 30;

impl TraceFile {
    fn records(&self) -> anyhow::Result<Vec<Record>> {
        let (path, format) = (&self.path, self.format.name);
        if path.as_os_str().is_empty() {
            return Err(bad_input(format!(
                "this workload replays a trace, which does not come with it; give its file as \
                 --trace {format}:FILE"
            )));
        }
        let shown = path.display();
        let text = text_of(path).with_context(|| format!("reading {shown}"))?;
        let records = self.format.parse(&text);
        records.map_err(|error| bad_input(format!("{shown} as {format} trace: {error}")))
    }
}

/// A file's text, unpacked if it is gzip.
fn text_of(path: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_TRACE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut text = Vec::new();
        let whole =
            MultiGzDecoder::new(&bytes[..]).take(MAX_TRACE_BYTES + 1).read_to_end(&mut text);
        whole.map_err(|error| bad_input(format!("its gzip is damaged: {error}")))?;
        bytes = text;
    }
    if bytes.len() as u64 > MAX_TRACE_BYTES {
        return Err(bad_input("it has more than 1 GiB of text; cut it"));
    }
    String::from_utf8(bytes).map_err(|_| bad_input("it is no text"))
}

impl PartialEq for TraceFile {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl std::str::FromStr for TraceFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
        let known = text.split_once(':').and_then(|(name, path)| {
            Some(Self { format: Format::by_name(name)?, path: path.into() })
        });
        known.ok_or_else(|| {
            format!("{text:?} is no trace; write it as {}:FILE", names.join(":FILE or "))
        })
    }
}

impl std::fmt::Display for TraceFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.format.name, self.path.display())
    }
}

impl TryFrom<String> for TraceFile {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TraceFile> for String {
    fn from(trace: TraceFile) -> Self {
        trace.to_string()
    }
}

#[cfg(test)]
mod tests;
