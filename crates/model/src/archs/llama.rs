//! `llama`: Llama 1 to 3 and Mistral, and the graph that the whole family shares.
//!
//! Each layer adds attention and then a gated MLP to the residual stream, each behind an RMS norm:
//!
//! ```text
//! x += output(attention(rope(q(norm x)), rope(k(norm x)), v(norm x)))
//! x += down(silu(gate(norm x)) * up(norm x))
//! ```

use super::Arch;
use crate::config::{Config, GgufKeys, JsonKeys};
use crate::ops::{
    Activations, Add, Attention, Embedding, Linear, Relu2, RmsNorm, Rope, RopeLayout, Swiglu,
};
use crate::{Graph, Role, ValueId, WeightId};
use std::collections::BTreeSet;
use sterna_formats::FormatError;

/// Llama 1 to 3, Mistral.
pub struct Llama;

impl Arch for Llama {
    fn name(&self) -> &'static str {
        "llama"
    }

    fn classes(&self) -> &'static [&'static str] {
        &["LlamaForCausalLM", "MistralForCausalLM"]
    }

    fn config_from_gguf(&self, keys: &GgufKeys<'_>) -> Result<Config, FormatError> {
        keys.config(RopeLayout::Interleaved, keys.biases())
    }

    fn config_from_json(&self, keys: &JsonKeys<'_>) -> Result<Config, FormatError> {
        let attention = keys.flag("attention_bias", ATTENTION_MATRICES)?;
        let mlp = keys.flag("mlp_bias", MLP_MATRICES)?;
        let biases: BTreeSet<Role> = attention.iter().chain(mlp).copied().collect();
        let window = match keys.class {
            "MistralForCausalLM" => keys.optional_count("sliding_window")?,
            _ => None,
        };
        Ok(Config { window, ..keys.config(RopeLayout::Interleaved, biases)? })
    }

    fn graph(&self, config: &Config) -> Result<Graph, String> {
        graph(config)
    }

    fn is_permuted(&self, role: Role) -> bool {
        matches!(role, Role::AttentionQuery | Role::AttentionKey)
    }
}

/// Attention's matrices.
pub const ATTENTION_MATRICES: &[Role] =
    &[Role::AttentionQuery, Role::AttentionKey, Role::AttentionValue, Role::AttentionOutput];
/// The MLP's matrices.
pub const MLP_MATRICES: &[Role] = &[Role::MlpGate, Role::MlpUp, Role::MlpDown];

/// What joins the MLP's gate and up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// `silu(gate) * up`.
    Silu,
    /// `relu(gate)^2 * up`.
    Relu2,
}

/// What the layers of a family differ in, beyond numbers.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// What joins gate and up.
    pub gate: Gate,
    /// How the layers' matrices see their input; the head sees floats.
    pub activations: Activations,
    /// Whether what attention's output and the MLP's down matrix read is normalised first.
    pub sub_norms: bool,
}

impl Recipe {
    /// Llama's own.
    pub const LLAMA: Recipe =
        Recipe { gate: Gate::Silu, activations: Activations::Float, sub_norms: false };
}

/// The graph of a Llama-like decoder.
///
/// # Errors
/// When the numbers of the config do not fit each other.
pub fn graph(config: &Config) -> Result<Graph, String> {
    graph_by(config, Recipe::LLAMA)
}

/// [`graph`] with layers of another recipe.
///
/// # Errors
/// As [`graph`].
pub fn graph_by(config: &Config, recipe: Recipe) -> Result<Graph, String> {
    let mut graph = Graph::default();
    let table = [config.vocab_len, config.dim];
    let table = graph.weight("token_embd.weight", &table, Role::TokenEmbedding, None);
    let factors = config.rope_factors.then(|| {
        let shape = [config.rotary_dim / 2];
        graph.weight("rope_freqs.weight", &shape, Role::RopeFactors, None)
    });
    let mut x = graph.add("embed", Embedding, &[Graph::TOKENS], &[table])?;
    for layer in 0..config.n_layers {
        let mut layer = Layer { graph: &mut graph, config, recipe, layer, factors };
        x = layer.attention(x)?;
        x = layer.mlp(x)?;
    }
    let norm = graph.weight("output_norm.weight", &[config.dim], Role::Norm, None);
    let op = RmsNorm { eps: config.norm_eps, group_len: config.dim };
    x = graph.add("output_norm", op, &[x], &[norm])?;
    let head = if config.tied {
        table
    } else {
        graph.weight("output.weight", &[config.vocab_len, config.dim], Role::Head, None)
    };
    graph.output = Some(graph.add("logits", Linear::new(false), &[x], &[head])?);
    graph.validate()?;
    Ok(graph)
}

