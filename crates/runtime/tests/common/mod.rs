//! Small models with seeded random weights, built as graphs by hand.
#![allow(dead_code)]

use std::borrow::Cow;
use std::sync::Arc;
use sterna_formats::EncodingRef;
use sterna_formats::encodings::by_name;
use sterna_formats::ternarize;
use sterna_model::ops::{Add, Attention, Embedding, Linear, RmsNorm, Rope, RopeLayout, Swiglu};
use sterna_model::{Graph, Role, ValueId, WeightId, WeightSource, WeightView};
use sterna_runtime::{Chunk, Logits, Program, Runner, Settings};

/// A generator of numbers: splitmix64.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    /// Uniform in [-1, 1).
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// What a small model looks like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub dim: usize,
    pub ffn: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocabulary: usize,
    pub bias: bool,
    pub head_norm: bool,
    pub tied: bool,
    pub window: Option<usize>,
    pub layout: RopeLayout,
}

pub const SMALL: Shape = Shape {
    dim: 256,
    ffn: 512,
    layers: 2,
    heads: 4,
    kv_heads: 2,
    head_dim: 64,
    vocabulary: 96,
    bias: false,
    head_norm: false,
    tied: false,
    window: None,
    layout: RopeLayout::Interleaved,
};

/// A graph and its weights.
pub struct Tiny {
    pub graph: Graph,
    weights: Vec<(EncodingRef, Vec<u8>)>,
}

impl Tiny {
    /// Gives a weight other values.
    pub fn replace(&mut self, id: WeightId, encoding: &str, values: &[f32]) {
        let encoding = by_name(encoding).unwrap();
        let mut bytes = vec![0; values.len() / encoding.block_len() * encoding.block_bytes()];
        encoding.encode(values, None, &mut bytes);
        self.weights[id.0] = (encoding, bytes);
    }
}

impl WeightSource for Tiny {
    fn weight(&self, id: WeightId) -> WeightView<'_> {
        let (encoding, bytes) = &self.weights[id.0];
        let shape = &self.graph.decl(id).shape;
        let (rows, cols) =
            if let &[rows, cols] = shape.as_slice() { (rows, cols) } else { (1, shape[0]) };
        WeightView { encoding: *encoding, rows, cols, bytes: Cow::Borrowed(bytes) }
    }
    fn encoding(&self, id: WeightId) -> EncodingRef {
        self.weights[id.0].0
    }
}

