//! Matrices between memory and a backend.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

/// A matrix of these numbers, row by row.
pub fn matrix<B: Backend>(
    numbers: Vec<f32>,
    [rows, cols]: [usize; 2],
    device: &B::Device,
) -> Tensor<B, 2> {
    Tensor::from_data(TensorData::new(numbers, [rows, cols]), device)
}

/// The numbers of a matrix, row by row.
pub fn numbers<B: Backend>(matrix: &Tensor<B, 2>) -> Vec<f32> {
    matrix.to_data().convert::<f32>().into_vec().expect("just converted")
}
