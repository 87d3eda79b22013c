//! Quantization-aware distillation: a quantized model learns to answer as the original does.
//!
//! In: a model as it is stored, as it was before rounding, documents, and what a teacher says of
//! them. Out: bytes of the same length, in which codes and the blocks' factors are others; so size,
//! kernels and speed stay what they were. Codes follow gradients straight through their rounding
//! (Bengio et al. 2013), from where the original numbers lie between them; that factors are learned
//! beside them is EfficientQAT's second phase (Chen et al. 2024).

mod stored;

use crate::config::Schedule;
use crate::forms::Batch;
use crate::matrix::matrix;
use crate::net::{Backward, Modes, Net, Results};
use crate::optim::{Moments, Optimizer};
use crate::schedule::learning_rate;
use crate::{TrainError, loss};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use sterna_model::{Graph, WeightId, WeightSource};
use stored::{Part, Stored};

/// What learns, and from what.
pub struct Lessons<'a> {
    /// The graph.
    pub graph: Arc<Graph>,
    /// Its weights as they are stored.
    pub stored: &'a dyn WeightSource,
    /// The same before they were rounded.
    pub original: &'a dyn WeightSource,
    /// Documents, each a sequence of its own; the last token of each is only predicted.
    pub documents: Vec<&'a [u32]>,
    /// The teacher's logits after each token of the document of that number but its last:
    /// `[tokens - 1, vocabulary]`.
    pub teacher: &'a mut dyn FnMut(usize) -> Result<Vec<f32>, TrainError>,
}

/// Documents are read again until there are so many steps.
const MIN_STEPS: usize = 64;
/// But no more often than this.
const MAX_EPOCHS: usize = 4;
/// From so many steps on, they are of full length; fewer are shorter by the root of their part.
const FULL_STEPS: usize = 128;

/// How long, and in what steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Times that all documents are read.
    pub epochs: usize,
    /// Documents per step.
    pub batch: usize,
    /// The largest steps of factors, as parts of them.
    pub factor_rate: f64,
    /// The largest steps of what is rounded to codes, in codes.
    pub code_rate: f64,
    /// The seed of the order of documents.
    pub seed: u64,
}

impl Pace {
    /// For so many documents. Few are read again; and where steps stay few, they are smaller, since
    /// what one of them gets wrong for want of text is not made up for by the next. Measured on
    /// models of a quarter to fourteen million parameters, of 3 to 8 bits; nothing is chosen by
    /// model.
    pub fn gentle(seed: u64, n_documents: usize) -> Self {
        let once = Self { epochs: 1, batch: 4, factor_rate: 1e-3, code_rate: 4e-3, seed };
        let per_epoch = once.n_steps(n_documents).max(1);
        let epochs = MIN_STEPS.div_ceil(per_epoch).min(MAX_EPOCHS);
        let part = ((epochs * per_epoch) as f64 / FULL_STEPS as f64).sqrt().min(1.0);
        let factor_rate = part * once.factor_rate;
        Self { epochs, factor_rate, code_rate: part * once.code_rate, ..once }
    }

    /// Steps for so many documents.
    pub fn n_steps(&self, n_documents: usize) -> usize {
        self.epochs * n_documents.div_ceil(self.batch)
    }

