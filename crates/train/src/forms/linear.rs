//! `linear`: one input through N matrices.

use super::Inputs;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use sterna_model::ops::{Activations, Linear};

pub fn forward<B: Backend>(from: &Inputs<'_, B>) -> Vec<Tensor<B, 2>> {
    let op: &Linear = from.op();
    let x = match op.activations {
        Activations::Float => from.x(),
        Activations::Int8PerToken => int8_per_token(from.x()),
    };
    let output = |n: usize| {
        let y = x.clone().matmul(from.weights[n].clone().transpose());
        match op.bias_of(n) {
            Some(bias) => y + from.weights[bias].clone(),
            None => y,
        }
    };
    (0..op.n_outputs()).map(output).collect()
}

/// Each row as int8 codes with one scale ([`Activations::round`]); gradients go straight through.
fn int8_per_token<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let plain = x.clone().detach();
    let absmax = plain.clone().abs().max_dim(1).clamp_min(Activations::LEAST_MAX);
    let inverse = absmax.zeros_like().add_scalar(127.0) / absmax.clone();
    let codes = (plain.clone() * inverse).round().clamp(-128.0, 127.0);
    let rounded = codes * (absmax / 127.0);
    // `x - plain` is exactly zero and carries the gradient, so the values are exactly the rounded.
    rounded + (x - plain)
}
