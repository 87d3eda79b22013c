//! A workload played through the engine in virtual time.
//!
//! In: a workload, an engine's limits and the cost of batches. Out: what `bench serve` would sum
//! up, by the same arithmetic, and what the machine did meanwhile.

use super::Promise;
use super::bottleneck::{Bottleneck, Waited};
use crate::commands::bench::serve::workload::Workload;
use crate::show::bad_input;
use std::sync::Arc;
use std::time::Duration;
use sterna_engine::{Due, EngineError, Limits, Played, Rehearsal, Run, Stop, Work};
use sterna_measure::capacity::{BatchCost, BatchShape};
use sterna_measure::load::{
    Answer, Arrivals, Chunk, End, Failure, Outcome, Request, Summary, Usage,
};
use sterna_model::Tokenizer;
use sterna_runtime::SamplerSettings;

/// What a client beside the server takes to see the end of an answer and to ask again. It only
/// decides that the next request misses the batch that begins meanwhile, as it does over a socket.
const TURNAROUND: Duration = Duration::from_millis(1);

/// What predictions have in common.
pub struct Predictor<'a> {
    /// Of the engine.
    pub limits: Limits,
    /// The model's.
    pub tokenizer: Arc<Tokenizer>,
    /// What is sent.
    pub workload: &'a Workload,
    /// What batches take.
    pub cost: &'a BatchCost,
    /// What must hold.
    pub promise: Promise,
}

/// What so many agents would get.
pub struct Prediction {
    /// How many.
    pub n_agents: usize,
    /// As `bench serve` sums up.
    pub summary: Summary,
    /// The share of the time in which batches are computed.
    pub busy: f64,
    /// The most pages that sequences in work hold at once.
    pub pages_peak: usize,
    /// Times that a request gave way.
    pub preemptions: u64,
    /// What the slowest requests waited for.
    pub bottleneck: Bottleneck,
}

/// Refuses a workload with a request that the engine would refuse.
///
/// # Errors
/// For the first such request.
pub fn check(workload: &Workload, limits: &Limits) -> anyhow::Result<()> {
    let seed = workload.seed_of(0);
    for lane in dues(workload, seed, &Arrivals::of(&workload.traffic, seed)?) {
        for due in lane {
            limits.check(&due.request).map_err(refusal)?;
        }
    }
    Ok(())
}

fn refusal(why: EngineError) -> anyhow::Error {
    bad_input(match why {
        EngineError::ContextLength { prompt_tokens, max_tokens, context_len } => format!(
            "a request of this workload has {prompt_tokens} tokens and generates {max_tokens}, but \
             a sequence has {context_len} at most here; send shorter ones (--prefix-tokens, \
             --own-tokens, --gen-tokens, --token-scale), or raise --ctx-size or --kv-size"
        ),
        EngineError::Invalid(why) => format!("{why}; --vocab says which tokens are sent"),
        other => other.to_string(),
    })
}

impl Predictor<'_> {
    /// Plays the workload with so many agents.
    ///
    /// # Errors
    /// When there are more requests than a run may have.
    pub fn predict(&self, n_agents: usize) -> anyhow::Result<Prediction> {
        let workload = self.workload.with_agents(n_agents);
        let seed = workload.seed_of(0);
        let arrivals = Arrivals::of(&workload.traffic, seed)?;
        let cost = |work: &Work| self.cost.time(&shape(work));
        let tokenizer = self.tokenizer.clone();
        let mut rehearsal = Rehearsal::new(self.limits, tokenizer, &cost, TURNAROUND);
        let warm_up = Arrivals { lanes: vec![arrivals.warm_up(workload.n_warm_up)] };
        rehearsal.play(dues(&workload, seed, &warm_up));
        let run = rehearsal.play(dues(&workload, seed, &arrivals));
        let requests = waited(&arrivals, &run, workload.timeout);
        let outcomes: Vec<Outcome> = requests.iter().map(|r| r.outcome.clone()).collect();
        Ok(Prediction {
            n_agents,
            summary: Summary::of(&[&outcomes], Some(self.promise.slo)),
            busy: run.busy.as_secs_f64() / run.wall.as_secs_f64().max(f64::MIN_POSITIVE),
            pages_peak: run.pages_peak,
            preemptions: run.preemptions,
            bottleneck: Bottleneck::of(&requests, self.promise, run.preemptions),
        })
    }
}

impl Prediction {
    /// The share of requests within all limits.
    pub fn share(&self) -> f64 {
        self.summary.goodput.map_or(1.0, |goodput| goodput.share)
    }

    /// Whether enough of them are.
    pub fn is_met(&self, promise: Promise) -> bool {
        self.share() >= promise.share
    }
}

/// The requests as the server would hand them to its engine.
fn dues(workload: &Workload, seed: u64, arrivals: &Arrivals) -> Vec<Vec<Due>> {
    let prompts = workload.prompts(seed);
    let due = |request: &Request| Due {
        at: request.at,
        request: sterna_engine::Request {
            prompt: prompts.ids(&request.prompt),
            max_tokens: request.n_gen,
            sampling: SamplerSettings::greedy(),
            stop: Stop { ignore_eos: true, ..Stop::default() },
            agent: format!("agent-{}", request.agent),
            ..sterna_engine::Request::default()
        },
    };
    arrivals.lanes.iter().map(|lane| lane.iter().map(due).collect()).collect()
}

fn shape(work: &Work) -> BatchShape {
    BatchShape {
        prompt_rows: work.prompt_rows,
        decode_rows: work.decode_rows,
        prompt_positions: work.prompt_positions,
        decode_positions: work.decode_positions,
        pages: work.prompt_pages + work.decode_pages,
        logit_rows: work.logit_rows,
        copies: work.copies,
    }
}

/// What came of each request, and what it waited for.
fn waited(arrivals: &Arrivals, run: &Run, timeout: Duration) -> Vec<Waited> {
    let requests = arrivals.lanes.iter().flatten();
    let waited = requests.zip(run.lanes.iter().flatten()).map(|(request, played)| Waited {
        outcome: outcome(request, played, timeout),
        before_first: played.before_first,
        after_first: played.after_first,
    });
    waited.collect()
}

fn outcome(request: &Request, played: &Played, timeout: Duration) -> Outcome {
    let took = played.end - played.sent;
    let end = match &played.answer {
        Err(why @ EngineError::QueueFull { .. }) => {
            End::Failed(Failure::Status { code: 503, retry_after: None, message: why.to_string() })
        }
        Err(why) => End::Failed(Failure::Server { message: why.to_string() }),
        Ok(_) if took > timeout => End::Failed(Failure::Timeout),
        Ok(finished) => {
            let chunk = |at: &Duration| Chunk {
                at: (*at - played.sent).as_secs_f64(),
                n_tokens: 1,
                is_visible: true,
            };
            let chunks: Vec<Chunk> = played.tokens.iter().map(chunk).collect();
            let usage = Usage {
                n_prompt: Some(finished.prompt_tokens),
                n_cached: Some(finished.cached_tokens),
                n_generated: Some(finished.new_tokens),
            };
            let answer = Answer::of(&chunks, usage, took.as_secs_f64());
            answer.map_or(End::Failed(Failure::NoToken), End::Answered)
        }
    };
    Outcome::new(request, played.sent.as_secs_f64(), took.as_secs_f64(), end)
}

#[cfg(test)]
mod tests;
