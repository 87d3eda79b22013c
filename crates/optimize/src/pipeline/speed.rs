//! How fast the artifact is beside its baseline: interleaved runs of both.

use crate::engine::Loaded;
use crate::error::Result;
use crate::evidence::times::{ITL, RUNS, Runs, TTFT, Times, Tokens};
use crate::progress::{Stage, Watch};
use std::time::Duration;
use sterna_measure::compare::{self, timed};
use sterna_measure::quality::{Passage, Passages};
use sterna_measure::{Clock, MeasureError, stats};

/// How long to compare.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Rounds of each comparison at most; four runs each. 0 leaves the comparison out.
    pub max_rounds: usize,
    /// Prompt tokens of a prefill run.
    pub n_prompt: usize,
    /// Tokens of the prompt of a timed first token.
    pub n_first: usize,
    /// Tokens of a decode run.
    pub n_generate: usize,
    /// Requests whose tokens are timed one by one, per model; 0 leaves that out.
    pub n_requests: usize,
    /// How long each comparison may take, about; there are [`MIN_ROUNDS`] in any case.
    pub max_time: Duration,
}

/// Fewer rounds give no interval.
const MIN_ROUNDS: usize = stats::MIN_SAMPLES_MEDIAN_INTERVAL;

impl Default for Effort {
    fn default() -> Self {
        Self {
            max_rounds: 30,
            n_prompt: 128,
            n_first: 32,
            n_generate: 32,
            n_requests: 24,
            max_time: Duration::MAX,
        }
    }
}

impl Effort {
    /// Leaves speed out; its figures say so.
    pub fn none() -> Self {
        Self { max_rounds: 0, ..Self::default() }
    }

    /// The rounds that the time allows, where both models together take `each` for one run.
    pub(super) fn rounds(&self, each: Duration) -> usize {
        let fitting = self.max_time.as_secs_f64() / (2.0 * each.as_secs_f64()).max(1e-9);
        (fitting as usize).max(MIN_ROUNDS).min(self.max_rounds)
    }
}

/// Compares a baseline and an artifact.
pub fn measure(
    baseline: &mut dyn Loaded,
    artifact: &mut dyn Loaded,
    tokens: &[u32],
    effort: Effort,
    clock: &dyn Clock,
    watch: Watch<'_>,
) -> Result<Times> {
    let mut times = Times::default();
    if effort.max_rounds == 0 {
        return Ok(times);
    }
    let room = baseline.context_len().min(artifact.context_len());
    let n_prompt = effort.n_prompt.min(room / 2).min(tokens.len()).max(1);
    let n_generate = effort.n_generate.min(room.saturating_sub(n_prompt + 1)).max(2);
    for (name, n_prompt, n_generate) in
        [(RUNS[0], n_prompt, 0), (RUNS[1], 8.min(n_prompt), n_generate)]
    {
        watch.step(Stage::Verify, 2, 5, &format!("comparing {name} speed"))?;
        let prompt = &tokens[..n_prompt];
        let start = clock.now();
        cost(baseline, prompt, n_generate, watch).map_err(failed)?;
        cost(artifact, prompt, n_generate, watch).map_err(failed)?;
        let max_rounds = effort.rounds(clock.now() - start);
        let settings = compare::Settings {
            n_warmup: 1,
            max_rounds,
            min_rounds: max_rounds.min(10),
            ..compare::Settings::default()
        };
        let comparison = compare::compare(
            &mut timed(clock, || cost(baseline, prompt, n_generate, watch)),
            &mut timed(clock, || cost(artifact, prompt, n_generate, watch)),
            &settings,
        );
        // A stop inside of a run comes back as its failure.
        watch.check()?;
        let comparison = comparison?;
        times.runs.push(Runs {
            name: name.into(),
            n_prompt,
            n_generate,
            baseline: comparison.a.raw().to_vec(),
            artifact: comparison.b.raw().to_vec(),
        });
    }
    if effort.n_requests == 0 {
        return Ok(times);
    }
    let prompt = &prompt(tokens, effort.n_first.min(room / 2).max(1));
    times.tokens = time_tokens([baseline, artifact], prompt, n_generate, effort, clock, watch)?;
    Ok(times)
}

/// The longest passage: what speeds are measured on.
pub fn tokens(text: &Passages) -> &[u32] {
    let longest = text.iter().max_by_key(|passage: &&Passage| passage.tokens.len());
    &longest.expect("a text has passages").tokens
}

/// So many tokens of a text, from its start again where it is shorter.
pub fn prompt(tokens: &[u32], n: usize) -> Vec<u32> {
    tokens.iter().copied().cycle().take(n).collect()
}

/// Runs a model once: a prompt, and what is generated after it.
pub(super) fn cost(
    model: &mut dyn Loaded,
    prompt: &[u32],
    n: usize,
    watch: Watch<'_>,
) -> std::result::Result<(), String> {
    watch.check().map_err(|e| e.to_string())?;
    match n {
        0 => model.score(prompt, &mut |_, _| {}),
        n => model.generate(prompt, n, &mut || {}),
    }
}

/// A run's failure.
pub(super) fn failed(why: String) -> MeasureError {
    MeasureError::Failed { what: "generating".into(), why }
}

/// Times every token of some requests, the models taking turns, each after a request that is not
/// timed: as long as a model runs alone, what fits in a cache stays there.
fn time_tokens(
    models: [&mut dyn Loaded; 2],
    prompt: &[u32],
    n: usize,
    effort: Effort,
    clock: &dyn Clock,
    watch: Watch<'_>,
) -> Result<Vec<Tokens>> {
    let mut gaps = [Vec::new(), Vec::new()];
    let mut firsts = [Vec::new(), Vec::new()];
    let start = clock.now();
    for round in 0..effort.n_requests {
        if round >= 2 && clock.now() - start > effort.max_time {
            break;
        }
        watch.step(Stage::Verify, 3, 5, "timing tokens one by one")?;
        for turn in 0..2 {
            let who = (round + turn) % 2;
            // The other model's weights are in the caches: one request has them leave.
            models[who].generate(prompt, n, &mut || {}).map_err(failed)?;
            let mut times: Vec<Duration> = vec![clock.now()];
            let mut note = || times.push(clock.now());
            models[who].generate(prompt, n, &mut note).map_err(failed)?;
            let ms = |pair: &[Duration]| (pair[1] - pair[0]).as_secs_f64() * 1e3;
            let mut spans = times.windows(2).map(ms);
            firsts[who].extend(spans.next());
            gaps[who].extend(spans);
        }
    }
    let tokens = |name: &str, method: String, [baseline, artifact]: [Vec<f64>; 2]| Tokens {
        name: name.into(),
        method,
        baseline,
        artifact,
    };
    let first = format!("first token after {} of prompt", prompt.len());
    Ok(vec![tokens(TTFT, first, firsts), tokens(ITL, "time between tokens".into(), gaps)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_follow_the_time_that_one_takes() {
        let effort = Effort { max_time: Duration::from_secs(10), ..Effort::default() };
        let rounds = |ms| effort.rounds(Duration::from_millis(ms));
        assert_eq!((rounds(0), rounds(100), rounds(250), rounds(60_000)), (30, 30, 20, 6));
        assert_eq!(Effort::default().rounds(Duration::from_secs(60)), 30);
    }
}
