//! `rope`: each pair of features turned by the position, as `x * cos + turn(x) * sin`, where `turn`
//! is one small matrix that swaps the features of each pair and negates one.

use super::{ConstantsFrom, Inputs};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use sterna_model::ops::Rope;

/// Cosines and sines `[1, seq_len * features]` (one and zero where nothing turns), repeated for
/// each head so that a sequence is one row, and the matrix `[head_dim, head_dim]`.
pub fn constants<B: Backend>(from: &ConstantsFrom<'_, B>) -> Vec<Tensor<B, 2>> {
    let op: &Rope = from.op.as_any().downcast_ref().expect("a rope");
    let (n_pairs, head_dim, features) = (op.rotary_dim / 2, op.head_dim, from.features[0]);
    let table = op.table(from.weights.first().copied(), 0..from.seq_len);
    let mut cos = vec![1.0; from.seq_len * features];
    let mut sin = vec![0.0; from.seq_len * features];
    let mut turn = vec![0.0; head_dim * head_dim];
    for i in 0..n_pairs {
        let (a, b) = op.pair(i);
        // y[a] = x[a] cos - x[b] sin and y[b] = x[b] cos + x[a] sin, with y = x cos + (x T) sin.
        turn[b * head_dim + a] = -1.0;
        turn[a * head_dim + b] = 1.0;
        for (head, position) in
            (0..from.seq_len * features / head_dim).map(|head| (head, head / (features / head_dim)))
        {
            for feature in [a, b] {
                cos[head * head_dim + feature] = table.cos[position * n_pairs + i];
                sin[head * head_dim + feature] = table.sin[position * n_pairs + i];
            }
        }
    }
    let tensor = |values: Vec<f32>, shape: [usize; 2]| {
        Tensor::from_data(TensorData::new(values, shape), from.device)
    };
    let flat = [1, from.seq_len * features];
    vec![tensor(cos, flat), tensor(sin, flat), tensor(turn, [head_dim, head_dim])]
}

pub fn forward<B: Backend>(from: &Inputs<'_, B>) -> Vec<Tensor<B, 2>> {
    let head_dim = from.op::<Rope>().head_dim;
    let [rows, features] = from.x().dims();
    let [cos, sin, turn] = from.constants else { unreachable!("constants made three") };
    let by_sequence = [from.batch.n_sequences, from.batch.seq_len * features];
    let turned = from.x().reshape([rows * features / head_dim, head_dim]).matmul(turn.clone());
    let x = from.x().reshape(by_sequence) * cos.clone();
    let x = x + turned.reshape(by_sequence) * sin.clone();
    vec![x.reshape([rows, features])]
}
