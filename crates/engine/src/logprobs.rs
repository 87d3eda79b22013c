//! Log probabilities of tokens, from logits as the model gave them.

use crate::request::TokenLogprob;

/// The log probability of a token and those of the `n_top` likeliest.
pub fn of(logits: &[f32], token: u32, n_top: usize) -> TokenLogprob {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - largest).exp()).sum();
    let base = f64::from(largest) + sum.ln();
    let logprob = |token: u32| (f64::from(logits[token as usize]) - base) as f32;
    if n_top == 0 {
        return TokenLogprob { token, logprob: logprob(token), top: Vec::new() };
    }
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let by_logit =
        |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let n_top = n_top.min(order.len());
    order.select_nth_unstable_by(n_top - 1, by_logit);
    order.truncate(n_top);
    order.sort_unstable_by(by_logit);
    let top = order.into_iter().map(|token| (token, logprob(token))).collect();
    TokenLogprob { token, logprob: logprob(token), top }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logprobs_are_those_of_the_softmax() {
        let logits = [0.0f32, 2.0, 1.0, -50.0];
        let weights = logits.map(|x| f64::from(x).exp());
        let total: f64 = weights.iter().sum();
        let found = of(&logits, 2, 3);
        assert!((f64::from(found.logprob) - (weights[2] / total).ln()).abs() < 1e-6);
        let tokens: Vec<u32> = found.top.iter().map(|&(token, _)| token).collect();
        assert_eq!((tokens, found.token), (vec![1, 2, 0], 2));
        assert_eq!(of(&logits, 0, 0).top, []);
        assert_eq!(of(&logits, 0, 9).top.len(), 4);
    }
}
