//! One model in a process of its own: the child's side of a validation.
//!
//! In: requests, one line of JSON each, on standard input. Out: one line of JSON per answer. The
//! process opens its model when asked to, so that its memory can be read before. It ends with its
//! input, so it never outlives the process that started it.

use super::text::Text;
use crate::compute::ComputeArgs;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use sterna_formats::OpenOptions;
use sterna_measure::clock::{Clock, RealClock};
use sterna_measure::memory::{Process, own, peak_rss, pss};
use sterna_measure::quality::{Scores, score};
use sterna_measure::report::WorkloadSummary;
use sterna_model::Model;
use sterna_optimize::runner::Running;
use sterna_runtime::settings::PAGE_LEN;
use sterna_runtime::{Chunk, Logits, Program, Runner, SequenceId};

/// Sequences of the largest batch.
pub const MAX_BATCH: usize = 32;

/// What the parent asks.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// The process's PSS now: a figure.
    Memory,
    /// What of it is no file's: a figure.
    Own,
    /// The process's greatest RSS so far: a figure.
    Peak,
    /// Opens and prepares the model: [`Ready`].
    Load,
    /// Runs some work once: seconds.
    Run(Work),
    /// Times generated tokens one by one at batch 1: milliseconds.
    Tokens {
        /// Tokens before the first that is timed.
        n_prompt: usize,
        /// Tokens to time.
        n_generate: usize,
    },
    /// Scores a text: [`Scored`].
    Score(Text),
}

/// Sequences that are prompted, or generate after an untimed prompt.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Work {
    /// Sequences.
    pub batch: usize,
    /// Prompt tokens of each.
    pub n_prompt: usize,
    /// Tokens that each generates; 0 times the prompt instead.
    pub n_generate: usize,
}

/// What a loaded model runs on.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ready {
    /// Threads in use.
    pub n_threads: usize,
    /// The kernels.
    pub isa: String,
}

/// A text's scores and what it was.
#[derive(Debug, Serialize, Deserialize)]
pub struct Scored {
    /// Passage by passage.
    pub scores: Scores,
    /// The text.
    pub workload: WorkloadSummary,
}

/// Answers requests until there are no more.
///
/// # Errors
/// When the pipes break; what a request cannot do is an answer.
pub fn serve(path: &Path, compute: &ComputeArgs) -> anyhow::Result<()> {
    let mut subject = None;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let answer = answer(&line?, path, compute, &mut subject).map_err(|e| format!("{e:#}"));
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        out.flush()?;
    }
    Ok(())
}

fn answer(
    line: &str,
    path: &Path,
    compute: &ComputeArgs,
    subject: &mut Option<Subject>,
) -> anyhow::Result<serde_json::Value> {
    let request: Request = serde_json::from_str(line)?;
    if let Request::Memory = request {
        return Ok(serde_json::to_value(pss(Process::Own)?)?);
    }
    if let Request::Own = request {
        return Ok(serde_json::to_value(own(Process::Own)?)?);
    }
    if let Request::Peak = request {
        return Ok(serde_json::to_value(peak_rss(Process::Own)?)?);
    }
    if let Request::Load = request {
        let loaded = subject.insert(Subject::open(path, compute)?);
        return Ok(serde_json::to_value(loaded.ready())?);
    }
    let subject = subject.as_mut().context("no model is loaded yet")?;
    Ok(match request {
        Request::Run(work) => serde_json::to_value(subject.run(work)?)?,
        Request::Tokens { n_prompt, n_generate } => {
            serde_json::to_value(subject.time_tokens(n_prompt, n_generate)?)?
        }
        Request::Score(text) => serde_json::to_value(subject.score(&text)?)?,
        Request::Memory | Request::Own | Request::Peak | Request::Load => {
            unreachable!("answered above")
        }
    })
}

struct Subject {
    model: Model,
    running: Running,
    clock: RealClock,
}

