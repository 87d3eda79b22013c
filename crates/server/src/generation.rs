//! What both ways of generating are asked: how long, how sampled, how urgent, when to stop.
//!
//! In: the parameters of a body. Out: requests of the engine, one per choice. A parameter that is
//! absent is off: OpenAI's defaults, with no filter of ours behind them.

use crate::access::Notes;
use crate::app::App;
use crate::asked::Asked;
use crate::constraints;
use crate::errors::ApiError;
use crate::fields::{Fields, integer, wrong};
use crate::hints::{self, MAX_NAME_LEN, name};
use crate::params::check;
use crate::tables::STREAM_OPTIONS;
use axum::http::HeaderMap;
use serde_json::Value;
use sterna_engine::{Class, EngineError, Request};

/// What to generate, before the prompt is known.
#[derive(Clone, Debug)]
pub struct Generation {
    /// All but the prompt, the limit and the seed.
    pub request: Request,
    /// Choices for each prompt.
    pub n: usize,
    /// Where the random numbers of the first choice start; the next ones count on.
    pub seed: Option<u64>,
    /// Send pieces as they come.
    pub is_streamed: bool,
    /// End a stream with a chunk that has the usage.
    pub includes_usage: bool,
}

/// Notes who asks, and how urgently, for the log.
pub fn note(request: &Request) {
    let notes = Notes::current();
    let mut noted = notes.note();
    noted.class = Some(request.class.name());
    noted.agent = Some(request.agent.clone()).filter(|agent| !agent.is_empty());
}

/// How many tokens may be generated.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// What was asked for.
    pub max_tokens: Option<usize>,
    /// Otherwise so many, or fewer where the context ends.
    pub default: usize,
    /// Tokens of prompt and answer together.
    pub context_len: usize,
}

impl Limit {
    /// Refuses a prompt beyond the context.
    fn check(&self, prompt: &[u32]) -> Result<(), EngineError> {
        let (prompt_tokens, context_len) = (prompt.len(), self.context_len);
        if prompt_tokens <= context_len {
            return Ok(());
        }
        let max_tokens = self.after(prompt_tokens);
        Err(EngineError::ContextLength { prompt_tokens, max_tokens, context_len })
    }

    /// A prompt that fills the context is left to the engine to refuse, with its numbers.
    fn after(&self, prompt_len: usize) -> usize {
        let room = self.context_len.saturating_sub(prompt_len).max(1);
        self.max_tokens.unwrap_or(self.default.min(room))
    }
}

/// Choices of one prompt at most, as OpenAI has it.
const MAX_N: i64 = 128;
/// Stop texts at most: each token is compared with them, and each choice has its own.
const MAX_STOPS: usize = 64;
/// The longest of them, in bytes.
const MAX_STOP_LEN: usize = 1024;
/// Tokens whose logits may be changed: each choice has its own list, too.
const MAX_BIASES: usize = 4096;
/// `top_p` 0 asks for the likeliest token alone; the sampler wants a number above 0.
const LEAST_TOP_P: f32 = f32::MIN_POSITIVE;

impl Generation {
    /// Reads the parameters.
    ///
    /// # Errors
    /// For the first parameter that is wrong.
    pub fn read(asked: &mut Asked, headers: &HeaderMap) -> Result<Self, ApiError> {
        let (is_streamed, includes_usage) = streaming(asked)?;
        let constraint = constraints::read(asked)?;
        let fields = asked.fields();
        let mut request = Request::default();
        sampling(fields, &mut request)?;
        request.sampling.logit_bias = logit_bias(fields)?;
        request.stop.strings = stops(fields)?;
        request.stop.ignore_eos = fields.flag("ignore_eos")?.unwrap_or(false);
        request.constraint = constraint;
        let class = class(fields)?;
        request.share = asked.policy.share;
        request.agent.clone_from(&asked.agent);
        let warnings = hints::read(fields, headers, asked.is_strict, &mut request)?;
        let seed = match fields.get("seed") {
            None => None,
            Some(value) => Some(seed(value).ok_or_else(|| wrong("seed", value, "an integer"))?),
        };
        request.is_seeded = seed.is_some();
        let n = fields.integer("n", 1, MAX_N)?.unwrap_or(1) as usize;
        asked.warnings.extend(warnings);
        request.class = allowed(class, asked)?;
        note(&request);
        Ok(Self { request, n, seed, is_streamed, includes_usage })
    }

