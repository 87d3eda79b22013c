//! Who sends what, and when.
//!
//! In: [`Traffic`] and a seed. Out: [`Arrivals`], the same for the same seed on every machine.

use super::draw::Draw;
use super::prompt::{Part, Prompt, Stream};
use super::trace::{BLOCK_LEN, Record};
use crate::MeasureError;
use std::time::Duration;

/// The longest prompt and the longest answer.
pub const MAX_TOKENS: usize = 1 << 20;

/// The most requests of a run.
pub const MAX_REQUESTS: usize = 1_000_000;

/// What a rate, a time scale and a token scale may be; times stay far from where they overflow.
const RATES: [f64; 2] = [1e-6, 1e6];
const TIME_SCALES: [f64; 2] = [0.0, 1e6];
const TOKEN_SCALES: [f64; 2] = [1e-9, 1e6];

/// What requests look like and what makes them come.
#[derive(Debug, Clone, PartialEq)]
pub enum Traffic {
    /// All agents start together, and each sends its next request when its last is answered.
    Closed(Shape),
    /// Requests come at random times, whether or not others are answered (a Poisson process); the
    /// agents take turns.
    Poisson {
        /// What they ask.
        shape: Shape,
        /// Requests per second of all agents together.
        rate: f64,
    },
    /// Requests come when a trace says.
    Replay {
        /// The trace.
        records: Vec<Record>,
        /// How to play it.
        replay: Replay,
    },
}

impl Traffic {
    /// The same with another number of agents, each of which asks as often as one does now: a rate
    /// of all together, or the pace of a trace, grows with them.
    #[must_use]
    pub fn with_agents(&self, n_agents: usize) -> Self {
        let more = n_agents as f64 / self.n_agents() as f64;
        match self.clone() {
            Self::Closed(shape) => Self::Closed(Shape { n_agents, ..shape }),
            Self::Poisson { shape, rate } => {
                Self::Poisson { shape: Shape { n_agents, ..shape }, rate: rate * more }
            }
            Self::Replay { records, replay } => {
                let time_scale = replay.time_scale / more;
                Self::Replay { records, replay: Replay { n_agents, time_scale, ..replay } }
            }
        }
    }

    /// How many agents there are.
    pub fn n_agents(&self) -> usize {
        match self {
            Self::Closed(shape) | Self::Poisson { shape, .. } => shape.n_agents,
            Self::Replay { replay, .. } => replay.n_agents,
        }
    }
}

/// Requests that are all alike: a prefix that all agents share, then tokens of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// How many agents.
    pub n_agents: usize,
    /// Requests of each.
    pub n_requests: usize,
    /// Tokens that all prompts begin with.
    pub n_prefix: usize,
    /// Tokens of each prompt after them.
    pub n_own: usize,
    /// Tokens to generate.
    pub n_gen: usize,
}

/// How a trace is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Replay {
    /// Agents, which take turns.
    pub n_agents: usize,
    /// Times of the trace are multiplied by it: 0.5 is twice the load.
    pub time_scale: f64,
    /// Lengths are multiplied by it, and are at least 1.
    pub token_scale: f64,
    /// Only requests that are then due before it.
    pub duration: Option<Duration>,
}

/// A request to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// By whom, counted from 0.
    pub agent: usize,
    /// When, from the start of the run; `None` as soon as the one before it is answered.
    pub at: Option<Duration>,
    /// What it says.
    pub prompt: Prompt,
    /// How many tokens it asks for.
    pub n_gen: usize,
}

/// All requests of a run, in lanes: those of a lane are sent one after the other, lanes at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrivals {
    /// Of one or more requests each.
    pub lanes: Vec<Vec<Request>>,
}

impl Arrivals {
    /// Plans a run.
    ///
    /// # Errors
    /// When there is nothing to send, or more than [`MAX_REQUESTS`] or [`MAX_TOKENS`].
    pub fn of(traffic: &Traffic, seed: u64) -> Result<Self, MeasureError> {
        let lanes = match traffic {
            Traffic::Closed(shape) => {
                shape.check()?;
                (0..shape.n_agents).map(|agent| shape.requests_of(agent)).collect()
            }
            Traffic::Poisson { shape, rate } => {
                shape.check()?;
                within("requests per second", *rate, RATES)?;
                poisson(shape, *rate, seed)
            }
            Traffic::Replay { records, replay } => replay.lanes(records)?,
        };
        Ok(Self { lanes })
    }

    /// How many requests there are.
    pub fn n_requests(&self) -> usize {
        self.lanes.iter().map(Vec::len).sum()
    }

