//! `attention`: causal, grouped-query, optionally through a sliding window.

use super::{ConstantsFrom, Inputs};
use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use sterna_model::ops::Attention;

/// What is added to a score that must not be seen: far below any score, and finite, so that no
/// gradient becomes `inf - inf`.
const HIDDEN: f32 = -1e30;

/// The mask `[1, seq_len * seq_len]`: zero where query `i` sees key `j`. It lies flat, because the
/// CPU backend adds a shared row ten times faster than a broadcast matrix.
pub fn constants<B: Backend>(from: &ConstantsFrom<'_, B>) -> Vec<Tensor<B, 2>> {
    let op: &Attention = from.op.as_any().downcast_ref().expect("an attention");
    let n = from.seq_len;
    let sees = |i: usize, j: usize| j <= i && j >= op.first_visible(i);
    let mask: Vec<f32> =
        (0..n * n).map(|at| if sees(at / n, at % n) { 0.0 } else { HIDDEN }).collect();
    vec![Tensor::from_data(TensorData::new(mask, [1, n * n]), from.device)]
}

pub fn forward<B: Backend>(from: &Inputs<'_, B>) -> Vec<Tensor<B, 2>> {
    let op: &Attention = from.op();
    let (n, len) = (from.batch.n_sequences, from.batch.seq_len);
    let group = op.n_heads / op.n_kv_heads;
    let [q, k, v] = from.values else { unreachable!("attention reads three values") };
    // Views only: the batched product reads them where they lie, and repeats keys over a group.
    let by_head = |x: &Tensor<B, 2>, group: usize| {
        let x = x.clone().reshape([n, len, op.n_kv_heads, group, op.head_dim]);
        x.permute([0, 2, 3, 1, 4]) // [sequences, KV heads, group, len, head_dim]
    };
    let (q, k, v) = (by_head(q, group), by_head(k, 1), by_head(v, 1));
    let scores = from.precision.matmul(q, k.swap_dims(3, 4)) * op.scale;
    let n_rows = n * op.n_heads;
    let scores = scores.reshape([n_rows, len * len]) + from.constants[0].clone();
    let weights = softmax(scores.reshape([n_rows * len, len]), 1);
    let weights = weights.reshape([n, op.n_kv_heads, group, len, len]);
    let mixed = from.precision.matmul(weights, v).permute([0, 3, 1, 2, 4]);
    vec![mixed.reshape([n * len, op.n_heads * op.head_dim])]
}
