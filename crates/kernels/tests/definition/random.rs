//! A thousand random shapes of every kernel against its definition.

use super::{Rng, assert_same, attention_case, levels, linear_case};
use sterna_formats::encodings::ENCODINGS;
use sterna_kernels::acts::{RoundRows, ScaleOver};
use sterna_kernels::attention::KvEncoding;
use sterna_kernels::define;
use sterna_kernels::elementwise::{AddTo, Gelu, Relu2, SwiGlu};
use sterna_kernels::norm::{LayerNorm, RmsNorm};

/// Shapes of each kernel.
const SHAPES: usize = 1000;

impl Rng {
    /// From 1 to `n`.
    fn up_to(&mut self, n: usize) -> usize {
        self.bits() as usize % n + 1
    }
}

// proves S-19, B-3
#[test]
fn a_thousand_random_linear_layers() {
    let mut rng = Rng(21);
    for i in 0..SHAPES {
        let encoding = ENCODINGS[i % ENCODINGS.len()];
        let long = encoding.block_len() >= 128;
        let cols = match rng.up_to(if long { 3 } else { 20 }) {
            blocks if long => encoding.block_len() * blocks,
            blocks => encoding.block_len().max(16) * blocks,
        };
        let (rows, n_rows) = (rng.up_to(50), rng.up_to(30));
        let over = match rng.up_to(8) {
            1 | 2 => ScaleOver::Row,
            3 => ScaleOver::All(rng.up_to(4) as f32 + 0.7),
            _ => ScaleOver::Chunk,
        };
        let panels = rng.up_to(4);
        linear_case(&mut rng, encoding, (rows, cols), n_rows, over, &[panels]);
    }
}

#[test]
fn a_thousand_random_rows_through_norms_gates_and_rounding() {
    let mut rng = Rng(22);
    for _ in 0..SHAPES {
        let (n, rows) = (rng.up_to(300), rng.up_to(3));
        let (x, up) = (rng.normals(rows * n), rng.normals(rows * n));
        let (weight, bias) = (&rng.normals(n), &rng.normals(n));
        let by_row = |f: &dyn Fn(&[f32]) -> Vec<f32>| x.chunks(n).flat_map(f).collect::<Vec<f32>>();
        let by_pair = |f: fn(f32, f32) -> f32| {
            x.iter().zip(&up).map(|(&x, &u)| f(x, u)).collect::<Vec<f32>>()
        };
        let rms = by_row(&|x| define::rms_norm(x, weight, 1e-5));
        let layer = by_row(&|x| define::layer_norm(x, weight, bias, 1e-5));
        let rounded = by_row(&|x| define::round_row(x, ScaleOver::Row));
        let (swiglu, relu2) = (by_pair(define::swiglu), by_pair(define::relu2));
        let added = by_pair(|x, u| u + x);
        let gelu: Vec<f32> = x.iter().map(|&x| define::gelu(x)).collect();
        for level in levels() {
            let what = |op: &str| format!("{op} of {rows} x {n}, {}", level.name());
            let mut out = vec![0.0; x.len()];
            level.run(RmsNorm { x: &x, weight, eps: 1e-5, out: &mut out });
            assert_same(&out, &rms, &what("rms_norm"));
            level.run(LayerNorm { x: &x, weight, bias, eps: 1e-5, out: &mut out });
            assert_same(&out, &layer, &what("layer_norm"));
            level.run(SwiGlu { gate: &x, up: &up, out: &mut out });
            assert_same(&out, &swiglu, &what("swiglu"));
            level.run(Relu2 { gate: &x, up: &up, out: &mut out });
            assert_same(&out, &relu2, &what("relu2"));
            level.run(Gelu { x: &x, out: &mut out });
            assert_same(&out, &gelu, &what("gelu"));
            out.copy_from_slice(&up);
            level.run(AddTo { x: &x, out: &mut out });
            assert_same(&out, &added, &what("add"));
            out.copy_from_slice(&x);
            level.run(RoundRows { over: ScaleOver::Row, cols: n, x: &mut out });
            assert_same(&out, &rounded, &what("rounded rows"));
        }
    }
}

// proves B-11, T-11
#[test]
fn a_thousand_random_attentions() {
    let mut rng = Rng(23);
    // Each case has five pairs of a first position and rows.
    for i in 0..SHAPES / 5 {
        let encoding = KvEncoding::ALL[i % 3];
        let multiple = if encoding == KvEncoding::Q8_0 { 32 } else { 8 };
        let (head_dim, n_heads) = (multiple * rng.up_to(128 / multiple), rng.up_to(25));
        let window = if rng.up_to(3) == 1 { rng.up_to(60) } else { usize::MAX };
        let sees_all = window == usize::MAX && rng.up_to(3) == 1;
        attention_case(&mut rng, encoding, head_dim, n_heads, window, sees_all);
    }
}
