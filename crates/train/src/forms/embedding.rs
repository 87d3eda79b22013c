//! The ops that look up rows: of the token's id, of the position.

use super::Inputs;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

pub fn forward<B: Backend>(from: &Inputs<'_, B>) -> Vec<Tensor<B, 2>> {
    vec![from.weights[0].clone().select(0, from.batch.tokens.clone())]
}

/// `position_embedding`: a sequence as one row, so that the table's rows are shared by all.
pub fn position<B: Backend>(from: &Inputs<'_, B>) -> Vec<Tensor<B, 2>> {
    let [rows, features] = from.x().dims();
    let (n, len) = (from.batch.n_sequences, from.batch.seq_len);
    let table = from.weights[0].clone().narrow(0, 0, len).reshape([1, len * features]);
    vec![(from.x().reshape([n, len * features]) + table).reshape([rows, features])]
}
