//! Gradients against finite differences, with and without checkpointing.

use crate::common::*;
use burn::tensor::{Int, Tensor, TensorData};
use std::sync::Arc;
use sterna_model::{Graph, WeightId};
use sterna_train::backend::Cpu;
use sterna_train::net::Results;
use sterna_train::{Net, loss};

struct Case {
    graph: Arc<Graph>,
    values: Vec<Vec<f32>>,
    net: Net<Cpu>,
    checkpointed: Net<Cpu>,
    targets: Tensor<Cpu, 2, Int>,
}

const SHAPE: (usize, usize) = (2, 10);

fn case(graph: Graph) -> Case {
    let graph = Arc::new(graph);
    let values = weights(&graph, 3);
    let frozen = |id: WeightId| values[id.0].clone();
    let net = |checkpoint| {
        Net::<Cpu>::new(graph.clone(), SHAPE.1, &frozen, checkpoint, &Default::default()).unwrap()
    };
    let rows = SHAPE.0 * SHAPE.1;
    let vocab = graph.out_features();
    let targets: Vec<i32> = (0..rows).map(|i| ((i * 11 + 5) % vocab) as i32).collect();
    let targets = Tensor::from_data(TensorData::new(targets, [rows, 1]), &Default::default());
    let (net, checkpointed) = (net(false), net(true));
    Case { graph, values, net, checkpointed, targets }
}

impl Case {
    fn gradients(&self, net: &Net<Cpu>) -> (f32, Vec<Option<Vec<f32>>>) {
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

// proves B-4: the gradients that straight-through estimation hands on are those of the loss.
#[test]
fn gradients_pass_a_finite_difference_check() {
    for (name, graph) in graphs().into_iter().filter(|(_, g)| is_smooth(g)) {
        let case = case(graph);
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

/// Rounding has no slope to compare with; its gradient is defined, and tested in `quant`.
fn is_smooth(graph: &Graph) -> bool {
    let rounds = |node: &sterna_model::Node| {
        let linear = node.op.as_any().downcast_ref::<sterna_model::ops::Linear>();
        linear.is_some_and(|l| l.activations != sterna_model::ops::Activations::Float)
    };
    !graph.nodes.iter().any(rounds)
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
