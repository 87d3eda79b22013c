//! One optimizer step: gradients clipped by their common norm, then Burn's AdamW.

use crate::TrainError;
use crate::config::Schedule;
use burn::optim::{AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, SimpleOptimizer};
use burn::tensor::backend::Backend;
use burn::tensor::{ElementConversion, Tensor};
use sterna_model::{Graph, WeightId};

/// Running means of a weight's gradient and of its square, and how many steps they have seen.
#[derive(Clone, Debug)]
pub struct Moments<B: Backend> {
    /// Of the gradient.
    pub first: Tensor<B, 2>,
    /// Of its square.
    pub second: Tensor<B, 2>,
    /// Steps.
    pub time: usize,
}

/// AdamW (Loshchilov and Hutter 2019), with decay on matrices only.
pub struct Optimizer {
    with_decay: AdamW,
    without: AdamW,
    clip_norm: f64,
}

impl Optimizer {
    /// The optimizer of a schedule.
    pub fn new(schedule: &Schedule) -> Self {
        let adam = |decay: f64| {
            AdamWConfig::new()
                .with_beta_1(schedule.betas[0] as f32)
                .with_beta_2(schedule.betas[1] as f32)
                .with_epsilon(1e-8)
                .with_weight_decay(decay as f32)
                .build()
        };
        Self {
            with_decay: adam(schedule.weight_decay),
            without: adam(0.0),
            clip_norm: schedule.clip_norm,
        }
    }

    /// Moves the weights and gives the gradients' norm before clipping.
    ///
    /// # Errors
    /// When a gradient is not finite: the message names its weight. Nothing has moved then.
    pub fn step<B: Backend>(
        &self,
        graph: &Graph,
        rate: f64,
        weights: &mut [Tensor<B, 2>],
        moments: &mut [Option<Moments<B>>],
        gradients: Vec<Option<Tensor<B, 2>>>,
    ) -> Result<f64, TrainError> {
        let mut squares = 0.0;
        for (id, gradient) in gradients.iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let square = (gradient.clone() * gradient.clone()).sum().into_scalar().elem::<f64>();
            if !square.is_finite() {
                let name = &graph.decl(WeightId(id)).name;
                let problem = format!("the gradient of {name} is not finite");
                return Err(TrainError::NotFinite(problem));
            }
            squares += square;
        }
        let norm = squares.sqrt();
        let clips = self.clip_norm > 0.0 && norm > self.clip_norm;
        for (id, gradient) in gradients.into_iter().enumerate() {
            let Some(mut gradient) = gradient else { continue };
            if clips {
                gradient = gradient * (self.clip_norm / norm);
            }
            let adam = match graph.decl(WeightId(id)).role.is_matrix() {
                true => &self.with_decay,
                false => &self.without,
            };
            let state = moments[id]
                .take()
                .map(|m| AdamWState::new(AdaptiveMomentumState::new(m.time, m.first, m.second)));
            let (weight, state) = adam.step(rate, weights[id].clone(), gradient, state);
            weights[id] = weight;
            moments[id] = state.map(|s| {
                let m = s.momentum;
                Moments { first: m.moment_1, second: m.moment_2, time: m.time }
            });
        }
        Ok(norm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{matrix, numbers};
    use burn::backend::Flex;
    use sterna_model::Role;

    fn graph() -> Graph {
        let mut graph = Graph::default();
        graph.weight("up.weight", &[1, 2], Role::MlpUp, Some(0));
        graph.weight("norm.weight", &[2], Role::Norm, Some(0));
        graph
    }

    fn tensor(values: [f32; 2]) -> Tensor<Flex, 2> {
        matrix(values.to_vec(), [1, 2], &Default::default())
    }

    /// One step from ones with gradients [3, 4] and [0, 12], of norm 13.
    fn step(schedule: &Schedule) -> (f64, Vec<Vec<f32>>, Vec<Vec<f32>>) {
        let mut weights = vec![tensor([1.0, 1.0]), tensor([1.0, 1.0])];
        let mut moments = vec![None, None];
        let gradients = vec![Some(tensor([3.0, 4.0])), Some(tensor([0.0, 12.0]))];
        let optimizer = Optimizer::new(schedule);
        let norm = optimizer.step(&graph(), 0.1, &mut weights, &mut moments, gradients).unwrap();
        let first =
            moments.iter().map(|m: &Option<Moments<Flex>>| numbers(&m.as_ref().unwrap().first));
        (norm, first.collect(), weights.iter().map(numbers).collect())
    }

    fn close(found: &[f32], expected: [f32; 2]) {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}");
    }

    #[test]
    fn gradients_are_clipped_by_their_common_norm() {
        let schedule =
            |clip_norm| Schedule { clip_norm, betas: [0.9, 0.95], ..Schedule::default() };
        let (norm, first, _) = step(&schedule(0.0));
        assert!((norm - 13.0).abs() < 1e-5);
        close(&first[0], [0.3, 0.4]);
        let (norm, first, _) = step(&schedule(1.3));
        assert!((norm - 13.0).abs() < 1e-5, "told before clipping");
        close(&first[0], [0.03, 0.04]);
        close(&first[1], [0.0, 0.12]);
        close(&step(&schedule(14.0)).1[1], [0.0, 1.2]);
    }

    #[test]
    fn matrices_decay_and_vectors_do_not() {
        let schedule = Schedule { weight_decay: 0.5, clip_norm: 0.0, ..Schedule::default() };
        let (_, _, weights) = step(&schedule);
        // Adam's first step is the rate against the sign; decay takes rate x 0.5 of the weight.
        close(&weights[0], [1.0 - 0.1 - 0.05; 2]);
        close(&weights[1], [1.0, 0.9]);
    }
}
