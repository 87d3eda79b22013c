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

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;
    use burn::tensor::TensorData;

    const ROWS: usize = 2;
    const VOCAB: usize = 3;

    fn logits(values: [f32; 6]) -> Tensor<Flex, 2> {
        Tensor::from_data(TensorData::new(values.to_vec(), [ROWS, VOCAB]), &Default::default())
    }

    /// Log-probabilities of each row, at a temperature.
    fn log_p(values: [f32; 6], t: f64) -> Vec<[f64; 3]> {
        let row = |row: &[f32]| {
            let sum: f64 = row.iter().map(|&x| (f64::from(x) / t).exp()).sum();
            [0, 1, 2].map(|i| f64::from(row[i]) / t - sum.ln())
        };
        values.chunks(3).map(row).collect()
    }

    fn close(found: Tensor<Flex, 1>, expected: f64) {
        let found = f64::from(found.into_scalar());
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }

    const A: [f32; 6] = [1.0, -0.5, 2.0, 0.0, 0.25, -3.0];
    const B: [f32; 6] = [0.5, 1.5, -1.0, 2.0, 0.0, 0.0];

    #[test]
    fn cross_entropy_is_the_mean_of_nats_with_the_target_smoothed() {
        let targets = TensorData::new(vec![2i32, 0], [ROWS, 1]);
        let targets: Tensor<Flex, 2, Int> = Tensor::from_data(targets, &Default::default());
        let p = log_p(A, 1.0);
        let hit = -(p[0][2] + p[1][0]) / 2.0;
        let even = -p.iter().flatten().sum::<f64>() / 6.0;
        close(cross_entropy(logits(A), targets.clone(), 0.0), hit);
        close(cross_entropy(logits(A), targets, 0.1), 0.9 * hit + 0.1 * even);
    }

    // proves S-7 (the loss): T^2 KL(teacher || student), softened on both sides, mean over rows.
    #[test]
    fn divergence_is_hintons() {
        for t in [1.0, 2.0, 5.0] {
            let (student, teacher) = (log_p(A, t), log_p(B, t));
            let kl = |(s, q): (&[f64; 3], &[f64; 3])| -> f64 {
                q.iter().zip(s).map(|(q, s)| q.exp() * (q - s)).sum()
            };
            let sum: f64 = student.iter().zip(&teacher).map(kl).sum();
            close(divergence(logits(A), logits(B), t), t * t * sum / 2.0);
        }
        close(divergence(logits(A), logits(A), 2.0), 0.0);
    }
}
