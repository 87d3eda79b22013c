//! `layer_norm`: each row moved to mean 0 and variance 1, scaled and shifted.

use super::Inputs;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use sterna_model::ops::LayerNorm;

pub fn forward<B: Backend>(from: &Inputs<'_, B>) -> Vec<Tensor<B, 2>> {
    let op: &LayerNorm = from.op();
    let x = from.x();
    let moved = x.clone() - x.mean_dim(1);
    let variance = (moved.clone() * moved.clone()).mean_dim(1);
    let scale = (variance + op.eps).sqrt().recip();
    vec![moved * scale * from.weights[0].clone() + from.weights[1].clone()]
}
