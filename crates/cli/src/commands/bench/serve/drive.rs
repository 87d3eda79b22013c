//! Sends requests when they are due, and collects their outcomes.

use super::answer;
use super::client::Client;
use crate::interrupt;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use sterna_measure::load::{Arrivals, Outcome, Prompt, Request, Vocabulary};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// What all requests of a run have in common.
pub struct Driver {
    /// Where they go.
    pub client: Client,
    /// The model they ask for.
    pub model: String,
    /// How their prompts are drawn.
    pub prompts: Prompts,
}

/// How a prompt becomes tokens or words.
#[derive(Clone, Copy, Debug)]
pub struct Prompts {
    /// Of the draws.
    pub seed: u64,
    /// Where tokens are drawn from.
    pub vocabulary: Vocabulary,
    /// Words instead of tokens.
    pub is_text: bool,
}

/// Between two looks at whether the user wants to stop.
const POLL: Duration = Duration::from_millis(100);

/// Runs all lanes at once; the outcomes are in order of sending.
///
/// # Errors
/// When the user stops it.
pub async fn run(
    driver: &Arc<Driver>,
    arrivals: Arrivals,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<Outcome>> {
    let start = driver.client.now();
    let mut lanes = JoinSet::new();
    for lane in arrivals.lanes {
        let (driver, bar) = (Arc::clone(driver), bar.clone());
        lanes.spawn(async move { driver.lane(&lane, start, &bar).await });
    }
    let mut outcomes: Vec<Outcome> = Vec::new();
    loop {
        // What still runs ends with the set.
        anyhow::ensure!(!interrupt::stopped(), "stopped; requests under way were given up");
        match timeout(POLL, lanes.join_next()).await {
            Ok(Some(lane)) => outcomes.extend(lane.expect("a lane does not panic")),
            Ok(None) => break,
            Err(_) => {}
        }
    }
    outcomes.sort_by(|a, b| a.sent.total_cmp(&b.sent));
    Ok(outcomes)
}

impl Driver {
    async fn lane(&self, lane: &[Request], start: Duration, bar: &ProgressBar) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(lane.len());
        for request in lane {
            if let Some(at) = request.at {
                sleep((start + at).saturating_sub(self.client.now())).await;
            }
            outcomes.push(self.send(request, start).await);
            bar.inc(1);
        }
        outcomes
    }

    async fn send(&self, request: &Request, start: Duration) -> Outcome {
        let transcript = self.client.complete(request.agent, self.body(request)).await;
        let sent = (transcript.sent - start).as_secs_f64();
        let seconds = (transcript.end - transcript.sent).as_secs_f64();
        Outcome::new(request, sent, seconds, answer::read(&transcript))
    }

    /// Greedy, to the last token: what llama.cpp, vLLM and Sterna all understand.
    fn body(&self, request: &Request) -> String {
        let body = json!({
            "model": self.model,
            "prompt": self.prompts.of(&request.prompt),
            "max_tokens": request.n_gen,
            "temperature": 0,
            "stream": true,
            "stream_options": {"include_usage": true},
            "ignore_eos": true,
        });
        body.to_string()
    }
}

impl Prompts {
    fn of(&self, prompt: &Prompt) -> Value {
        match self.is_text {
            true => prompt.text(self.seed).into(),
            false => self.ids(prompt).into(),
        }
    }

    /// A prompt's tokens.
    pub fn ids(&self, prompt: &Prompt) -> Vec<u32> {
        prompt.ids(self.seed, self.vocabulary)
    }
}
