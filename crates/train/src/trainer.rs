//! The loop: batches in, steps done, checkpoints and a curve left behind.
//!
//! In: a [`Job`] (graph, first weights, corpus, config) and somebody who watches. Out: the trained
//! weights with the held-out loss. What a step does depends on config, data and step number alone,
//! so a resumed run computes what an unbroken one would have, to the bit on one CPU thread.

mod curve;
mod identity;
mod resume;

pub use curve::{CURVE, Point};

use crate::config::Config;
use crate::data::{Corpus, Windows};
use crate::distill::{Lesson, Tutor};
use crate::forms::Batch;
use crate::matrix::{matrix, numbers};
use crate::net::{Backward, Modes, Results};
use crate::optim::{Moments, Optimizer};
use crate::quant::Quantizer;
use crate::schedule::learning_rate;
use crate::state::Progress;
use crate::{Net, TrainError, loss};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{ElementConversion, Int, Tensor, TensorData};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use sterna_measure::clock::Clock;
use sterna_model::{Graph, WeightId};

/// What is to be trained.
pub struct Job<'a> {
    /// The graph.
    pub graph: Arc<Graph>,
    /// The weights to start from, in its order.
    pub weights: Vec<Vec<f32>>,
    /// The text.
    pub corpus: &'a Corpus,
    /// Everything else.
    pub config: &'a Config,
    /// The folder of checkpoints and curve; without one, nothing is kept.
    pub out: Option<&'a Path>,
    /// Tells the time.
    pub clock: &'a dyn Clock,
}

/// What the watcher is told.
pub enum Event<'a> {
    /// Something to know, e.g. that a damaged checkpoint was passed over.
    Note(String),
    /// The run goes on from a checkpoint.
    Resumed(usize),
    /// A step is done.
    Step(&'a Point),
    /// A checkpoint is on disk.
    Saved(&'a Path),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// All steps are done.
    Finished,
    /// The held-out loss stopped falling.
    EarlyStopped,
    /// The watcher asked to stop; the state is saved.
    Interrupted,
}

/// What a run leaves.
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// The trained weights, full precision.
    pub weights: Vec<Vec<f32>>,
    /// The curve.
    pub curve: Vec<Point>,
    /// Mean held-out nats per token over the whole held-out text.
    pub held_out: f64,
    /// Tokens that `held_out` is the mean of.
    pub held_out_tokens: usize,
    /// Steps done.
    pub steps: usize,
}

/// A run in progress.
struct Trainer<'a, B: AutodiffBackend> {
    job: &'a Job<'a>,
    device: B::Device,
    net: Net<B>,
    lesson: Option<Lesson<'a, B>>,
    quantizer: Quantizer,
    optimizer: Optimizer,
    windows: Windows,
    weights: Vec<Tensor<B::InnerBackend, 2>>,
    moments: Vec<Option<Moments<B::InnerBackend>>>,
    /// The weights of the best held-out loss, where the run may stop early.
    best: Option<Vec<Tensor<B::InnerBackend, 2>>>,
    progress: Progress,
    curve: Vec<Point>,
    last_saved: Option<PathBuf>,
}

