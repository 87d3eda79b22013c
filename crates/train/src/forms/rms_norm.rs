//! `rms_norm`: over whole rows or over each head.

use super::Inputs;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use sterna_model::ops::RmsNorm;

pub fn forward<B: Backend>(from: &Inputs<'_, B>) -> Vec<Tensor<B, 2>> {
    let op: &RmsNorm = from.op();
    let [rows, features] = from.x().dims();
    let x = from.x().reshape([rows * features / op.group_len, op.group_len]);
    let mean = (x.clone() * x.clone()).mean_dim(1);
    let scale = (mean + op.eps).sqrt().recip();
    vec![(x * scale * from.weights[0].clone()).reshape([rows, features])]
}
