//! `linear`: one input through N matrices.

use super::Inputs;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use sterna_model::ops::Linear;

pub fn forward<B: Backend>(from: &Inputs<'_, B>) -> Vec<Tensor<B, 2>> {
    let op: &Linear = from.op();
    let x = from.x();
    let output = |n: usize| {
        let y = x.clone().matmul(from.weights[n].clone().transpose());
        match op.bias_of(n) {
            Some(bias) => y + from.weights[bias].clone(),
            None => y,
        }
    };
    (0..op.n_outputs()).map(output).collect()
}