    /// The requests for these prompts: `n` for each, in order.
    ///
    /// # Errors
    /// When there are more than a request may ask for, or a prompt is too long.
    pub fn requests(
        &self,
        app: &App,
        prompts: &[Vec<u32>],
        limit: Limit,
    ) -> Result<Vec<Request>, ApiError> {
        let (n_choices, most) = (prompts.len().saturating_mul(self.n), app.options.max_choices);
        if n_choices > most {
            let message = format!(
                "{} prompts with {} choices each are {n_choices} answers; this server gives {most} \
                 at once, send fewer",
                prompts.len(),
                self.n
            );
            return Err(ApiError::invalid("n", message));
        }
        if n_choices > 1 {
            // Before there are copies of them; a single one is the engine's to refuse.
            prompts.iter().try_for_each(|prompt| limit.check(prompt))?;
        }
        let mut requests = Vec::with_capacity(n_choices);
        for prompt in prompts {
            for choice in 0..self.n as u64 {
                let mut request = self.request.clone();
                request.prompt.clone_from(prompt);
                request.max_tokens = limit.after(prompt.len());
                request.sampling.seed = match self.seed {
                    Some(seed) => seed.wrapping_add(choice),
                    None => app.fresh.draw(),
                };
                requests.push(request);
            }
        }
        Ok(requests)
    }
}

fn streaming(asked: &mut Asked) -> Result<(bool, bool), ApiError> {
    let fields = asked.fields();
    let is_streamed = fields.flag("stream")?.unwrap_or(false);
    let Some(options) = fields.object("stream_options")? else {
        return Ok((is_streamed, false));
    };
    if !is_streamed {
        let message = "stream_options goes with `stream: true` only; remove it or set `stream`";
        return Err(ApiError::invalid("stream_options", message));
    }
    let path = "stream_options.";
    let warnings = check(path, options, STREAM_OPTIONS, asked.is_strict)?;
    let includes_usage = Fields(options).flag("include_usage")?.unwrap_or(false);
    asked.warnings.extend(warnings);
    Ok((is_streamed, includes_usage))
}

fn sampling(fields: Fields<'_>, request: &mut Request) -> Result<(), ApiError> {
    let unbounded = f64::INFINITY;
    let sampling = &mut request.sampling;
    sampling.temperature = fields.number("temperature", 0.0, unbounded)?.unwrap_or(1.0);
    sampling.top_p = fields.number("top_p", 0.0, 1.0)?.unwrap_or(1.0).max(LEAST_TOP_P);
    // -1 is vLLM's way to keep all.
    let top_k = fields.integer("top_k", -1, i64::from(i32::MAX))?.unwrap_or(0);
    sampling.top_k = top_k.max(0) as usize;
    sampling.min_p = fields.number("min_p", 0.0, 1.0)?.unwrap_or(0.0);
    sampling.frequency_penalty = fields.number("frequency_penalty", -2.0, 2.0)?.unwrap_or(0.0);
    sampling.presence_penalty = fields.number("presence_penalty", -2.0, 2.0)?.unwrap_or(0.0);
    let [a, b] = ["repetition_penalty", "repeat_penalty"];
    let penalty = (fields.number(a, 0.01, 100.0)?, fields.number(b, 0.01, 100.0)?);
    sampling.repetition_penalty = match penalty {
        (Some(x), Some(y)) if x != y => {
            let message = format!("{a} and {b} are the same parameter and differ; send one");
            return Err(ApiError::invalid(b, message));
        }
        (x, y) => x.or(y).unwrap_or(1.0),
    };
    // -1 is llama.cpp's way to look at all tokens.
    sampling.repetition_window = match fields.integer("repeat_last_n", -1, i64::from(i32::MAX))? {
        None => sampling.repetition_window,
        Some(-1) => usize::MAX,
        Some(n) => n as usize,
    };
    Ok(())
}

