//! The keys of a workload: each is a flag and a key of a TOML file, and the flag wins.

use super::workload::TraceFile;
use serde::{Deserialize, Serialize};
use sterna_measure::load::{Slo, Time};

/// What was given; what was not has a default, which [`super::workload`] knows.
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// For people; only in files.
    #[arg(skip)]
    pub about: Option<String>,
    /// Agents at once [default: 16].
    #[arg(long, value_name = "N")]
    pub agents: Option<usize>,
    /// Requests of each agent [default: 1].
    #[arg(long, value_name = "N")]
    pub requests_per_agent: Option<usize>,
    /// Tokens that all prompts begin with [default: 240].
    #[arg(long, value_name = "N")]
    pub prefix_tokens: Option<usize>,
    /// Tokens of each prompt after those [default: 16].
    #[arg(long, value_name = "N")]
    pub own_tokens: Option<usize>,
    /// Tokens to generate for each request [default: 64].
    #[arg(long, value_name = "N")]
    pub gen_tokens: Option<usize>,
    /// Requests per second of all agents together, at random times (Poisson), whether or not
    /// others are answered [default: all agents start together, and each sends its next request
    /// when its last is answered].
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// Replay a recorded trace instead: its times and lengths, and what its prompts share.
    #[arg(long, value_name = "azure:FILE|mooncake:FILE")]
    pub trace: Option<TraceFile>,
    /// Multiply the times of the trace: 0.5 is twice the load [default: 1].
    #[arg(long, value_name = "FACTOR")]
    pub time_scale: Option<f64>,
    /// Multiply the lengths of the trace, so that they fit the model's context [default: 1].
    #[arg(long, value_name = "FACTOR")]
    pub token_scale: Option<f64>,
    /// Send only what is due before this time (1h, 90s), after scaling [default: the whole trace].
    #[arg(long, value_name = "TIME")]
    pub duration: Option<Time>,
    /// Limits of each request: time to first token, mean time between tokens, time to the end
    /// (e2e). Requests within all of them are the goodput.
    #[arg(long, value_name = "ttft=2s,itl=150ms")]
    pub slo: Option<Slo>,
    /// Seed of prompts and arrivals; each round has the next one [default: 1].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Requests before each run that do not count, one after the other, of tokens that no other
    /// request has [default: 1].
    #[arg(long, value_name = "N")]
    pub warmup: Option<usize>,
    /// How long a request may take [default: 600s].
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Time>,
    /// Tokens of the model's vocabulary; prompts are drawn from the ordinary ones of them
    /// [default: 32000].
    #[arg(long, value_name = "N")]
    pub vocab: Option<usize>,
    /// Send words instead of token ids, for servers that take no ids; lengths are then only about
    /// right.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub text: Option<bool>,
}

impl Keys {
    /// These, and those of `below` where these say nothing.
    pub fn over(self, below: Self) -> Self {
        Self {
            about: self.about.or(below.about),
            agents: self.agents.or(below.agents),
            requests_per_agent: self.requests_per_agent.or(below.requests_per_agent),
            prefix_tokens: self.prefix_tokens.or(below.prefix_tokens),
            own_tokens: self.own_tokens.or(below.own_tokens),
            gen_tokens: self.gen_tokens.or(below.gen_tokens),
            rate: self.rate.or(below.rate),
            trace: self.trace.or(below.trace),
            time_scale: self.time_scale.or(below.time_scale),
            token_scale: self.token_scale.or(below.token_scale),
            duration: self.duration.or(below.duration),
            slo: self.slo.or(below.slo),
            seed: self.seed.or(below.seed),
            warmup: self.warmup.or(below.warmup),
            timeout: self.timeout.or(below.timeout),
            vocab: self.vocab.or(below.vocab),
            text: self.text.or(below.text),
        }
    }
}