/// Trains on a backend. `watch` gives `false` to stop. A run that stops early gives the weights of
/// its best held-out loss.
///
/// # Errors
/// When the config does not fit the graph, numbers stop being finite, or a file cannot be written.
pub fn train<B: AutodiffBackend>(
    job: &Job<'_>,
    tutor: Option<&mut Tutor>,
    device: &B::Device,
    watch: &mut dyn FnMut(Event<'_>) -> bool,
) -> Result<Outcome, TrainError> {
    let mut trainer = Trainer::<B>::new(job, tutor, device.clone())?;
    trainer.resume(watch)?;
    let end = trainer.run(watch)?;
    if let Some(best) = trainer.best.take().filter(|_| end == End::EarlyStopped) {
        trainer.weights = best;
    }
    let (held_out, held_out_tokens) = trainer.evaluate(usize::MAX)?;
    Ok(Outcome {
        end,
        weights: trainer.weights.iter().map(numbers).collect(),
        held_out,
        held_out_tokens,
        steps: trainer.progress.step,
        curve: trainer.curve,
    })
}

impl<'a, B: AutodiffBackend> Trainer<'a, B> {
    fn new(
        job: &'a Job<'a>,
        tutor: Option<&'a mut Tutor>,
        device: B::Device,
    ) -> Result<Self, TrainError> {
        let config = job.config;
        let frozen = |id: WeightId| job.weights[id.0].clone();
        let (graph, seq_len) = (job.graph.clone(), config.data.seq_len);
        let (checkpointing, precision) = (config.run.checkpointing, config.run.precision);
        let modes = Modes { checkpointing, precision };
        let quantizer = Quantizer::new(&config.quantize, &job.graph)?;
        let net = Net::new(graph, seq_len, &frozen, modes, &device)?
            .stored_as(&|id| quantizer.encoding(id));
        let weights = tensors::<B::InnerBackend>(&job.graph, &job.weights, &device);
        let content = identity::content(job, tutor.as_deref());
        // What a teacher said of a window can be used again when it comes again.
        let shifts = tutor.is_none();
        let lesson = tutor.map(|tutor| Lesson::new(tutor, seq_len, &device)).transpose()?;
        Ok(Self {
            lesson,
            net,
            quantizer,
            optimizer: Optimizer::new(&config.schedule),
            windows: Windows::new(job.corpus.train.len(), seq_len, config.run.seed, shifts),
            moments: vec![None; weights.len()],
            weights,
            best: None,
            progress: Progress {
                config: identity::decisions(config),
                content,
                ..Progress::default()
            },
            curve: Vec::new(),
            last_saved: None,
            device,
            job,
        })
    }

    fn run(&mut self, watch: &mut dyn FnMut(Event<'_>) -> bool) -> Result<End, TrainError> {
        let (schedule, run) = (&self.job.config.schedule, &self.job.config.run);
        let before = self.progress.seconds;
        let start = self.job.clock.now();
        while self.progress.step < schedule.steps {
            if self.is_exhausted() {
                return Ok(End::EarlyStopped);
            }
            let mut point = self.step()?;
            let done = self.progress.step;
            let last = done == schedule.steps;
            if !last && run.eval_every > 0 && done.is_multiple_of(run.eval_every) {
                let held_out = self.evaluate(run.eval_windows)?.0;
                self.remember(held_out);
                point.held_out = Some(held_out);
            }
            self.progress.seconds = before + (self.job.clock.now() - start).as_secs_f64();
            point.seconds = self.progress.seconds;
            self.curve.push(point.clone());
            for report in self.lesson.iter_mut().flat_map(Lesson::take_reports) {
                watch(Event::Note(report));
            }
            let go_on = watch(Event::Step(&point));
            let saves = run.save_every > 0 && done.is_multiple_of(run.save_every);
            let is_due = saves || last || self.is_exhausted() || !go_on;
            if let Some(out) = self.job.out.filter(|_| is_due) {
                let path = self.save(out)?;
                watch(Event::Saved(&path));
            }
            if !go_on && !last {
                return Ok(End::Interrupted);
            }
        }
        Ok(End::Finished)
    }

    /// One optimizer step.
    fn step(&mut self) -> Result<Point, TrainError> {
        let schedule = &self.job.config.schedule;
        let step = self.progress.step;
        let seen = self.seen(step as f64 / schedule.steps as f64);
        let mut sum: Option<Backward<B>> = None;
        for micro in 0..schedule.accumulate {
            let first = (step * schedule.accumulate + micro) * schedule.batch;
            let starts: Vec<usize> =
                (first..first + schedule.batch).map(|index| self.windows.start(index)).collect();
            let len = self.job.config.data.seq_len;
            let window = |&start: &usize| &self.job.corpus.train[start..=start + len];
            let windows: Vec<&[u32]> = starts.iter().map(window).collect();
            let (batch, targets) = self.batch(&windows);
            let targets = Tensor::<B, 2, Int>::from_inner(targets);
            let answer = match &mut self.lesson {
                Some(lesson) => Some(lesson.answer(&windows, &batch, &self.device)?),
                None => None,
            };
            let of = |results: Results<B>| {
                let (logits, smoothing) = (results.logits.clone(), schedule.label_smoothing);
                let own = loss::cross_entropy(logits, targets.clone(), smoothing);
                match &answer {
                    Some(answer) => answer.mix(&self.job.config.teacher, results, own),
                    None => own,
                }
            };
            let back = self.net.backward(&seen, &batch, &of);
            if !back.loss.is_finite() {
                let node = self.net.first_not_finite(&seen, &batch);
                let node = node.unwrap_or("the loss itself");
                let problem = format!("the loss is not finite, first so in {node}");
                return Err(self.not_finite(&problem));
            }
            sum = Some(match sum {
                Some(sum) => sum.plus(back),
                None => back,
            });
        }
        let Backward { loss, gradients: mut sum } = sum.expect("the config asks for one at least");
        if schedule.accumulate > 1 {
            let part = 1.0 / schedule.accumulate as f64;
            sum.iter_mut().for_each(|g| *g = g.take().map(|g| g * part));
        }
        let rate = learning_rate(schedule, step);
        let (weights, moments) = (&mut self.weights, &mut self.moments);
        let moved = self.optimizer.step(&self.job.graph, rate, weights, moments, sum);
        let norm = moved.map_err(|error| self.not_finite(&error.to_string()))?;
        self.progress.step += 1;
        let loss = loss / schedule.accumulate as f64;
        Ok(Point { step: step + 1, loss, rate, norm, held_out: None, seconds: 0.0 })
    }

    /// The weights as the forward pass sees them.
    fn seen(&self, progress: f64) -> Vec<Tensor<B::InnerBackend, 2>> {
        let one = |(id, weight): (usize, &Tensor<B::InnerBackend, 2>)| {
            if !self.quantizer.applies(WeightId(id)) {
                return weight.clone();
            }
            let [rows, cols] = weight.dims();
            let values = self.quantizer.apply(WeightId(id), &numbers(weight), cols, progress);
            matrix(values, [rows, cols], &self.device)
        };
        self.weights.iter().enumerate().map(one).collect()
    }

    /// Mean held-out nats per token over at most so many windows, and how many tokens they have.
    /// Weights are seen as they will be stored.
    fn evaluate(&self, limit: usize) -> Result<(f64, usize), TrainError> {
        let seen = self.seen(1.0);
        let windows = self.job.corpus.held_out_windows(self.job.config.data.seq_len, limit);
        let (mut sum, mut n) = (0.0, 0);
        for windows in windows.chunks(self.job.config.schedule.batch) {
            let (batch, targets) = self.batch(windows);
            let logits = self.net.forward(&seen, &batch);
            let rows = batch.n_sequences * batch.seq_len;
            let mean = loss::cross_entropy(logits, targets, 0.0).into_scalar().elem::<f64>();
            sum += mean * rows as f64;
            n += rows;
        }
        let mean = sum / n as f64;
        match mean.is_finite() {
            true => Ok((mean, n)),
            false => Err(self.not_finite("the held-out loss is not finite")),
        }
    }

    /// Windows of `seq_len + 1` tokens as inputs and targets `[rows, 1]`.
    fn batch(
        &self,
        windows: &[&[u32]],
    ) -> (Batch<B::InnerBackend>, Tensor<B::InnerBackend, 2, Int>) {
        let seq_len = self.job.config.data.seq_len;
        let rows = windows.len() * seq_len;
        let ids = |from: usize| -> TensorData {
            let of = |w: &&[u32]| w[from..from + seq_len].iter().map(|&t| t as i32).collect();
            let ids: Vec<i32> = windows.iter().flat_map(|w| -> Vec<i32> { of(w) }).collect();
            TensorData::new(ids, [rows])
        };
        let tokens = Tensor::<B::InnerBackend, 1, Int>::from_data(ids(0), &self.device);
        let targets = Tensor::<B::InnerBackend, 1, Int>::from_data(ids(1), &self.device);
        (Batch { tokens, n_sequences: windows.len(), seq_len }, targets.reshape([rows, 1]))
    }

    /// Counts evaluations without a better loss, and keeps the weights of the best.
    fn remember(&mut self, loss: f64) {
        if self.progress.best.is_none_or(|best| loss < best) {
            self.progress.best = Some(loss);
            self.progress.stale = 0;
            let may_stop = self.job.config.schedule.early_stopping > 0;
            self.best = may_stop.then(|| self.weights.clone());
        } else {
            self.progress.stale += 1;
        }
    }

    /// Whether so many evaluations were no better that the run stops.
    fn is_exhausted(&self) -> bool {
        let limit = self.job.config.schedule.early_stopping;
        limit > 0 && self.progress.stale >= limit
    }

    /// What went wrong, in which weight, and where to go back to.
    fn not_finite(&self, problem: &str) -> TrainError {
        let is_bad = |w: &Tensor<B::InnerBackend, 2>| numbers(w).iter().any(|x| !x.is_finite());
        let first = self.weights.iter().position(is_bad);
        let place = first.map_or("all weights are still finite".to_owned(), |id| {
            format!("the first weight that is not finite is {}", self.job.graph.weights[id].name)
        });
        let back = match &self.last_saved {
            Some(path) => format!("the last good checkpoint is {}", path.display()),
            None => "there is no checkpoint yet".into(),
        };
        TrainError::NotFinite(format!(
            "step {}: {problem}; {place}; {back}; try a smaller schedule.learning_rate or a \
             longer schedule.warmup",
            self.progress.step + 1
        ))
    }
}

/// Plain numbers as tensors, vectors as one row.
pub(crate) fn tensors<B: Backend>(
    graph: &Graph,
    weights: &[Vec<f32>],
    device: &B::Device,
) -> Vec<Tensor<B, 2>> {
    let one = |(decl, values): (&sterna_model::WeightDecl, &Vec<f32>)| {
        let (rows, cols) = decl.matrix();
        matrix(values.clone(), [rows, cols], device)
    };
    graph.weights.iter().zip(weights).map(one).collect()
}