/// One layer being built.
struct Layer<'a> {
    graph: &'a mut Graph,
    config: &'a Config,
    recipe: Recipe,
    layer: usize,
    factors: Option<WeightId>,
}

impl Layer<'_> {
    fn attention(&mut self, x: ValueId) -> Result<ValueId, String> {
        let c = self.config;
        let normed = self.norm("attn_norm", x, c.dim)?;
        let (q_len, kv_len) = (c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
        let mut q = self.linear("attn_q", Role::AttentionQuery, normed, [q_len, c.dim])?;
        let mut k = self.linear("attn_k", Role::AttentionKey, normed, [kv_len, c.dim])?;
        let v = self.linear("attn_v", Role::AttentionValue, normed, [kv_len, c.dim])?;
        if c.qk_norm {
            q = self.norm("attn_q_norm", q, c.head_dim)?;
            k = self.norm("attn_k_norm", k, c.head_dim)?;
        }
        let (q, k) = (self.rope("rope_q", q)?, self.rope("rope_k", k)?);
        let op = Attention {
            n_heads: c.n_heads,
            n_kv_heads: c.n_kv_heads,
            head_dim: c.head_dim,
            scale: Attention::usual_scale(c.head_dim),
            window: c.window,
            causal: true,
        };
        let mut mixed = self.graph.add(self.name("attention"), op, &[q, k, v], &[])?;
        if self.recipe.sub_norms {
            mixed = self.norm("attn_sub_norm", mixed, q_len)?;
        }
        let out = self.linear("attn_output", Role::AttentionOutput, mixed, [c.dim, q_len])?;
        self.graph.add(self.name("attn_residual"), Add, &[x, out], &[])
    }

    fn mlp(&mut self, x: ValueId) -> Result<ValueId, String> {
        let c = self.config;
        let normed = self.norm("ffn_norm", x, c.dim)?;
        let gate = self.linear("ffn_gate", Role::MlpGate, normed, [c.ffn_dim, c.dim])?;
        let up = self.linear("ffn_up", Role::MlpUp, normed, [c.ffn_dim, c.dim])?;
        let mut gated = match self.recipe.gate {
            Gate::Silu => self.graph.add(self.name("swiglu"), Swiglu, &[gate, up], &[])?,
            Gate::Relu2 => self.graph.add(self.name("relu2"), Relu2, &[gate, up], &[])?,
        };
        if self.recipe.sub_norms {
            gated = self.norm("ffn_sub_norm", gated, c.ffn_dim)?;
        }
        let out = self.linear("ffn_down", Role::MlpDown, gated, [c.dim, c.ffn_dim])?;
        self.graph.add(self.name("ffn_residual"), Add, &[x, out], &[])
    }

    fn name(&self, part: &str) -> String {
        format!("blk.{}.{part}", self.layer)
    }

    fn weight(&mut self, part: &str, shape: &[usize], role: Role) -> WeightId {
        let name = self.name(part);
        self.graph.weight(name, shape, role, Some(self.layer))
    }

    fn norm(&mut self, part: &str, x: ValueId, group_len: usize) -> Result<ValueId, String> {
        let weight = self.weight(&format!("{part}.weight"), &[group_len], Role::Norm);
        let op = RmsNorm { eps: self.config.norm_eps, group_len };
        self.graph.add(self.name(part), op, &[x], &[weight])
    }

    fn linear(
        &mut self,
        part: &str,
        role: Role,
        x: ValueId,
        shape: [usize; 2],
    ) -> Result<ValueId, String> {
        let mut weights = vec![self.weight(&format!("{part}.weight"), &shape, role)];
        let bias = self.config.biases.contains(&role);
        if bias {
            weights.push(self.weight(&format!("{part}.bias"), &shape[..1], Role::Bias));
        }
        let op = Linear { activations: self.recipe.activations, ..Linear::new(bias) };
        self.graph.add(self.name(part), op, &[x], &weights)
    }

    fn rope(&mut self, part: &str, x: ValueId) -> Result<ValueId, String> {
        let c = self.config;
        let op = Rope {
            head_dim: c.head_dim,
            rotary_dim: c.rotary_dim,
            layout: c.rope_layout,
            base: c.rope_base,
            scale: c.rope_scale,
        };
        self.graph.add(self.name(part), op, &[x], self.factors.as_slice())
    }
}
