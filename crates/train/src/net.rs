//! A graph on a backend: forward, loss and gradients, whole or in segments.
//!
//! In: a graph, its weights as tensors, a batch. Out: the result, or the loss with one gradient per
//! trained weight. Segments (gradient checkpointing) keep only the values between them and compute
//! the rest a second time on the way back: the same gradients from less memory.

mod segments;

use crate::TrainError;
use crate::forms::{self, Batch, ConstantsFrom, Form, Inputs, Precision};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use segments::{last_use, live_after, segments};
use std::ops::Range;
use std::sync::Arc;
use sterna_formats::EncodingRef;
use sterna_model::{Graph, Node, Role, ValueId, WeightId};

/// A graph that can be trained.
pub struct Net<B: AutodiffBackend> {
    graph: Arc<Graph>,
    forms: Vec<Form<B>>,
    /// Per node; none of them is on a tape.
    constants: Vec<Vec<Tensor<B, 2>>>,
    segments: Vec<Range<usize>>,
    /// The last node that reads each value.
    last_use: Vec<usize>,
    precision: Precision,
    /// Per node, whether its matrices are stored in blocks.
    is_block_encoded: Vec<bool>,
}

/// How a graph is computed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Modes {
    /// In segments, whose inner values are computed twice instead of kept.
    pub checkpointing: bool,
    /// The numbers of matrix products.
    pub precision: Precision,
}

/// A loss with its gradients.
pub struct Backward<B: AutodiffBackend> {
    /// The loss, in the unit of the loss function.
    pub loss: f64,
    /// One per weight of the graph, in its order; `None` for those that are not trained.
    pub gradients: Vec<Option<Tensor<B::InnerBackend, 2>>>,
}

impl<B: AutodiffBackend> Backward<B> {
    /// Of the sum of two losses.
    pub fn plus(self, other: Self) -> Self {
        let sum = |(a, b): (Option<Tensor<_, 2>>, Option<Tensor<_, 2>>)| match (a, b) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        let gradients = self.gradients.into_iter().zip(other.gradients).map(sum).collect();
        Self { loss: self.loss + other.loss, gradients }
    }
}

/// What a loss is made of.
pub struct Results<B: Backend> {
    /// The graph's result, `[rows, vocabulary]`.
    pub logits: Tensor<B, 2>,
    /// What the last node read, `[rows, features]`.
    pub hidden: Tensor<B, 2>,
}

/// Values that are known, by their id.
type Values<B> = Vec<Option<Tensor<B, 2>>>;

impl<B: AutodiffBackend> Net<B> {
    /// Prepares a graph for sequences of `seq_len` tokens. `frozen` has the numbers of the weights
    /// that are not trained (RoPE factors).
    ///
    /// # Errors
    /// When it is an encoder, an op has no differentiable form, or the device not the precision.
    pub fn new(
        graph: Arc<Graph>,
        seq_len: usize,
        frozen: &dyn Fn(WeightId) -> Vec<f32>,
        modes: Modes,
        device: &B::Device,
    ) -> Result<Self, TrainError> {
        modes.precision.check::<B>(device)?;
        if graph.is_encoder() {
            let why = "it encodes texts, and what is learned here is to predict the next token";
            return Err(TrainError::Input(why.into()));
        }
        let (mut all_forms, mut constants) = (vec![], vec![]);
        for node in &graph.nodes {
            let form = forms::by_op::<B>(&*node.op).ok_or_else(|| {
                let known = forms::forms::<B>().iter().map(|f| f.op).collect::<Vec<_>>();
                TrainError::Input(format!(
                    "{} is a {}, which cannot be trained; trainable are {}",
                    node.name,
                    node.op.name(),
                    known.join(", ")
                ))
            })?;
            let plain_values: Vec<Vec<f32>> = node
                .weights
                .iter()
                .filter(|&&w| !is_trained(graph.decl(w).role))
                .map(|&w| frozen(w))
                .collect();
            let weights: Vec<&[f32]> = plain_values.iter().map(Vec::as_slice).collect();
            let features: Vec<usize> =
                node.inputs.iter().map(|v| graph.values[v.0].features).collect();
            let from = ConstantsFrom {
                op: &*node.op,
                features: &features,
                seq_len,
                weights: &weights,
                device,
            };
            constants.push((form.constants)(&from));
            all_forms.push(form);
        }
        let last_use = last_use(&graph);
        let segments = segments(&graph, &last_use, modes.checkpointing);
        let is_block_encoded = vec![false; graph.nodes.len()];
        let precision = modes.precision;
        Ok(Self {
            graph,
            forms: all_forms,
            constants,
            segments,
            last_use,
            precision,
            is_block_encoded,
        })
    }

