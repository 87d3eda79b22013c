//! What training sees against what files store.

use super::*;
use crate::config::Quantize;
use crate::export::Trained;
use sterna_formats::encodings::ENCODINGS;
use sterna_model::WeightSource;

fn graph(cols: usize) -> Graph {
    let mut graph = Graph::default();
    graph.weight("token_embd.weight", &[4, cols], Role::TokenEmbedding, None);
    graph.weight("blk.0.ffn_up.weight", &[4, cols], Role::MlpUp, Some(0));
    graph.weight("blk.0.norm.weight", &[cols], Role::Norm, Some(0));
    graph
}

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 % 1009) as f32 / 1009.0 - 0.5) * 0.2).collect()
}

fn config(encoding: &str) -> Quantize {
    Quantize { encoding: Some(encoding.into()), ..Quantize::default() }
}

const MATRIX: WeightId = WeightId(1);

// proves B-1: what training sees is, bit for bit, what the file will hold.
#[test]
fn the_forward_pass_sees_exactly_what_is_stored() {
    let graph = graph(256);
    for encoding in ENCODINGS {
        let quantizer = Quantizer::new(&config(encoding.name()), &graph).unwrap();
        let seen = quantizer.apply(MATRIX, &values(1024), 256, 1.0);
        let source = Trained {
            graph: &graph,
            weights: &[vec![0.0; 1024], values(1024), vec![1.0; 256]],
            quantizer: &quantizer,
            float: *encoding,
        };
        assert_eq!(source.weight(MATRIX).to_f32(), seen, "{}", encoding.name());
        assert!(!quantizer.applies(WeightId(0)) && !quantizer.applies(WeightId(2)));
    }
}

#[test]
fn ternary_weights_have_three_values_and_binary_ones_two() {
    let graph = graph(256);
    for (binary, n) in [(false, 3), (true, 2)] {
        let config = Quantize { binary, ..config("TQ2_0") };
        let quantizer = Quantizer::new(&config, &graph).unwrap();
        let seen = quantizer.apply(MATRIX, &values(1024), 256, 0.0);
        let mut levels: Vec<f32> = seen.clone();
        levels.sort_by(f32::total_cmp);
        levels.dedup();
        assert_eq!(levels.len(), n, "{levels:?}");
        let mean = values(1024).iter().map(|v| v.abs()).sum::<f32>() / 1024.0;
        assert!((levels[n - 1] - mean).abs() < 1e-3 * mean, "the scale is the mean magnitude");
    }
}

#[test]
fn ternary_weights_can_be_trained_from() {
    let graph = graph(256);
    let quantizer = Quantizer::new(&config("TQ2_0"), &graph).unwrap();
    let stored = quantizer.apply(MATRIX, &values(1024), 256, 1.0);
    assert_ne!(quantizer.apply(MATRIX, &stored, 256, 1.0), stored, "rounding twice shrinks");
    let mut latent = stored.clone();
    quantizer.make_latent(MATRIX, &mut latent);
    assert_eq!(quantizer.apply(MATRIX, &latent, 256, 1.0), stored);
    let mut others = values(1024);
    quantizer.make_latent(MATRIX, &mut others);
    assert_eq!(others, values(1024), "what is not ternary stays");
}

#[test]
fn blending_and_annealing_end_at_the_encoding() {
    let graph = graph(256);
    let hard = Quantizer::new(&config("TQ2_0"), &graph).unwrap();
    let target = hard.apply(MATRIX, &values(1024), 256, 0.0);
    for temperature in [0.0, 1.0] {
        let config = Quantize { blend: 0.5, temperature, ..config("TQ2_0") };
        let quantizer = Quantizer::new(&config, &graph).unwrap();
        let distance = |progress: f64| -> f32 {
            let seen = quantizer.apply(MATRIX, &values(1024), 256, progress);
            seen.iter().zip(&target).map(|(a, b)| (a - b).abs()).sum()
        };
        let distances = [0.0, 0.2, 0.4, 0.5, 1.0].map(distance);
        assert!(distances.windows(2).all(|d| d[0] >= d[1]), "{distances:?}");
        assert_eq!(distances[3..], [0.0, 0.0]);
        if temperature == 0.0 {
            let start = quantizer.apply(MATRIX, &values(1024), 256, 0.0);
            assert_eq!(start, values(1024), "a blend starts at full precision");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let message = |config: &Quantize, cols| {
        Quantizer::new(config, &graph(cols)).map(|_| ()).unwrap_err().to_string()
    };
    assert!(message(&config("TQ2_0"), 96).contains("rows of 96"));
    let binary = Quantize { binary: true, ..config("Q4_0") };
    assert!(message(&binary, 256).contains("choose TQ2_0"));
}