    /// Requests as long as the first ones, of tokens that no other request has: after them the
    /// server is warm and has cached nothing of use.
    pub fn warm_up(&self, n: usize) -> Vec<Request> {
        let first = self.lanes.iter().flatten().cycle().take(n).enumerate();
        let alone = first.map(|(index, request)| {
            let stream = Stream::WarmUp(index as u64);
            let parts = vec![Part { stream, n_tokens: request.prompt.n_tokens() }];
            Request { at: None, prompt: Prompt { parts }, ..request.clone() }
        });
        alone.collect()
    }
}

impl Shape {
    fn check(&self) -> Result<(), MeasureError> {
        let n_prompt = self.n_prefix.saturating_add(self.n_own);
        let n_requests = self.n_agents.saturating_mul(self.n_requests);
        for (what, n, most) in [
            ("requests", n_requests, MAX_REQUESTS),
            ("tokens in a prompt", n_prompt, MAX_TOKENS),
            ("tokens to generate", self.n_gen, MAX_TOKENS),
        ] {
            if !(1..=most).contains(&n) {
                let why = format!("there are {n} {what}; there must be 1 to {most}");
                return Err(MeasureError::Data(why));
            }
        }
        Ok(())
    }

    /// A request; `index` counts those of all agents.
    fn request(&self, agent: usize, index: usize, at: Option<Duration>) -> Request {
        let parts = [(Stream::Shared, self.n_prefix), (Stream::Own(index as u64), self.n_own)];
        let parts = parts.map(|(stream, n_tokens)| Part { stream, n_tokens });
        let parts = parts.into_iter().filter(|part| part.n_tokens > 0).collect();
        Request { agent, at, prompt: Prompt { parts }, n_gen: self.n_gen }
    }

    fn requests_of(&self, agent: usize) -> Vec<Request> {
        let index = |turn: usize| turn * self.n_agents + agent;
        (0..self.n_requests).map(|turn| self.request(agent, index(turn), None)).collect()
    }
}

fn within(what: &str, value: f64, [least, most]: [f64; 2]) -> Result<(), MeasureError> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => {
            let why = format!("{what}: {value} is not within {least} to {most}");
            Err(MeasureError::Data(why))
        }
    }
}

/// The gaps of a Poisson process are exponential: -ln(u) / rate for a uniform u.
fn poisson(shape: &Shape, rate: f64, seed: u64) -> Vec<Vec<Request>> {
    // Prompts are drawn from streams of two keys and a position, arrivals from one of no key.
    let mut draw = Draw::new(seed, &[]);
    let mut at = 0.0;
    let requests = (0..shape.n_agents * shape.n_requests).map(|index| {
        at += -draw.unit().ln() / rate;
        vec![shape.request(index % shape.n_agents, index, Some(Duration::from_secs_f64(at)))]
    });
    requests.collect()
}

impl Replay {
    fn lanes(&self, records: &[Record]) -> Result<Vec<Vec<Request>>, MeasureError> {
        within("agents", self.n_agents as f64, [1.0, MAX_REQUESTS as f64])?;
        within("the time scale", self.time_scale, TIME_SCALES)?;
        within("the token scale", self.token_scale, TOKEN_SCALES)?;
        let mut lanes = Vec::new();
        for (index, record) in records.iter().enumerate() {
            let at = Duration::from_secs_f64(record.at * self.time_scale);
            if self.duration.is_some_and(|duration| at >= duration) {
                break;
            }
            let prompt = self.prompt(record, index);
            let n_gen = self.scaled(record.n_gen).max(1);
            let longest = prompt.n_tokens().max(n_gen);
            if longest > MAX_TOKENS {
                return Err(MeasureError::Data(format!(
                    "request {} of the trace has {longest} tokens once scaled; a request may have \
                     {MAX_TOKENS}",
                    index + 1
                )));
            }
            lanes.push(vec![Request { agent: index % self.n_agents, at: Some(at), prompt, n_gen }]);
        }
        match lanes.is_empty() {
            true => Err(MeasureError::Data("no request of the trace is due in that time".into())),
            false => Ok(lanes),
        }
    }

    /// Blocks with the same hash become the same tokens, whatever the scale.
    fn prompt(&self, record: &Record, index: usize) -> Prompt {
        let n_prompt = self.scaled(record.n_prompt).max(1);
        if record.blocks.is_empty() {
            let part = Part { stream: Stream::Own(index as u64), n_tokens: n_prompt };
            return Prompt { parts: vec![part] };
        }
        let last = record.blocks.len() - 1;
        let start = |block: usize| self.scaled(block * BLOCK_LEN).min(n_prompt);
        let parts = record.blocks.iter().enumerate().map(|(block, hash)| {
            let end = if block == last { n_prompt } else { start(block + 1) };
            Part { stream: Stream::Block(*hash), n_tokens: end - start(block) }
        });
        Prompt { parts: parts.filter(|part| part.n_tokens > 0).collect() }
    }

    fn scaled(&self, n_tokens: usize) -> usize {
        (n_tokens as f64 * self.token_scale).round() as usize
    }
}

#[cfg(test)]
mod tests;
