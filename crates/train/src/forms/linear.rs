//! `linear`: one input through N matrices.

use super::Inputs;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use sterna_model::ops::{Activations, Linear};

pub fn forward<B: Backend>(from: &Inputs<'_, B>) -> Vec<Tensor<B, 2>> {
    let op: &Linear = from.op();
    let x = match op.activations {
        Activations::Int8PerToken => int8_per_row(from.x(), Activations::LEAST_MAX),
        Activations::Int8Static(range) => int8_within(from.x(), range.get()),
        Activations::Float if from.is_block_encoded => int8_per_chunk(from.x()),
        Activations::Float => from.x(),
    };
    let output = |n: usize| {
        let y = from.precision.matmul(x.clone(), from.weights[n].clone().transpose());
        match op.bias_of(n) {
            Some(bias) => y + from.weights[bias].clone(),
            None => y,
        }
    };
    (0..op.n_outputs()).map(output).collect()
}

/// Values that share an activation scale before block-encoded weights.
const CHUNK: usize = 256;

/// As the runtime sees the input of block-encoded matrices: each chunk of a row as int8 codes with
/// one scale, the last chunk perhaps shorter.
fn int8_per_chunk<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let [rows, cols] = x.dims();
    let whole = cols / CHUNK * CHUNK;
    let chunks = |part: Tensor<B, 2>, len: usize| {
        let [_, cols] = part.dims();
        int8_per_row(part.reshape([rows * cols / len, len]), f32::MIN_POSITIVE)
            .reshape([rows, cols])
    };
    match (whole, cols - whole) {
        (_, 0) => chunks(x, CHUNK),
        (0, rest) => chunks(x, rest),
        (_, rest) => {
            let (head, tail) = (x.clone().narrow(1, 0, whole), x.narrow(1, whole, rest));
            Tensor::cat(vec![chunks(head, CHUNK), chunks(tail, rest)], 1)
        }
    }
}

/// Each row as int8 codes with one scale ([`Activations::round`]), of an absolute maximum of at
/// least `least`; gradients go straight through.
fn int8_per_row<B: Backend>(x: Tensor<B, 2>, least: f32) -> Tensor<B, 2> {
    let plain = x.clone().detach();
    let absmax = plain.clone().abs().max_dim(1).clamp_min(least);
    let inverse = absmax.zeros_like().add_scalar(127.0) / absmax.clone();
    // A row of zeros at the smallest `least` has no inverse that is a number.
    let codes = (plain.clone() * inverse.clamp_max(f32::MAX)).round().clamp(-128.0, 127.0);
    let rounded = codes * (absmax / 127.0);
    // `x - plain` is exactly zero and carries the gradient, so the values are exactly the rounded.
    rounded + (x - plain)
}

/// All rows as int8 codes with one scale, clipped at `absmax`; gradients go straight through.
fn int8_within<B: Backend>(x: Tensor<B, 2>, absmax: f32) -> Tensor<B, 2> {
    let plain = x.clone().detach();
    let codes = (plain.clone() * (127.0 / absmax)).round().clamp(-127.0, 127.0);
    codes * (absmax / 127.0) + (x - plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;
    use burn::tensor::TensorData;

    // proves B-4 (straight-through): the values are the rounded ones, the gradient is as if they
    // were not.
    #[test]
    fn gradients_go_through_rounding_unchanged() {
        let device = Default::default();
        let values: Vec<f32> = (0..24).map(|i| (i * 7 % 11) as f32 / 3.0 - 1.5).collect();
        let factors: Vec<f32> = (0..24).map(|i| (i * 5 % 13) as f32 - 6.0).collect();
        let tensor = |v: &[f32]| -> Tensor<Cpu, 2> {
            Tensor::from_data(TensorData::new(v.to_vec(), [2, 12]), &device)
        };
        let x = tensor(&values).require_grad();
        let rounded = int8_per_row(x.clone(), Activations::LEAST_MAX);
        let seen: Vec<f32> = rounded.clone().into_data().into_vec().unwrap();
        for (row, seen) in values.chunks(12).zip(seen.chunks(12)) {
            let max = row.iter().fold(0.0f32, |max, v| max.max(v.abs()));
            for (v, s) in row.iter().zip(seen) {
                let code = (v * (127.0 / max)).round_ties_even();
                assert_eq!(*s, code * (max / 127.0));
            }
        }
        let tape = (rounded * tensor(&factors)).sum().backward();
        let gradient: Vec<f32> = x.grad(&tape).unwrap().into_data().into_vec().unwrap();
        assert_eq!(gradient, factors);
    }

    #[test]
    fn one_scale_for_all_rows_clips_what_is_beyond_it() {
        let data = TensorData::new(vec![200.0f32, 1.5, -500.0, 0.4], [2, 2]);
        let x = Tensor::<Cpu, 2>::from_data(data, &Default::default());
        let seen: Vec<f32> = int8_within(x, 127.0).into_data().into_vec().unwrap();
        assert_eq!(seen, [127.0, 2.0, -127.0, 0.0]);
    }

    #[test]
    fn chunks_have_scales_of_their_own() {
        for cols in [40, 256, 300, 512] {
            let values: Vec<f32> =
                (0..2 * cols).map(|i| (i * 37 % 101) as f32 * 0.03 - 1.0).collect();
            let values: Vec<f32> =
                (0..2 * cols).map(|i| values[i] * (1 + i / 256) as f32).collect();
            let x = Tensor::<Cpu, 2>::from_data(
                TensorData::new(values.clone(), [2, cols]),
                &Default::default(),
            );
            let seen: Vec<f32> = int8_per_chunk(x).into_data().into_vec().unwrap();
            for (row, seen) in values.chunks(cols).zip(seen.chunks(cols)) {
                for (chunk, seen) in row.chunks(CHUNK).zip(seen.chunks(CHUNK)) {
                    let max = chunk.iter().fold(0.0f32, |max, v| max.max(v.abs()));
                    let code = |v: &f32| (v * (127.0 / max)).round_ties_even();
                    assert!(chunk.iter().zip(seen).all(|(v, s)| *s == code(v) * (max / 127.0)));
                }
            }
        }
        let zeros = Tensor::<Cpu, 2>::zeros([1, 256], &Default::default());
        let seen: Vec<f32> = int8_per_chunk(zeros).into_data().into_vec().unwrap();
        assert!(seen.iter().all(|s| *s == 0.0));
    }
}
