//! What a student learns from: a teacher's logits and, when asked, its last hidden states.
//!
//! In: the `[teacher]` section and the student's tokenizer. Out: for each batch, what the teacher
//! says of it. Logits come from `runtime` through the cache of [`teacher`](crate::teacher); hidden
//! states from the teacher's own graph on the backend, in full precision.

use crate::config::Config;
use crate::forms::Batch;
use crate::matrix::matrix;
use crate::net::{Modes, Net, Results};
use crate::teacher::{CacheSettings, Statistics, Teacher};
use crate::{TrainError, init, loss};
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use std::path::Path;
use std::sync::Arc;
use sterna_model::{Graph, Model, Tokenizer};

/// A teacher that fits the student.
pub struct Tutor {
    teacher: Teacher,
    /// The teacher's graph and weights, where hidden states are wanted.
    model: Option<(Arc<Graph>, Vec<Vec<f32>>)>,
}

impl Tutor {
    /// Opens the teacher of a config; `None` without one.
    ///
    /// # Errors
    /// When it cannot be run, its vocabulary is not the student's, its context is too short, or
    /// hidden states are asked of a model of another width.
    pub fn open(
        config: &Config,
        student: &Graph,
        tokenizer: &Tokenizer,
        out: &Path,
    ) -> Result<Option<Self>, TrainError> {
        let Some(path) = &config.teacher.model else { return Ok(None) };
        let folder = config.teacher.cache.clone().unwrap_or_else(|| out.join("teacher-cache"));
        let cache = CacheSettings { folder, max_bytes: config.teacher.cache_bytes };
        let threads = (config.run.threads > 0).then_some(config.run.threads);
        let teacher = Teacher::open(path, &cache, threads)?;
        teacher.check_vocabulary(tokenizer)?;
        let refused = |problem: String| TrainError::Input(format!("{}: {problem}", path.display()));
        if teacher.vocab_len() != student.out_features() {
            let (n, m) = (teacher.vocab_len(), student.out_features());
            return Err(refused(format!("has {n} logits, the student {m}; they must be as many")));
        }
        if teacher.context_len() < config.data.seq_len {
            let n = teacher.context_len();
            return Err(refused(format!("sees only {n} tokens; give a smaller data.seq_len")));
        }
        let mut model = None;
        if config.teacher.hidden_weight > 0.0 {
            let opened = Model::open(path)?;
            let width = |graph: &Graph| {
                let last = graph.nodes.last().expect("a finished graph has nodes");
                graph.values[last.inputs[0].0].features
            };
            let (theirs, ours) = (width(&opened.graph), width(student));
            if theirs != ours {
                return Err(refused(format!(
                    "has hidden states of {theirs} features, the student of {ours}; leave out \
                     teacher.hidden_weight"
                )));
            }
            let weights = init::from_source(&opened.graph, &opened);
            model = Some((Arc::new(opened.graph.clone()), weights));
        }
        Ok(Some(Self { teacher, model }))
    }

    /// A hash of what the teacher is.
    pub fn identity(&self) -> blake3::Hash {
        self.teacher.identity()
    }

    /// What was computed and what came from the cache.
    pub fn statistics(&self) -> Statistics {
        self.teacher.statistics()
    }

    /// Sentences for the user since the last call.
    pub fn take_reports(&mut self) -> Vec<String> {
        self.teacher.take_reports()
    }
}

/// A tutor on a backend.
pub struct Lesson<'a, B: AutodiffBackend> {
    tutor: &'a mut Tutor,
    hidden: Option<Hidden<B>>,
}

/// The teacher's graph and weights on the backend.
struct Hidden<B: AutodiffBackend> {
    net: Net<B>,
    weights: Vec<Tensor<B::InnerBackend, 2>>,
}

/// What the teacher says of one batch.
pub struct Answer<B: AutodiffBackend> {
    logits: Tensor<B, 2>,
    hidden: Option<Tensor<B, 2>>,
}

impl<'a, B: AutodiffBackend> Lesson<'a, B> {
    /// Prepares a tutor for windows of `seq_len` tokens.
    ///
    /// # Errors
    /// When the teacher's graph has an op without a form.
    pub fn new(
        tutor: &'a mut Tutor,
        seq_len: usize,
        device: &B::Device,
    ) -> Result<Self, TrainError> {
        let hidden = match &tutor.model {
            None => None,
            Some((graph, weights)) => {
                let frozen = |id: sterna_model::WeightId| weights[id.0].clone();
                let net = Net::new(graph.clone(), seq_len, &frozen, Modes::default(), device)?;
                let weights = crate::trainer::tensors::<B::InnerBackend>(graph, weights, device);
                Some(Hidden { net, weights })
            }
        };
        Ok(Self { tutor, hidden })
    }

    /// What the teacher says of windows whose last token is only predicted.
    ///
    /// # Errors
    /// When the teacher cannot be run on them.
    pub fn answer(
        &mut self,
        windows: &[&[u32]],
        batch: &Batch<B::InnerBackend>,
        device: &B::Device,
    ) -> Result<Answer<B>, TrainError> {
        let inputs: Vec<&[u32]> = windows.iter().map(|w| &w[..w.len() - 1]).collect();
        let logits = self.tutor.teacher.logits(&inputs)?;
        let shape = [batch.n_sequences * batch.seq_len, self.tutor.teacher.vocab_len()];
        let logits = matrix(logits, shape, device);
        let hidden = self.hidden.as_ref().map(|Hidden { net, weights }| {
            Tensor::from_inner(net.forward_value(weights, batch, net.last_hidden()))
        });
        Ok(Answer { logits, hidden })
    }

    /// What did not go as it should.
    pub fn take_reports(&mut self) -> Vec<String> {
        self.tutor.take_reports()
    }
}

impl<B: AutodiffBackend> Answer<B> {
    /// Mixes the cross-entropy with the divergence from the teacher, as the config weighs them.
    pub fn mix(
        &self,
        config: &crate::config::Teacher,
        results: Results<B>,
        cross_entropy: Tensor<B, 1>,
    ) -> Tensor<B, 1> {
        let divergence = loss::divergence(results.logits, self.logits.clone(), config.temperature);
        let mixed = cross_entropy * (1.0 - config.weight) + divergence * config.weight;
        match &self.hidden {
            Some(hidden) => {
                let apart = loss::squared_difference(results.hidden, hidden.clone());
                mixed + apart * config.hidden_weight
            }
            None => mixed,
        }
    }
}
