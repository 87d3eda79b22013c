//! The weights that training starts from: random by role, or a model's.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sterna_model::{Graph, Role, WeightDecl, WeightSource};

/// Standard deviation of token embeddings, small so that tied heads start near even odds.
const EMBEDDING_STD: f64 = 0.02;

/// Seeded weights, in the graph's order: norms one, biases zero, matrices normal with a deviation
/// of `0.6 / sqrt(inputs)`, those that write to the residual stream smaller by
/// `1 / sqrt(2 layers)` (GPT-2's rule), so that depth does not grow the stream.
pub fn random(graph: &Graph, seed: u64) -> Vec<Vec<f32>> {
    let layers = graph.weights.iter().filter_map(|w| w.layer).max().map_or(1, |last| last + 1);
    let mut random = StdRng::seed_from_u64(seed);
    graph.weights.iter().map(|decl| one(decl, layers, &mut random)).collect()
}

fn one(decl: &WeightDecl, layers: usize, random: &mut StdRng) -> Vec<f32> {
    let (rows, cols) = decl.matrix();
    let usual = 0.6 / (cols as f64).sqrt();
    let std = match decl.role {
        Role::Norm | Role::RopeFactors => return vec![1.0; rows * cols],
        Role::Bias => return vec![0.0; rows * cols],
        Role::TokenEmbedding => EMBEDDING_STD,
        Role::AttentionOutput | Role::MlpDown => usual / (2.0 * layers as f64).sqrt(),
        _ => usual,
    };
    (0..rows * cols).map(|_| (normal(random) * std) as f32).collect()
}

/// A standard normal number (Box and Muller 1958).
fn normal(random: &mut StdRng) -> f64 {
    let (u, v): (f64, f64) = (random.random(), random.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// A model's weights, decoded.
pub fn from_source(graph: &Graph, source: &dyn WeightSource) -> Vec<Vec<f32>> {
    let decode = |id| {
        let values = source.weight(id).to_f32();
        source.release(id);
        values
    };
    graph.weight_ids().map(decode).collect()
}