impl Subject {
    fn open(path: &Path, compute: &ComputeArgs) -> anyhow::Result<Self> {
        let options = OpenOptions { tokenizer: compute.tokenizer.clone() };
        let model = Model::open_with(path, &options)?;
        let mut settings = compute.settings(model.config.context_len)?;
        settings.kv_positions = Some(settings.context_len.max(MAX_BATCH * PAGE_LEN));
        // Packed anew each time: weights shared through a file would be counted by halves.
        let program = Program::compile(&model.graph, &model, &settings, None)?;
        let running = Running::new(Runner::new(Arc::new(program))?);
        Ok(Self { model, running, clock: RealClock::new() })
    }

    fn ready(&mut self) -> Ready {
        let program = self.running.runner().program();
        Ready { n_threads: program.n_workers(), isa: program.level().name().to_owned() }
    }

    fn vocabulary(&mut self) -> usize {
        self.running.runner().program().vocabulary()
    }

    /// Seconds that the work takes.
    fn run(&mut self, work: Work) -> anyhow::Result<f64> {
        let vocabulary = self.vocabulary();
        // Any tokens do: the work does not depend on them. A fixed stride keeps runs alike.
        let token = |s: usize, i: usize| ((s * 31 + i * 7919) % vocabulary) as u32;
        let prompts: Vec<Vec<u32>> =
            (0..work.batch).map(|s| (0..work.n_prompt).map(|i| token(s, i)).collect()).collect();
        let runner = self.running.runner();
        let sequences: Vec<SequenceId> = (0..work.batch).map(|_| runner.new_sequence()).collect();
        let prompt = chunks(&sequences, &prompts, work.n_prompt);
        let step = chunks(&sequences, &prompts, 1);
        let mut start = self.clock.now();
        let mut outcome = runner.forward(&prompt).map(|_| ());
        if work.n_generate > 0 {
            start = self.clock.now();
        }
        for _ in 0..work.n_generate {
            outcome = outcome.and_then(|()| runner.forward(&step).map(|_| ()));
        }
        let seconds = (self.clock.now() - start).as_secs_f64();
        for sequence in sequences {
            runner.free(sequence)?;
        }
        outcome?;
        Ok(seconds)
    }

    /// Milliseconds of each generated token.
    fn time_tokens(&mut self, n_prompt: usize, n_generate: usize) -> anyhow::Result<Vec<f64>> {
        let vocabulary = self.vocabulary();
        let prompt: Vec<u32> = (0..n_prompt).map(|i| (i * 7919 % vocabulary) as u32).collect();
        let runner = self.running.runner();
        let sequence = runner.new_sequence();
        let mut times = Vec::with_capacity(n_generate);
        let mut outcome = runner
            .forward(&[Chunk { sequence, tokens: &prompt, logits: Logits::Last }])
            .map(|_| ());
        for i in 0..n_generate {
            let start = self.clock.now();
            let tokens = &[((n_prompt + i) * 7919 % vocabulary) as u32];
            let chunk = Chunk { sequence, tokens, logits: Logits::Last };
            outcome = outcome.and_then(|()| runner.forward(&[chunk]).map(|_| ()));
            times.push((self.clock.now() - start).as_secs_f64() * 1e3);
        }
        runner.free(sequence)?;
        outcome?;
        Ok(times)
    }

    fn score(&mut self, text: &Text) -> anyhow::Result<Scored> {
        let passages = text.passages(self.model.tokenizer()?)?;
        let scores = score(&mut self.running, &passages)?;
        Ok(Scored { scores, workload: WorkloadSummary::from(passages.workload()) })
    }
}

/// The first tokens of each sequence's prompt.
fn chunks<'a>(sequences: &[SequenceId], prompts: &'a [Vec<u32>], n: usize) -> Vec<Chunk<'a>> {
    let pairs = sequences.iter().zip(prompts);
    pairs
        .map(|(&sequence, prompt)| Chunk { sequence, tokens: &prompt[..n], logits: Logits::Last })
        .collect()
}
