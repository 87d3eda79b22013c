//! What training makes small: cross-entropy, and the divergence from a teacher.

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

/// Mean nats per token of `targets` `[rows, 1]` under `logits` `[rows, vocabulary]`; `smoothing` of
/// the target is spread evenly over the vocabulary (Szegedy et al. 2016).
pub fn cross_entropy<B: Backend>(
    logits: Tensor<B, 2>,
    targets: Tensor<B, 2, Int>,
    smoothing: f64,
) -> Tensor<B, 1> {
    let log_p = log_softmax(logits, 1);
    let hit = log_p.clone().gather(1, targets).mean().neg();
    if smoothing == 0.0 {
        return hit;
    }
    hit * (1.0 - smoothing) - log_p.mean() * smoothing
}

/// `T^2 KL(teacher || student)` at temperature `T`, mean per row (Hinton et al. 2015).
pub fn divergence<B: Backend>(
    student: Tensor<B, 2>,
    teacher: Tensor<B, 2>,
    temperature: f64,
) -> Tensor<B, 1> {
    let [rows, _] = student.dims();
    let log_student = log_softmax(student / temperature, 1);
    let log_teacher = log_softmax(teacher.clone() / temperature, 1);
    let p = softmax(teacher / temperature, 1);
    (p * (log_teacher - log_student)).sum() * (temperature * temperature / rows as f64)
}

/// Mean squared difference.
pub fn squared_difference<B: Backend>(a: Tensor<B, 2>, b: Tensor<B, 2>) -> Tensor<B, 1> {
    let d = a - b;
    (d.clone() * d).mean()
}