    /// Computes as the runtime will with weights stored in these encodings: where they are blocks,
    /// the input of their layer is rounded.
    pub fn stored_as(mut self, encoding: &dyn Fn(WeightId) -> EncodingRef) -> Self {
        let first =
            |node: &Node| node.weights.first().is_some_and(|&w| encoding(w).block_len() > 1);
        self.is_block_encoded = self.graph.nodes.iter().map(first).collect();
        self
    }

    /// How many segments the graph is cut into; one without checkpointing.
    pub fn n_segments(&self) -> usize {
        self.segments.len()
    }

    /// The result `[rows, features]` without gradients.
    pub fn forward(
        &self,
        weights: &[Tensor<B::InnerBackend, 2>],
        batch: &Batch<B::InnerBackend>,
    ) -> Tensor<B::InnerBackend, 2> {
        let output = self.graph.output.expect("a finished graph has an output");
        self.forward_value(weights, batch, output)
    }

    /// [`Net::forward`] for any value of the graph, e.g. the last hidden state.
    pub fn forward_value(
        &self,
        weights: &[Tensor<B::InnerBackend, 2>],
        batch: &Batch<B::InnerBackend>,
        wanted: ValueId,
    ) -> Tensor<B::InnerBackend, 2> {
        let mut values = vec![None; self.graph.values.len()];
        let writes = |n: &usize| self.graph.nodes[*n].outputs.contains(&wanted);
        let end = (0..self.graph.nodes.len()).find(writes).expect("a node writes it") + 1;
        self.run(0..end, &self.leaves(weights, &(0..0)), &lift(batch), &mut values, &[wanted]);
        values[wanted.0].take().expect("just computed").inner()
    }

    /// The name of the first node whose result is not finite, to be told when a loss is not.
    pub fn first_not_finite(
        &self,
        weights: &[Tensor<B::InnerBackend, 2>],
        batch: &Batch<B::InnerBackend>,
    ) -> Option<&str> {
        let (leaves, batch) = (self.leaves(weights, &(0..0)), lift(batch));
        let mut values = vec![None; self.graph.values.len()];
        for (n, node) in self.graph.nodes.iter().enumerate() {
            self.run(n..n + 1, &leaves, &batch, &mut values, &[]);
            let is_finite = |value: &Tensor<B, 2>| {
                value.clone().inner().abs().sum().into_scalar_f32().is_finite()
            };
            if !node.outputs.iter().filter_map(|v| values[v.0].as_ref()).all(is_finite) {
                return Some(&node.name);
            }
        }
        None
    }

    /// The value that the last node reads: the last hidden state of a language model.
    pub fn last_hidden(&self) -> ValueId {
        self.graph.nodes.last().expect("a finished graph has nodes").inputs[0]
    }

    /// The loss and the gradients of the trained weights. `loss` gets the [`Results`] and gives one
    /// number; numbers that are not finite are the caller's to find.
    pub fn backward(
        &self,
        weights: &[Tensor<B::InnerBackend, 2>],
        batch: &Batch<B::InnerBackend>,
        loss: &dyn Fn(Results<B>) -> Tensor<B, 1>,
    ) -> Backward<B> {
        let output = self.graph.output.expect("a finished graph has an output");
        let batch = lift(batch);
        let boundaries = self.boundaries(weights, &batch);
        let mut gradients = vec![None; weights.len()];
        let mut loss_value = 0.0;
        let mut upstream: Option<Tensor<B::InnerBackend, 2>> = None;
        for (n, range) in self.segments.iter().enumerate().rev() {
            let leaves: Vec<Tensor<B, 2>> = self.leaves(weights, range);
            let mut values: Values<B> = vec![None; self.graph.values.len()];
            let entry = boundaries[n].as_ref().map(|(id, value)| {
                let value = Tensor::<B, 2>::from_inner(value.clone()).require_grad();
                values[id.0] = Some(value.clone());
                value
            });
            let exit = boundaries.get(n + 1).and_then(Option::as_ref).map_or(output, |b| b.0);
            let hidden = self.last_hidden();
            self.run(range.clone(), &leaves, &batch, &mut values, &[exit, hidden]);
            let result = values[exit.0].take().expect("the segment writes its exit");
            let objective = match upstream.take() {
                None => {
                    let hidden = values[hidden.0].take().expect("the last segment reads it");
                    let objective = loss(Results { logits: result, hidden });
                    loss_value = f64::from(objective.clone().inner().into_scalar_f32());
                    objective
                }
                // The gradient of <result, upstream> is what the chain rule asks for, exactly.
                Some(upstream) => (result * Tensor::from_inner(upstream)).sum(),
            };
            let mut tape = objective.backward();
            for weight in self.trained_in(range) {
                let Some(gradient) = leaves[weight.0].grad_remove(&mut tape) else { continue };
                let sum = match gradients[weight.0].take() {
                    Some(sum) => sum + gradient,
                    None => gradient,
                };
                gradients[weight.0] = Some(sum);
            }
            upstream = entry.and_then(|entry| entry.grad_remove(&mut tape));
        }
        Backward { loss: loss_value, gradients }
    }

