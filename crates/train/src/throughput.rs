//! How fast a config trains, measured on random tokens: the work does not depend on them.
//!
//! In: a [`Config`] and a vocabulary. Out: seconds of each step, CPU time, peak memory. Nothing is
//! written. The peak is the process's, so each measurement wants a process of its own.

use crate::config::Config;
use crate::data::Corpus;
use crate::trainer::{Event, Job};
use crate::{TrainError, backend, init, quant, shape};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use sterna_measure::clock::Clock;
use sterna_measure::memory::{Process, peak_rss};
use sterna_model::Graph;
use sterna_model::ops::{Attention, Linear};

/// Steps before the first that counts: memory is mapped and threads are started in them.
const N_WARM_UP: usize = 2;

/// What was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Throughput {
    /// Parameters that are trained.
    pub n_parameters: usize,
    /// Tokens of one optimizer step.
    pub tokens_per_step: usize,
    /// Floating point operations of one step's matrix products, there and back: what checkpointing
    /// computes again does not count.
    pub flops_per_step: f64,
    /// Seconds of each step by the wall clock.
    pub step_seconds: Vec<f64>,
    /// CPU seconds of all threads per step, mean over the steps.
    pub cpu_seconds_per_step: f64,
    /// The most memory the process ever had, where the system says it.
    pub peak_bytes: Option<f64>,
}

/// Trains a config's shape for `n_steps` steps that count. `cpu` tells the process's CPU time.
///
/// # Errors
/// When the config asks for what a measurement has not (a model to start from, a teacher), or does
/// not fit together.
pub fn measure(
    config: &Config,
    vocab_len: usize,
    n_steps: usize,
    wall: &dyn Clock,
    cpu: &dyn Clock,
) -> Result<Throughput, TrainError> {
    backend::check(&config.run)?;
    for (key, is_given) in [
        ("model.init", config.model.init.is_some()),
        ("teacher.model", config.teacher.model.is_some()),
    ] {
        if is_given {
            let fix = "leave it out, and name a preset or a shape";
            return Err(TrainError::Input(format!("{key} is not part of a measurement; {fix}")));
        }
    }
    let mut config = config.clone();
    config.schedule.steps = N_WARM_UP + n_steps;
    (config.run.eval_every, config.run.save_every) = (0, 0);
    let (_, _, graph) = shape::graph(&config, &mut |_| vocab_len)?;
    quant::complete(&mut config.quantize, &graph);
    let graph = Arc::new(graph);
    let tokens_per_step = config.data.seq_len * config.schedule.batch * config.schedule.accumulate;
    let corpus = random_corpus(vocab_len, config.data.seq_len);
    let weights = init::random(&graph, config.run.seed);
    let job = Job {
        graph: graph.clone(),
        weights,
        corpus: &corpus,
        config: &config,
        out: None,
        clock: wall,
    };
    let (mut at, mut cpu_at) = (Vec::new(), Vec::new());
    let mut peak_bytes = None;
    backend::train(&job, None, &mut |event| {
        if let Event::Step(_) = event {
            at.push(wall.now().as_secs_f64());
            cpu_at.push(cpu.now().as_secs_f64());
            peak_bytes = peak_rss(Process::Own).ok().and_then(|figure| figure.value());
        }
        true
    })?;
    let (at, cpu_at) = (&at[N_WARM_UP - 1..], &cpu_at[N_WARM_UP - 1..]);
    Ok(Throughput {
        n_parameters: graph.n_parameters() as usize,
        tokens_per_step,
        flops_per_step: flops_per_token(&graph, config.data.seq_len) * tokens_per_step as f64,
        step_seconds: at.windows(2).map(|pair| pair[1] - pair[0]).collect(),
        cpu_seconds_per_step: (cpu_at[n_steps] - cpu_at[0]) / n_steps as f64,
        peak_bytes,
    })
}

/// A fixed stride through the vocabulary keeps runs alike.
fn random_corpus(vocab_len: usize, seq_len: usize) -> Corpus {
    let tokens = |n: usize| (0..n).map(|i| (i * 7919 % vocab_len) as u32).collect();
    let held_out = tokens(seq_len + 1);
    Corpus { train: tokens((64 * seq_len).max(1 << 16)), held_out }
}

/// Two per multiplication and addition, once forward and twice back (to inputs and to weights).
/// Attention counts the whole square of queries and keys, which training computes.
fn flops_per_token(graph: &Graph, seq_len: usize) -> f64 {
    let mut macs = 0;
    for node in &graph.nodes {
        if node.op.as_any().is::<Linear>() {
            let matrices = node.weights.iter().map(|&w| graph.decl(w).matrix());
            macs += matrices.filter(|m| m.0 > 1).map(|(rows, cols)| rows * cols).sum::<usize>();
        } else if let Some(op) = node.op.as_any().downcast_ref::<Attention>() {
            macs += 2 * op.n_heads * op.head_dim * seq_len;
        }
    }
    6.0 * macs as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use sterna_measure::clock::SimulatedClock;
    use sterna_measure::level::Level;

    #[test]
    fn a_measurement_counts_steps_tokens_and_operations() {
        let settings = ["model.layers=1", "data.seq_len=16", "schedule.batch=2"];
        let settings = settings.map(str::to_owned);
        let config = Config::read(Level::Development, None, &settings).unwrap();
        let clock = SimulatedClock::default();
        let found = measure(&config, 256, 3, &clock, &clock).unwrap();
        assert_eq!((found.step_seconds.len(), found.tokens_per_step), (3, 32));
        // Four square matrices, three of the MLP, the head; scores and mix of 256 features.
        let macs = 4 * 256 * 256 + 3 * 256 * 512 + 256 * 256 + 2 * 256 * 16;
        assert_eq!(found.flops_per_step, 6.0 * f64::from(macs) * 32.0);
        assert!(found.peak_bytes.is_none_or(|bytes| bytes > 1e6));
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let settings = ["teacher.model=x.gguf".to_owned()];
        let config = Config::read(Level::Development, None, &settings).unwrap();
        let clock = SimulatedClock::default();
        let error = measure(&config, 256, 1, &clock, &clock).unwrap_err().to_string();
        assert!(error.starts_with("teacher.model is not part"), "{error}");
    }
}
