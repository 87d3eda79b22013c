//! Gradients against finite differences, with and without checkpointing.

use crate::common::*;
use burn::tensor::{Int, Tensor, TensorData};
use std::sync::Arc;
use sterna_model::ops::{Activations, Linear};
use sterna_model::{Graph, WeightId};
use sterna_train::backend::Cpu;
use sterna_train::forms::Precision;
use sterna_train::net::{Modes, Results};
use sterna_train::{Net, loss};

struct Case {
    graph: Arc<Graph>,
    values: Vec<Vec<f32>>,
    net: Net<Cpu>,
    checkpointed: Net<Cpu>,
    mixed: Net<Cpu>,
    targets: Tensor<Cpu, 2, Int>,
}

const SHAPE: (usize, usize) = (2, 10);

fn case(graph: Graph) -> Case {
    let graph = Arc::new(graph);
    let values = weights(&graph, 3);
    let frozen = |id: WeightId| values[id.0].clone();
    let net = |checkpointing, precision| {
        let modes = Modes { checkpointing, precision };
        Net::<Cpu>::new(graph.clone(), SHAPE.1, &frozen, modes, &Default::default()).unwrap()
    };
    let rows = SHAPE.0 * SHAPE.1;
    let vocab = graph.out_features();
    let targets: Vec<i32> = (0..rows).map(|i| ((i * 11 + 5) % vocab) as i32).collect();
    let targets = Tensor::from_data(TensorData::new(targets, [rows, 1]), &Default::default());
    let (f32, bf16) = (Precision::F32, Precision::Bf16);
    let (net, checkpointed, mixed) = (net(false, f32), net(true, f32), net(false, bf16));
    Case { graph, values, net, checkpointed, mixed, targets }
}

impl Case {
    fn gradients(&self, net: &Net<Cpu>) -> (f64, Vec<Option<Vec<f32>>>) {
        let (_, batch) = batch(SHAPE.0, SHAPE.1, self.graph.out_features());
        let of = |r: Results<Cpu>| loss::cross_entropy(r.logits, self.targets.clone(), 0.1);
        let back = net.backward(&tensors(&self.graph, &self.values), &batch, &of);
        let numbers = |g: Tensor<Plain, 2>| g.to_data().into_vec::<f32>().unwrap();
        (back.loss, back.gradients.into_iter().map(|g| g.map(numbers)).collect())
    }

    fn loss(&self, values: &[Vec<f32>]) -> f64 {
        let (_, batch) = batch(SHAPE.0, SHAPE.1, self.graph.out_features());
        let logits = self.net.forward(&tensors(&self.graph, values), &batch);
        let logits = Tensor::<Cpu, 2>::from_inner(logits);
        let loss = loss::cross_entropy(logits, self.targets.clone(), 0.1);
        f64::from(loss.into_scalar())
    }

    /// The slope of the loss along a unit direction of one weight.
    fn slope(&self, id: usize, direction: &[f32]) -> f64 {
        let step = 2e-2;
        let moved = |sign: f32| {
            let mut values = self.values.clone();
            values[id].iter_mut().zip(direction).for_each(|(v, d)| *v += sign * step * d);
            self.loss(&values)
        };
        (moved(1.0) - moved(-1.0)) / (2.0 * f64::from(step))
    }
}

fn unit(mut direction: Vec<f32>) -> Vec<f32> {
    let norm = direction.iter().map(|d| d * d).sum::<f32>().sqrt();
    direction.iter_mut().for_each(|d| *d /= norm.max(1e-20));
    direction
}

// proves B-4 (gradient check): every op of every architecture. Where a layer rounds its input, the
// check is of the layer without; what goes through the rounding is tested beside it.
#[test]
fn gradients_pass_a_finite_difference_check() {
    for (name, graph) in graphs() {
        let case = case(smooth(graph));
        let (_, gradients) = case.gradients(&case.net);
        for (id, gradient) in gradients.iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let weight = &case.graph.weights[id].name;
            // Along the gradient, and along a direction that has a part of everything.
            let mixed = |i: usize| gradient[i].signum() * (1.0 + (i % 5) as f32);
            let directions =
                [unit(gradient.clone()), unit((0..gradient.len()).map(mixed).collect())];
            for direction in directions {
                let expected: f64 =
                    gradient.iter().zip(&direction).map(|(&g, &d)| f64::from(g * d)).sum();
                let found = case.slope(id, &direction);
                let close = (found - expected).abs() < 0.02 * expected.abs() + 2e-4;
                assert!(close, "{name} {weight}: {found} found, {expected} computed");
            }
        }
        assert!(gradients.iter().flatten().count() > 10, "{name} has gradients");
    }
}

/// The graph with float activations: rounding has no slope to compare with.
fn smooth(mut graph: Graph) -> Graph {
    for node in &mut graph.nodes {
        if let Some(linear) = node.op.as_any().downcast_ref::<Linear>() {
            let activations = Activations::Float;
            node.op = Arc::new(Linear { activations, ..linear.clone() });
        }
    }
    graph
}

// proves B-6
#[test]
fn checkpointing_changes_no_bit_of_a_gradient() {
    for (name, graph) in graphs() {
        let case = case(graph);
        assert!(case.checkpointed.n_segments() > 3, "{name} is cut");
        let (loss, whole) = case.gradients(&case.net);
        let (loss_again, parts) = case.gradients(&case.checkpointed);
        assert_eq!(loss.to_bits(), loss_again.to_bits(), "{name}");
        for (id, (a, b)) in whole.iter().zip(&parts).enumerate() {
            assert_eq!(a, b, "{name} {}", case.graph.weights[id].name);
        }
    }
}

#[test]
fn bf16_products_give_nearly_the_same_gradients() {
    for (name, graph) in graphs() {
        let case = case(smooth(graph));
        let (loss, exact) = case.gradients(&case.net);
        let (mixed_loss, mixed) = case.gradients(&case.mixed);
        assert!((loss - mixed_loss).abs() < 0.01 * loss, "{name}: {loss} and {mixed_loss}");
        assert_ne!(loss.to_bits(), mixed_loss.to_bits(), "{name}: something is rounded");
        for (id, (a, b)) in exact.iter().zip(&mixed).enumerate() {
            let (Some(a), Some(b)) = (a, b) else { continue };
            let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
            assert!(cosine > 0.99, "{name} {}: cosine {cosine}", case.graph.weights[id].name);
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}