    /// The value that enters each segment (none enters the first), from one pass without a tape: by
    /// the same forms, so that its bits are those of the pass with one.
    fn boundaries(
        &self,
        weights: &[Tensor<B::InnerBackend, 2>],
        batch: &Batch<B>,
    ) -> Vec<Option<(ValueId, Tensor<B::InnerBackend, 2>)>> {
        let mut boundaries = vec![None];
        let weights = self.leaves(weights, &(0..0));
        let mut values: Values<B> = vec![None; self.graph.values.len()];
        for range in &self.segments[..self.segments.len() - 1] {
            let exit = live_after(&self.graph, &self.last_use, range.end - 1)[0];
            self.run(range.clone(), &weights, batch, &mut values, &[exit]);
            let value = values[exit.0].clone().expect("the segment writes its exit");
            boundaries.push(Some((exit, value.inner())));
        }
        boundaries
    }

    /// The weights as tensors whose gradient is wanted where this segment reads them.
    fn leaves(
        &self,
        weights: &[Tensor<B::InnerBackend, 2>],
        range: &Range<usize>,
    ) -> Vec<Tensor<B, 2>> {
        let trained: Vec<WeightId> = self.trained_in(range);
        let leaf = |(id, w): (usize, &Tensor<B::InnerBackend, 2>)| {
            let leaf = Tensor::from_inner(w.clone());
            if trained.contains(&WeightId(id)) { leaf.require_grad() } else { leaf }
        };
        weights.iter().enumerate().map(leaf).collect()
    }

    fn trained_in(&self, range: &Range<usize>) -> Vec<WeightId> {
        let mut ids: Vec<WeightId> = self.graph.nodes[range.clone()]
            .iter()
            .flat_map(|node| node.weights.iter().copied())
            .filter(|&w| is_trained(self.graph.decl(w).role))
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Runs some nodes; values that nothing reads any more are dropped, but for `keep`.
    fn run(
        &self,
        range: Range<usize>,
        weights: &[Tensor<B, 2>],
        batch: &Batch<B>,
        values: &mut Values<B>,
        keep: &[ValueId],
    ) {
        for n in range {
            let node = &self.graph.nodes[n];
            let reads = node.inputs.iter().filter(|&&v| v != Graph::TOKENS);
            let read = |v: &ValueId| values[v.0].clone().expect("written before it is read");
            let inputs: Vec<Tensor<B, 2>> = reads.clone().map(read).collect();
            for &value in reads {
                if self.last_use[value.0] <= n && !keep.contains(&value) {
                    values[value.0] = None;
                }
            }
            let node_weights: Vec<Tensor<B, 2>> =
                node.weights.iter().map(|w| weights[w.0].clone()).collect();
            let outputs = (self.forms[n].forward)(&Inputs {
                op: &*node.op,
                batch,
                values: &inputs,
                weights: &node_weights,
                constants: &self.constants[n],
                precision: self.precision,
                is_block_encoded: self.is_block_encoded[n],
            });
            for (id, output) in node.outputs.iter().zip(outputs) {
                values[id.0] = Some(output);
            }
        }
    }
}

/// A batch for the backend with gradients.
fn lift<B: AutodiffBackend>(batch: &Batch<B::InnerBackend>) -> Batch<B> {
    Batch {
        tokens: Tensor::from_inner(batch.tokens.clone()),
        n_sequences: batch.n_sequences,
        seq_len: batch.seq_len,
    }
}

/// Whether weights of this role are trained.
pub fn is_trained(role: Role) -> bool {
    role != Role::RopeFactors
}

/// Scalars of any float width as f32.
trait ScalarF32 {
    fn into_scalar_f32(self) -> f32;
}

impl<B: Backend> ScalarF32 for Tensor<B, 1> {
    fn into_scalar_f32(self) -> f32 {
        use burn::tensor::ElementConversion;
        self.into_scalar().elem::<f32>()
    }
}
