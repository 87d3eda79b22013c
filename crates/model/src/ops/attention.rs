//! `attention`: grouped-query; causal, optionally through a sliding window, or over all of a text.

use super::{Cost, EvalInputs, Op, expect_counts};
use std::any::Any;
use std::ops::Range;

/// Reads queries `[rows, n_heads * head_dim]`, keys and values `[rows, n_kv_heads * head_dim]`;
/// writes `[rows, n_heads * head_dim]`. Keys and values join the sequence's KV cache, one per node.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; each serves `n_heads / n_kv_heads` query heads.
    pub n_kv_heads: usize,
    /// Features per head.
    pub head_dim: usize,
    /// Scores are multiplied by it.
    pub scale: f32,
    /// A query at position `i` sees keys `j` with `i - j < window`, itself included.
    pub window: Option<usize>,
    /// Whether a query sees no later keys; else it sees all of its sequence, which is computed as a
    /// whole then.
    pub causal: bool,
}

impl Attention {
    /// The usual scale, `1 / sqrt(head_dim)`.
    pub fn usual_scale(head_dim: usize) -> f32 {
        (1.0 / (head_dim as f64).sqrt()) as f32
    }

    /// The first key position that a query at `position` sees.
    pub fn first_visible(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// The keys of a sequence of `len` positions that a query at `position` sees.
    pub fn visible(&self, position: usize, len: usize) -> Range<usize> {
        self.first_visible(position)..if self.causal { position + 1 } else { len }
    }

    /// One query head over the visible keys and values, `[keys, n_kv_heads * head_dim]` each.
    fn one_head(&self, q: &[f32], k: &[f32], v: &[f32], kv_head: usize, out: &mut [f32]) {
        let stride = self.n_kv_heads * self.head_dim;
        let start = kv_head * self.head_dim;
        let head = |row: usize| row * stride + start..row * stride + start + self.head_dim;
        let n_keys = k.len() / stride;
        let score = |key: usize| {
            let dot = q.iter().zip(&k[head(key)]).fold(0.0, |acc, (&q, &k)| q.mul_add(k, acc));
            dot * self.scale
        };
        let scores: Vec<f32> = (0..n_keys).map(score).collect();
        let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f32> = scores.iter().map(|s| (s - max).exp()).collect();
        let sum: f32 = weights.iter().sum();
        out.fill(0.0);
        for (key, &weight) in weights.iter().enumerate() {
            for (out, &v) in out.iter_mut().zip(&v[head(key)]) {
                *out = weight.mul_add(v, *out);
            }
        }
        out.iter_mut().for_each(|out| *out /= sum);
    }
}

impl Op for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn about(&self) -> &'static str {
        "softmax(q k^T * scale) v over earlier positions or all, grouped-query"
    }

    fn out_features(&self, inputs: &[usize], weights: &[&[usize]]) -> Result<Vec<usize>, String> {
        expect_counts(self, inputs, weights, 3, 0..=0)?;
        if self.n_kv_heads == 0 || !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return Err(format!(
                "{} query heads do not divide by {} key heads",
                self.n_heads, self.n_kv_heads
            ));
        }
        let (q, kv) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        if inputs != [q, kv, kv] {
            return Err(format!("attention wants [{q}, {kv}, {kv}] features, not {inputs:?}"));
        }
        if self.window.is_some() && !self.causal {
            return Err("a sliding window is for causal attention".into());
        }
        Ok(vec![q])
    }

    fn cost(&self, _inputs: &[usize], _weights: &[&[usize]], context: usize) -> Cost {
        let visible = self.window.map_or(context, |w| w.min(context)) as f64;
        let kv = (2 * self.n_kv_heads * self.head_dim) as f64;
        Cost {
            macs: 2.0 * visible * (self.n_heads * self.head_dim) as f64,
            kv_elements: kv,
            kv_read: kv * visible,
        }
    }

    fn eval(&self, from: &EvalInputs<'_>, outputs: &mut [&mut [f32]]) {
        let &[q, k, v] = from.inputs else { unreachable!("out_features counts the inputs") };
        let stride = self.n_kv_heads * self.head_dim;
        let queries = q.chunks_exact(self.head_dim);
        for (i, (q, out)) in queries.zip(outputs[0].chunks_exact_mut(self.head_dim)).enumerate() {
            let (position, head) = (i / self.n_heads, i % self.n_heads);
            let kv_head = head / (self.n_heads / self.n_kv_heads);
            let seen = self.visible(position, from.n_rows);
            let seen = seen.start * stride..seen.end * stride;
            self.one_head(q, &k[seen.clone()], &v[seen], kv_head, out);
        }
    }

    fn attributes(&self) -> String {
        let window = self.window.map_or(String::new(), |w| format!(" window={w}"));
        let whole = if self.causal { "" } else { " whole" };
        format!(
            "heads={} kv_heads={} head={} scale={}{window}{whole}",
            self.n_heads, self.n_kv_heads, self.head_dim, self.scale
        )
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
