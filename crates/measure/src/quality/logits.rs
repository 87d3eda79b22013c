//! Arithmetic on one row of logits, in f64: what a model says of one position.
//!
//! In: f32 logits. Out: negative log-likelihoods, divergences, the favourite token.

/// `ln(sum(exp(logit)))`, shifted by the maximum so that nothing overflows; NaN if any logit is.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    sums(logits).0
}

/// [`log_sum_exp`], and the sum of the squared probabilities.
pub fn sums(logits: &[f32]) -> (f64, f64) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if max == f32::NEG_INFINITY {
        return (f64::NAN, f64::NAN);
    }
    let max = f64::from(max);
    let (mut sum, mut squares) = (0.0, 0.0);
    for &logit in logits {
        let e = (f64::from(logit) - max).exp();
        sum += e;
        squares += e * e;
    }
    (max + sum.ln(), squares / (sum * sum))
}

/// Minus the log-probability of `token`, in nats.
pub fn nll(logits: &[f32], token: u32) -> f64 {
    log_sum_exp(logits) - f64::from(logits[token as usize])
}

/// The index of the greatest logit, the first of equals.
pub fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = index;
        }
    }
    best
}

/// `KL(p || q)` in nats of the distributions that two rows stand for: `sum p * (ln p - ln q)`.
pub fn kl_divergence(p: &[f32], q: &[f32]) -> f64 {
    kl_of_sums(p, log_sum_exp(p), q, log_sum_exp(q))
}

/// [`kl_divergence`] where the caller has each row's [`log_sum_exp`] already.
pub fn kl_of_sums(p: &[f32], p_total: f64, q: &[f32], q_total: f64) -> f64 {
    assert_eq!(p.len(), q.len(), "rows of one vocabulary");
    let terms = p.iter().zip(q).map(|(&p, &q)| {
        let log_p = f64::from(p) - p_total;
        let log_q = f64::from(q) - q_total;
        // A token that p rules out (-inf) adds nothing, and 0 * inf would be NaN.
        if log_p == f64::NEG_INFINITY { 0.0 } else { log_p.exp() * (log_p - log_q) }
    });
    terms.sum()
}

/// The greatest distance between two rows' logits.
pub fn max_abs_delta(p: &[f32], q: &[f32]) -> f64 {
    p.iter().zip(q).map(|(&p, &q)| f64::from((p - q).abs())).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    fn row(rng: &mut StdRng) -> Vec<f32> {
        (0..17).map(|_| rng.random_range(-20.0..20.0)).collect()
    }

    #[test]
    fn known_distributions() {
        let half = [0.0f32, 0.0];
        let quarter = [0.0f32, 3.0f32.ln()]; // 1/4, 3/4
        assert!((nll(&half, 1) - 2.0f64.ln()).abs() < 1e-12);
        let kl = 0.5 * (0.5f64 / 0.25).ln() + 0.5 * (0.5f64 / 0.75).ln();
        assert!((kl_divergence(&half, &quarter) - kl).abs() < 1e-7);
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), 1);
        assert_eq!(max_abs_delta(&[1.0, 2.0], &[1.5, -1.0]), 3.0);
    }

    #[test]
    fn probabilities_sum_to_one_and_divergence_is_never_negative() {
        let mut rng = StdRng::seed_from_u64(9);
        for _ in 0..500 {
            let (p, q) = (row(&mut rng), row(&mut rng));
            let total: f64 = (0..17).map(|token| (-nll(&p, token)).exp()).sum();
            assert!((total - 1.0).abs() < 1e-12);
            assert!(kl_divergence(&p, &q) > 0.0);
            assert_eq!(kl_divergence(&p, &p), 0.0);
            // A constant added to every logit changes no probability.
            let shifted: Vec<f32> = q.iter().map(|q| q + 4.0).collect();
            let delta = kl_divergence(&p, &shifted) - kl_divergence(&p, &q);
            assert!(delta.abs() < 1e-5, "{delta}");
        }
    }

    #[test]
    fn extremes_stay_finite_and_nan_shows() {
        assert!((nll(&[1e30, 0.0], 0)).abs() < 1e-12);
        assert!(nll(&[f32::NAN, 0.0], 1).is_nan());
        assert!(nll(&[f32::NEG_INFINITY; 2], 1).is_nan());
        let ruled_out = [f32::NEG_INFINITY, 0.0];
        assert_eq!(kl_divergence(&ruled_out, &[0.0, 0.0]), 2.0f64.ln());
        assert_eq!(kl_divergence(&[0.0, 0.0], &ruled_out), f64::INFINITY);
    }
}