/// `{"TOKEN": BIAS}`, as OpenAI has it.
fn logit_bias(fields: Fields<'_>) -> Result<Vec<(u32, f32)>, ApiError> {
    let Some(biases) = fields.object("logit_bias")? else { return Ok(Vec::new()) };
    if biases.len() > MAX_BIASES {
        let message = format!("logit_bias has {} tokens; at most {MAX_BIASES}", biases.len());
        return Err(ApiError::invalid("logit_bias", message));
    }
    let bias = |(token, bias): (&String, &Value)| {
        let path = format!("logit_bias.{token}");
        let id = token.trim().parse::<u32>().map_err(|_| {
            ApiError::invalid(&path, format!("{path}: the key must be the number of a token"))
        })?;
        let wanted = "a number from -100 to 100";
        let number = bias.as_f64().filter(|x| (-100.0..=100.0).contains(x));
        Ok((id, number.ok_or_else(|| wrong(&path, bias, wanted))? as f32))
    };
    biases.iter().map(bias).collect()
}

fn stops(fields: Fields<'_>) -> Result<Vec<String>, ApiError> {
    let wanted = format!("a text or an array of texts, each of 1 to {MAX_STOP_LEN} bytes");
    let stops = match fields.get("stop") {
        None => return Ok(Vec::new()),
        Some(Value::Array(stops)) => stops.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    if stops.len() > MAX_STOPS {
        let message = format!("stop has {} texts; at most {MAX_STOPS} are watched", stops.len());
        return Err(ApiError::invalid("stop", message));
    }
    let fits = |text: &&str| (1..=MAX_STOP_LEN).contains(&text.len());
    let text = |stop: &Value| stop.as_str().filter(fits).map(str::to_owned);
    stops.iter().map(|stop| text(stop).ok_or_else(|| wrong("stop", stop, &wanted))).collect()
}

/// `service_tier` of OpenAI, or `priority` of vLLM, where lower numbers are served first.
///
/// # Errors
/// When one of them is neither, or they differ.
pub fn class(fields: Fields<'_>) -> Result<Option<Class>, ApiError> {
    let tier = match fields.text("service_tier")? {
        None | Some("auto") => None,
        Some("priority") => Some(Class::Interactive),
        Some("default") => Some(Class::Default),
        Some("flex") => Some(Class::Batch),
        Some(other) => {
            let message =
                format!("service_tier is \"{other}\"; it must be auto, priority, default or flex");
            return Err(ApiError::invalid("service_tier", message));
        }
    };
    let priority = fields.integer("priority", i64::MIN, i64::MAX)?.map(|n| match n {
        ..0 => Class::Interactive,
        0 => Class::Default,
        1.. => Class::Batch,
    });
    match (tier, priority) {
        (Some(tier), Some(priority)) if tier != priority => {
            let message = format!(
                "service_tier asks for the class {} and priority for {}; send one of them",
                tier.name(),
                priority.name()
            );
            Err(ApiError::invalid("priority", message))
        }
        (tier, priority) => Ok(tier.or(priority)),
    }
}

/// The class that was asked for, or else the agent's, which is also the most urgent it may have.
///
/// # Errors
/// When it is more urgent, and requests are taken strictly.
pub fn allowed(class: Option<Class>, asked: &mut Asked) -> Result<Class, ApiError> {
    let Some(most) = asked.policy.class else { return Ok(class.unwrap_or_default()) };
    if let Some(wanted) = class.filter(|&class| class < most) {
        let warning = format!(
            "the class {} is more urgent than {}, which is the most that agent `{}` may have",
            wanted.name(),
            most.name(),
            asked.agent
        );
        asked.warn("priority", warning)?;
    }
    Ok(class.unwrap_or(most).max(most))
}

/// Who asks: the body says it, or else the header.
///
/// # Errors
/// When a name is too long or empty.
pub fn agent(fields: Fields<'_>, headers: &HeaderMap) -> Result<String, ApiError> {
    if let Some(agent) = name(fields, "agent_id")? {
        return Ok(agent.to_owned());
    }
    let Some(header) = headers.get("x-agent-id") else { return Ok(String::new()) };
    let agent = header.to_str().ok().filter(|agent| agent.len() <= MAX_NAME_LEN);
    let message = format!("X-Agent-Id must be at most {MAX_NAME_LEN} visible ASCII characters");
    agent.map(str::to_owned).ok_or_else(|| ApiError::invalid("X-Agent-Id", message))
}

/// Seeds are 64 bits, whichever sign a client gives them.
fn seed(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| integer(value).map(|seed| seed as u64))
}