/// A model whose matrices cycle through `encodings`.
pub fn tiny(shape: Shape, encodings: &[&'static str], seed: u64) -> Tiny {
    let mut n_matrices = 0;
    random(graph(shape), seed, |_, _| {
        n_matrices += 1;
        encodings[(n_matrices - 1) % encodings.len()]
    })
}

/// Random weights for a graph, matrices encoded as asked; those of int8 layers are ternary.
pub fn random(
    graph: Graph,
    seed: u64,
    mut encoding: impl FnMut(&Graph, WeightId) -> &'static str,
) -> Tiny {
    let mut rng = Rng(seed);
    let ternary = graph.bit_matrices();
    let make = |id: WeightId| {
        let decl = graph.decl(id);
        let n: usize = decl.shape.iter().product();
        let spread = match decl.role {
            Role::Norm => 0.2,
            Role::Bias => 0.3,
            _ => 1.7 / (*decl.shape.last().unwrap() as f32).sqrt(),
        };
        let centre = if decl.role == Role::Norm { 1.0 } else { 0.0 };
        let mut values: Vec<f32> = (0..n).map(|_| centre + spread * rng.unit()).collect();
        if ternary.contains(&id) {
            ternarize(&mut values);
        }
        let name = if decl.role.is_matrix() { encoding(&graph, id) } else { "F32" };
        let encoding = by_name(name).unwrap();
        let mut bytes = vec![0; n / encoding.block_len() * encoding.block_bytes()];
        encoding.encode(&values, None, &mut bytes);
        (encoding, bytes)
    };
    let weights = graph.weight_ids().map(make).collect();
    Tiny { graph, weights }
}

/// BitNet's two graphs, small: ternary layers in `ternary`, everything else in F32.
pub fn bitnet(arch: &str, ternary: &'static str, seed: u64) -> Tiny {
    let name = if arch == "bitnet-gpt" { "bitnet-tiny" } else { "bitnet-1m" };
    let preset = sterna_model::presets::by_name(name).unwrap().config();
    let vocab_len = SMALL.vocabulary;
    let config = sterna_model::Config {
        n_layers: 2,
        vocab_len,
        ffn_dim: 512,
        n_kv_heads: 2,
        context_len: 128,
        ..preset
    };
    let graph = sterna_model::archs::by_name(arch).unwrap().graph(&config).unwrap();
    let bit = graph.bit_matrices();
    random(graph, seed, move |_, id| if bit.contains(&id) { ternary } else { "F32" })
}

/// A decoder some of whose layers see their input as int8 codes, where others of the same input see
/// floats.
pub fn mixed(encodings: &[&'static str], seed: u64) -> Tiny {
    let mut graph = graph(SMALL);
    for node in &mut graph.nodes {
        if ["attn_q", "ffn_gate", "ffn_down"].iter().any(|part| node.name.ends_with(part)) {
            node.op = Arc::new(Linear::int8(false));
        }
    }
    let mut n_matrices = 0;
    random(graph, seed, |_, _| {
        n_matrices += 1;
        encodings[(n_matrices - 1) % encodings.len()]
    })
}

fn linear(g: &mut Graph, s: &Shape, name: &str, rows: usize, role: Role, x: ValueId) -> ValueId {
    let cols = g.values[x.0].features;
    let mut weights = vec![g.weight(format!("{name}.weight"), &[rows, cols], role, None)];
    let bias = s.bias && name.contains("attn_") && !name.contains("output");
    if bias {
        weights.push(g.weight(format!("{name}.bias"), &[rows], Role::Bias, None));
    }
    g.add(name, Linear::new(bias), &[x], &weights).unwrap()
}

fn norm(g: &mut Graph, name: &str, group_len: usize, x: ValueId) -> ValueId {
    let weight = g.weight(format!("{name}.weight"), &[group_len], Role::Norm, None);
    g.add(name, RmsNorm { eps: 1e-5, group_len }, &[x], &[weight]).unwrap()
}

/// The usual decoder.
pub fn graph(s: Shape) -> Graph {
    let mut g = Graph::default();
    let table = g.weight("token_embd.weight", &[s.vocabulary, s.dim], Role::TokenEmbedding, None);
    let mut h = g.add("token_embd", Embedding, &[Graph::TOKENS], &[table]).unwrap();
    for layer in 0..s.layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let x = norm(&mut g, &name("attn_norm"), s.dim, h);
        let q = s.heads * s.head_dim;
        let kv = s.kv_heads * s.head_dim;
        let mut q = linear(&mut g, &s, &name("attn_q"), q, Role::AttentionQuery, x);
        let mut k = linear(&mut g, &s, &name("attn_k"), kv, Role::AttentionKey, x);
        let v = linear(&mut g, &s, &name("attn_v"), kv, Role::AttentionValue, x);
        if s.head_norm {
            q = norm(&mut g, &name("attn_q_norm"), s.head_dim, q);
            k = norm(&mut g, &name("attn_k_norm"), s.head_dim, k);
        }
        let rope = Rope {
            head_dim: s.head_dim,
            rotary_dim: s.head_dim,
            layout: s.layout,
            base: 10_000.0,
            scale: 1.0,
        };
        let q = g.add(name("q_rope"), rope.clone(), &[q], &[]).unwrap();
        let k = g.add(name("k_rope"), rope, &[k], &[]).unwrap();
        let attention = Attention {
            n_heads: s.heads,
            n_kv_heads: s.kv_heads,
            head_dim: s.head_dim,
            scale: Attention::usual_scale(s.head_dim),
            window: s.window,
            causal: true,
        };
        let a = g.add(name("attn"), attention, &[q, k, v], &[]).unwrap();
        let o = linear(&mut g, &s, &name("attn_output"), s.dim, Role::AttentionOutput, a);
        h = g.add(name("attn_residual"), Add, &[h, o], &[]).unwrap();
        let x = norm(&mut g, &name("ffn_norm"), s.dim, h);
        let gate = linear(&mut g, &s, &name("ffn_gate"), s.ffn, Role::MlpGate, x);
        let up = linear(&mut g, &s, &name("ffn_up"), s.ffn, Role::MlpUp, x);
        let x = g.add(name("ffn_swiglu"), Swiglu, &[gate, up], &[]).unwrap();
        let down = linear(&mut g, &s, &name("ffn_down"), s.dim, Role::MlpDown, x);
        h = g.add(name("ffn_residual"), Add, &[h, down], &[]).unwrap();
    }
    let x = norm(&mut g, "output_norm", s.dim, h);
    let logits = if s.tied {
        g.add("output", Linear::new(false), &[x], &[table]).unwrap()
    } else {
        linear(&mut g, &s, "output", s.vocabulary, Role::Head, x)
    };
    g.output = Some(logits);
    g
}

/// Settings for small tests.
pub fn settings() -> Settings {
    Settings {
        threads: Some(2),
        context_len: 128,
        max_batch_rows: 64,
        kv_positions: Some(1024),
        ..Settings::default()
    }
}

pub fn runner(tiny: &Tiny, settings: &Settings) -> Runner {
    let program = Program::compile(&tiny.graph, tiny, settings, None).unwrap();
    Runner::new(Arc::new(program)).unwrap()
}

pub fn tokens(n: usize, seed: u64) -> Vec<u32> {
    let mut rng = Rng(seed);
    (0..n).map(|_| rng.below(SMALL.vocabulary) as u32).collect()
}

/// The logits of every token of a fresh sequence, in one call.
pub fn all_logits(runner: &mut Runner, tokens: &[u32]) -> Vec<f32> {
    let sequence = runner.new_sequence();
    let chunk = Chunk { sequence, tokens, logits: Logits::All };
    let logits = runner.forward(&[chunk]).unwrap().to_vec();
    runner.free(sequence).unwrap();
    logits
}

pub fn assert_bits(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        assert_eq!(x.to_bits(), y.to_bits(), "{what}: value {i} is {x} and {y}");
    }
}

pub fn levels() -> Vec<&'static str> {
    let has = |name: &&&str| sterna_kernels::Level::by_name(name).is_ok();
    sterna_kernels::ISAS.iter().filter(has).copied().collect()
}
