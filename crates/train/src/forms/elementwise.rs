//! The ops that work feature by feature.

use super::Inputs;
use burn::tensor::Tensor;
use burn::tensor::activation::{relu, silu};
use burn::tensor::backend::Backend;

pub fn add<B: Backend>(from: &Inputs<'_, B>) -> Vec<Tensor<B, 2>> {
    vec![from.values[0].clone() + from.values[1].clone()]
}

pub fn swiglu<B: Backend>(from: &Inputs<'_, B>) -> Vec<Tensor<B, 2>> {
    vec![silu(from.values[0].clone()) * from.values[1].clone()]
}

pub fn relu2<B: Backend>(from: &Inputs<'_, B>) -> Vec<Tensor<B, 2>> {
    let positive = relu(from.values[0].clone());
    vec![positive.clone() * positive * from.values[1].clone()]
}

pub fn gelu<B: Backend>(from: &Inputs<'_, B>) -> Vec<Tensor<B, 2>> {
    vec![burn::tensor::activation::gelu(from.x())]
}