    /// Adam without decay, since what is learned starts where it should nearly be; its steps end
    /// at nothing.
    fn schedule(&self, n_documents: usize, learning_rate: f64) -> Schedule {
        Schedule {
            steps: self.n_steps(n_documents),
            learning_rate,
            final_rate: 0.0,
            weight_decay: 0.0,
            betas: [0.9, 0.99],
            clip_norm: 0.0,
            ..Schedule::default()
        }
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Steps done.
    pub done: usize,
    /// Steps in all.
    pub of: usize,
    /// Divergence from the teacher before this step, nats per token of its documents.
    pub kl: f64,
}

/// A weight and its bytes.
pub type Learned = (WeightId, Vec<u8>);

/// Refuses graphs that cannot learn, before any work.
///
/// # Errors
/// When an op has no differentiable form.
pub fn check<B: AutodiffBackend>(graph: &Arc<Graph>, device: &B::Device) -> Result<(), TrainError> {
    // RoPE factors of any value do, since nothing is computed.
    let ones = |id: WeightId| vec![1.0; graph.decl(id).shape.iter().product()];
    Net::<B>::new(graph.clone(), 1, &ones, Modes::default(), device).map(|_| ())
}

/// Bytes that learning takes at most, about, besides the weights as they are stored.
pub fn memory_bytes(graph: &Graph, documents: &[&[u32]], pace: &Pace) -> u64 {
    // What is rounded, what it becomes, what a step and the second factor are worth, two moments;
    // and a gradient for each document of a step.
    let per_weight = 6 + pace.batch as u64;
    // A result, its gradient and what an op keeps for it.
    const PER_RESULT: usize = 4;
    let n_tokens = documents.iter().map(|document| seq_len(document)).max().unwrap_or(0);
    let n_results: usize = graph.values.iter().map(|value| value.features).sum();
    let of_results = n_tokens * pace.batch * n_results * PER_RESULT;
    let numbers = graph.n_parameters() * per_weight + of_results as u64;
    numbers * size_of::<f32>() as u64
}

/// Learns on a backend, and gives the weights that are others now. `watch` is told of each step,
/// and says how many there are to be in all, at most those of the pace: rates end at nothing then.
///
/// # Errors
/// As [`check`], when the teacher has nothing to say, or numbers stop being finite.
pub fn learn<B: AutodiffBackend>(
    lessons: Lessons<'_>,
    pace: &Pace,
    device: &B::Device,
    watch: &mut dyn FnMut(Step) -> usize,
) -> Result<Vec<Learned>, TrainError> {
    let Lessons { graph, stored, original, documents, teacher } = lessons;
    let classes = Classes::<B>::of(&graph, stored, &documents, device)?;
    let n_documents = documents.len();
    let mut pupil = Pupil::<B> {
        weights: graph.weight_ids().map(|id| Stored::new(id, stored, original, device)).collect(),
        factors: Course::new(pace.schedule(n_documents, pace.factor_rate), &graph),
        codes: Course::new(pace.schedule(n_documents, pace.code_rate), &graph),
    };
    let mut random = StdRng::seed_from_u64(pace.seed);
    let mut order: Vec<usize> = (0..n_documents).collect();
    let per_epoch = n_documents.div_ceil(pace.batch).max(1);
    let most = pace.n_steps(n_documents);
    let (mut n_steps, mut step) = (most, 0);
    while step < n_steps {
        if step % per_epoch == 0 {
            order.shuffle(&mut random);
        }
        let read = order.chunks(pace.batch).nth(step % per_epoch).expect("within an epoch");
        let said = read.iter().map(|&document| teacher(document));
        let said = said.collect::<Result<Vec<_>, _>>()?;
        let read: Vec<&[u32]> = read.iter().map(|&document| documents[document]).collect();
        let kl = pupil.step(&classes, &graph, step, &read, said)?;
        step += 1;
        n_steps = watch(Step { done: step, of: n_steps, kl }).min(most);
        pupil.end_at(n_steps);
    }
    let bytes = |id: WeightId| Some((id, pupil.weights[id.0].bytes(&stored.weight(id))?));
    Ok(graph.weight_ids().filter_map(bytes).collect())
}

/// Lengths that documents are filled up to, behind, where nothing before looks.
const LEN_STEP: usize = 32;

/// The graph for documents of each length.
struct Classes<B: AutodiffBackend> {
    nets: BTreeMap<usize, Net<B>>,
    device: B::Device,
}

impl<B: AutodiffBackend> Classes<B> {
    fn of(
        graph: &Arc<Graph>,
        stored: &dyn WeightSource,
        documents: &[&[u32]],
        device: &B::Device,
    ) -> Result<Self, TrainError> {
        let mut nets = BTreeMap::new();
        for seq_len in documents.iter().map(|document| seq_len(document)) {
            if let Entry::Vacant(place) = nets.entry(seq_len) {
                let frozen = |id: WeightId| stored.weight(id).to_f32();
                let net = Net::new(graph.clone(), seq_len, &frozen, Modes::default(), device)?;
                place.insert(net.stored_as(&|id| stored.encoding(id)));
            }
        }
        Ok(Self { nets, device: device.clone() })
    }

