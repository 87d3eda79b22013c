//! `bitnet-gpt`: a GPT whose every matrix, the head included, is a `BitLinear`.
//!
//! Learned positions, layer norms before attention and MLP, GELU, biases in the MLP only:
//!
//! ```text
//! x += output(attention(q(norm x), k(norm x), v(norm x)))
//! x += down(gelu(up(norm x) + b)) + c
//! ```
//!
//! It is Sterna's own: the transformer that BitNet suites for plain GPT stacks describe, made
//! causal. It is stored as GGUF only.

use super::Arch;
use crate::config::{Config, GgufKeys, JsonKeys};
use crate::ops::{
    Add, Attention, Embedding, Gelu, LayerNorm, Linear, PositionEmbedding, RopeLayout,
};
use crate::{Graph, Op, Role, ValueId, WeightId};
use std::collections::BTreeSet;
use sterna_formats::{FormatError, Metadata, Value};

/// A GPT of `BitLinear`s.
pub struct BitNetGpt;

const NAME: &str = "bitnet-gpt";
const EPS: &str = "attention.layer_norm_epsilon";

impl Arch for BitNetGpt {
    fn name(&self) -> &'static str {
        NAME
    }

    fn classes(&self) -> &'static [&'static str] {
        &[]
    }

    fn config_from_gguf(&self, keys: &GgufKeys<'_>) -> Result<Config, FormatError> {
        let config = keys.config_with_eps(EPS, RopeLayout::Half, biases())?;
        Ok(Config { rotary_dim: 0, ..config })
    }

    fn config_from_json(&self, keys: &JsonKeys<'_>) -> Result<Config, FormatError> {
        let problem = format!("{NAME} has no Hugging Face form");
        Err(FormatError::new(keys.path, problem, "give its GGUF file"))
    }

    fn metadata(&self, config: &Config) -> Metadata {
        let mut metadata = crate::config::metadata(NAME, config);
        for key in ["rope.dimension_count", "rope.freq_base", "attention.layer_norm_rms_epsilon"] {
            metadata.remove(&format!("{NAME}.{key}"));
        }
        metadata.set(format!("{NAME}.{EPS}"), Value::F32(config.norm_eps));
        metadata
    }

    fn graph(&self, config: &Config) -> Result<Graph, String> {
        let mut build = Build { graph: Graph::default(), config, layer: None };
        let mut x = build.embed()?;
        for layer in 0..config.n_layers {
            build.layer = Some(layer);
            x = build.attention(x)?;
            x = build.mlp(x)?;
        }
        build.layer = None;
        x = build.norm("output_norm", x)?;
        let name = if config.tied { "token_embd" } else { "output" };
        let head = build.matrix(name, Role::Head, [config.vocab_len, config.dim]);
        let mut graph = build.graph;
        graph.output = Some(graph.add("logits", Linear::int8(false), &[x], &[head])?);
        graph.validate()?;
        Ok(graph)
    }
}

/// The matrices with a bias.
pub fn biases() -> BTreeSet<Role> {
    [Role::MlpUp, Role::MlpDown].into()
}

/// A graph being built.
struct Build<'a> {
    graph: Graph,
    config: &'a Config,
    /// The layer being built.
    layer: Option<usize>,
}

impl Build<'_> {
    fn embed(&mut self) -> Result<ValueId, String> {
        let c = self.config;
        let tokens = self.matrix("token_embd", Role::TokenEmbedding, [c.vocab_len, c.dim]);
        let shape = [c.context_len, c.dim];
        let positions = self.matrix("position_embd", Role::PositionEmbedding, shape);
        let x = self.graph.add("embed", Embedding, &[Graph::TOKENS], &[tokens])?;
        self.graph.add("position_embed", PositionEmbedding, &[x], &[positions])
    }

    fn attention(&mut self, x: ValueId) -> Result<ValueId, String> {
        let c = self.config;
        let normed = self.norm("attn_norm", x)?;
        let (q_len, kv_len) = (c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
        let q = self.linear("attn_q", Role::AttentionQuery, normed, q_len)?;
        let k = self.linear("attn_k", Role::AttentionKey, normed, kv_len)?;
        let v = self.linear("attn_v", Role::AttentionValue, normed, kv_len)?;
        let op = Attention {
            n_heads: c.n_heads,
            n_kv_heads: c.n_kv_heads,
            head_dim: c.head_dim,
            scale: Attention::usual_scale(c.head_dim),
            window: c.window,
            causal: true,
        };
        let mixed = self.add("attention", op, &[q, k, v], &[])?;
        let out = self.linear("attn_output", Role::AttentionOutput, mixed, c.dim)?;
        self.add("attn_residual", Add, &[x, out], &[])
    }

    fn mlp(&mut self, x: ValueId) -> Result<ValueId, String> {
        let normed = self.norm("ffn_norm", x)?;
        let up = self.linear("ffn_up", Role::MlpUp, normed, self.config.ffn_dim)?;
        let bent = self.add("gelu", Gelu, &[up], &[])?;
        let down = self.linear("ffn_down", Role::MlpDown, bent, self.config.dim)?;
        self.add("ffn_residual", Add, &[x, down], &[])
    }

    fn name(&self, part: &str) -> String {
        self.layer.map_or(part.to_owned(), |layer| format!("blk.{layer}.{part}"))
    }

    fn add(
        &mut self,
        part: &str,
        op: impl Op,
        inputs: &[ValueId],
        weights: &[WeightId],
    ) -> Result<ValueId, String> {
        self.graph.add(self.name(part), op, inputs, weights)
    }

    /// A matrix, the one there is if it has a second use.
    fn matrix(&mut self, part: &str, role: Role, shape: [usize; 2]) -> WeightId {
        let name = format!("{}.weight", self.name(part));
        let known = self.graph.find_weight(&name);
        known.unwrap_or_else(|| self.graph.weight(name, &shape, role, self.layer))
    }

    fn vector(&mut self, part: &str, kind: &str, len: usize, role: Role) -> WeightId {
        self.graph.weight(format!("{}.{kind}", self.name(part)), &[len], role, self.layer)
    }

    fn norm(&mut self, part: &str, x: ValueId) -> Result<ValueId, String> {
        let dim = self.config.dim;
        let weight = self.vector(part, "weight", dim, Role::Norm);
        let bias = self.vector(part, "bias", dim, Role::Bias);
        self.add(part, LayerNorm { eps: self.config.norm_eps }, &[x], &[weight, bias])
    }

    fn linear(
        &mut self,
        part: &str,
        role: Role,
        x: ValueId,
        n_outputs: usize,
    ) -> Result<ValueId, String> {
        let n_inputs = self.graph.values[x.0].features;
        let mut weights = vec![self.matrix(part, role, [n_outputs, n_inputs])];
        let bias = self.config.biases.contains(&role);
        if bias {
            weights.push(self.vector(part, "bias", n_outputs, Role::Bias));
        }
        self.add(part, Linear::int8(bias), &[x], &weights)
    }
}
