//! `embedding`: rows of the table.

use super::Inputs;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

pub fn forward<B: Backend>(from: &Inputs<'_, B>) -> Vec<Tensor<B, 2>> {
    vec![from.weights[0].clone().select(0, from.batch.tokens.clone())]
}