    /// The divergence of one document from what the teacher said of it, and gradients, as parts of
    /// what a step reads; `part` is the document's.
    fn one(
        &self,
        document: &[u32],
        said: Vec<f32>,
        part: f64,
        seen: &[Tensor<B::InnerBackend, 2>],
    ) -> Result<Backward<B>, TrainError> {
        let seq_len = seq_len(document);
        let net = &self.nets[&seq_len];
        let inputs = document.split_last().map_or(&[][..], |(_, inputs)| inputs);
        let mut ids: Vec<i32> = inputs.iter().map(|&token| token as i32).collect();
        ids.resize(seq_len, 0);
        let tokens = Tensor::from_data(TensorData::new(ids, [seq_len]), &self.device);
        let batch = Batch { tokens, n_sequences: 1, seq_len };
        let shape = [inputs.len(), said.len() / inputs.len().max(1)];
        let said = matrix::<B>(said, shape, &self.device);
        let back = net.backward(seen, &batch, &|results: Results<B>| {
            let logits = results.logits.narrow(0, 0, inputs.len());
            loss::divergence(logits, said.clone(), 1.0) * part
        });
        if back.loss.is_finite() {
            return Ok(back);
        }
        let node = net.first_not_finite(seen, &batch).unwrap_or("the divergence itself");
        Err(TrainError::NotFinite(format!("numbers are not finite, first so in {node}")))
    }
}

fn seq_len(document: &[u32]) -> usize {
    document.len().saturating_sub(1).next_multiple_of(LEN_STEP).max(LEN_STEP)
}

/// What is learned, and how.
struct Pupil<B: AutodiffBackend> {
    weights: Vec<Stored<B::InnerBackend>>,
    factors: Course<B>,
    codes: Course<B>,
}

/// How one part of all weights moves.
struct Course<B: AutodiffBackend> {
    schedule: Schedule,
    optimizer: Optimizer,
    moments: Vec<Option<Moments<B::InnerBackend>>>,
}

impl<B: AutodiffBackend> Course<B> {
    fn new(schedule: Schedule, graph: &Graph) -> Self {
        let (optimizer, moments) = (Optimizer::new(&schedule), vec![None; graph.weights.len()]);
        Self { schedule, optimizer, moments }
    }
}

impl<B: AutodiffBackend> Pupil<B> {
    /// Has rates end at so many steps.
    fn end_at(&mut self, n_steps: usize) {
        self.factors.schedule.steps = n_steps;
        self.codes.schedule.steps = n_steps;
    }

    /// One step, from some documents and what the teacher said of them; the divergence before it.
    fn step(
        &mut self,
        classes: &Classes<B>,
        graph: &Graph,
        step: usize,
        read: &[&[u32]],
        said: Vec<Vec<f32>>,
    ) -> Result<f64, TrainError> {
        let seen: Vec<_> = self.weights.iter().map(Stored::seen).collect();
        let n_scored = |document: &[u32]| document.len().saturating_sub(1);
        let n_all: usize = read.iter().map(|document| n_scored(document)).sum();
        // Each document by itself, so that any number of threads makes the same sums.
        let one = |document: &[u32], said: Vec<f32>| {
            let part = n_scored(document) as f64 / n_all.max(1) as f64;
            classes.one(document, said, part, &seen)
        };
        // Not on the pool's threads: a tape is locked while its products wait for that pool, where
        // another document would wait for the tape.
        let backs: Result<Vec<_>, _> = std::thread::scope(|scope| {
            let read = read.iter().zip(said);
            let begun: Vec<_> =
                read.map(|(document, said)| scope.spawn(|| one(document, said))).collect();
            begun.into_iter().map(|thread| thread.join().expect("no document panics")).collect()
        });
        let at = |error| TrainError::NotFinite(format!("step {}: {error}", step + 1));
        let back = backs.map_err(at)?.into_iter().reduce(Backward::plus).expect("a document");
        drop(seen);
        // Both gradients are of where both parts are now.
        let mut of_parts = (Vec::new(), Vec::new());
        for (weight, gradient) in self.weights.iter().zip(back.gradients) {
            let gradients = gradient.and_then(|gradient| weight.gradients(gradient)).unzip();
            of_parts.0.push(gradients.0);
            of_parts.1.push(gradients.1);
        }
        let courses = [(Part::Factors, of_parts.0), (Part::Codes, of_parts.1)];
        for (part, gradients) in courses {
            let course = match part {
                Part::Factors => &mut self.factors,
                Part::Codes => &mut self.codes,
            };
            let rate = learning_rate(&course.schedule, step);
            let mut values: Vec<_> = self.weights.iter().map(|weight| weight.get(part)).collect();
            course.optimizer.step(graph, rate, &mut values, &mut course.moments, gradients)?;
            self.weights.iter_mut().zip(values).for_each(|(weight, v)| weight.set(part, v));
        }
        Ok(back.loss)
    }
}
