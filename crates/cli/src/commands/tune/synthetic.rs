//! A model made up for tuning: layers of a Llama, with made-up weights in one encoding.
//!
//! It is larger than the caches that matter, so that generation reads from memory, and small
//! enough to be prepared in a second.

use std::borrow::Cow;
use sterna_formats::EncodingRef;
use sterna_formats::encodings::by_name;
use sterna_model::{Config, Graph, WeightId, WeightSource, WeightView, archs, presets};

/// Graph and weights.
pub struct Synthetic {
    /// The graph.
    pub graph: Graph,
    /// What it is, for people.
    pub name: String,
    weights: Vec<(EncodingRef, Vec<u8>)>,
}

/// The encoding of its matrices.
const ENCODING: &str = "Q8_0";

impl Synthetic {
    /// Four layers of 1024 features: 50 million weights.
    ///
    /// # Errors
    /// When the architecture refuses the shape.
    pub fn new() -> anyhow::Result<Self> {
        let preset = presets::by_name("llama-4m").map_err(anyhow::Error::msg)?.config();
        let config = Config {
            n_layers: 4,
            dim: 1024,
            ffn_dim: 2816,
            n_heads: 16,
            n_kv_heads: 8,
            head_dim: 64,
            rotary_dim: 64,
            vocab_len: 2048,
            context_len: 4096,
            tied: false,
            ..preset
        };
        let arch = archs::by_name("llama").expect("it is registered");
        let graph = arch.graph(&config).map_err(anyhow::Error::msg)?;
        let (matrix, vector) = (encoding(ENCODING), encoding("F32"));
        let weights = graph.weight_ids().map(|id| {
            let decl = graph.decl(id);
            let (rows, cols) = decl.matrix();
            let to = if decl.role.is_matrix() { matrix } else { vector };
            let mut bytes = vec![0; rows * to.row_bytes(cols)];
            // One made-up row for all: what is computed takes as long.
            let spread = 1.0 / (cols as f32).sqrt();
            let row: Vec<f32> =
                (0..cols).map(|i| spread * ((i * 37 % 61) as f32 / 30.0 - 1.0)).collect();
            bytes.chunks_exact_mut(to.row_bytes(cols)).for_each(|b| to.encode(&row, None, b));
            (to, bytes)
        });
        let weights = weights.collect();
        let name = format!(
            "a made-up model of {} layers of {} in {ENCODING}",
            config.n_layers, config.dim
        );
        Ok(Self { graph, name, weights })
    }
}

fn encoding(name: &str) -> EncodingRef {
    by_name(name).expect("it is registered")
}

impl WeightSource for Synthetic {
    fn weight(&self, id: WeightId) -> WeightView<'_> {
        let (encoding, bytes) = &self.weights[id.0];
        let (rows, cols) = self.graph.decl(id).matrix();
        WeightView { encoding: *encoding, rows, cols, bytes: Cow::Borrowed(bytes) }
    }

    fn encoding(&self, id: WeightId) -> EncodingRef {
        self.weights[id.0].0
    }
}
