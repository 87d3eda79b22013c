//! `bert`: Google's encoder (Devlin et al. 2018, arXiv:1810.04805), as sentence encoders use it.
//!
//! Every token sees all of the text, norms come after residuals, every matrix has a bias, positions
//! and the type of the text have learned rows. There is no head: the result is each token's state.
//!
//! ```text
//! x = norm(token + position + type)
//! x = norm(x + output(attention(q(x), k(x), v(x))))
//! x = norm(x + down(gelu(up(x))))
//! ```

use super::Arch;
use crate::config::{Config, GgufKeys, JsonKeys};
use crate::ops::{
    Add, Attention, Embedding, Gelu, LayerNorm, Linear, PositionEmbedding, RopeLayout,
    TypeEmbedding,
};
use crate::{Graph, Op, Role, ValueId, WeightId};
use serde_json::Value as Json;
use std::collections::BTreeSet;
use sterna_formats::{FormatError, Metadata, Value};

/// BERT without a head.
pub struct Bert;

const NAME: &str = "bert";
const EPS: &str = "attention.layer_norm_epsilon";

/// GGUF name and Hugging Face name of what exists once.
const WHOLE: &[(&str, &str)] = &[
    ("token_embd", "embeddings.word_embeddings"),
    ("position_embd", "embeddings.position_embeddings"),
    ("token_types", "embeddings.token_type_embeddings"),
    ("token_embd_norm", "embeddings.LayerNorm"),
];

/// GGUF name and Hugging Face name of what each layer has.
const LAYER: &[(&str, &str)] = &[
    ("attn_q", "attention.self.query"),
    ("attn_k", "attention.self.key"),
    ("attn_v", "attention.self.value"),
    ("attn_output", "attention.output.dense"),
    ("attn_output_norm", "attention.output.LayerNorm"),
    ("ffn_up", "intermediate.dense"),
    ("ffn_down", "output.dense"),
    ("layer_output_norm", "output.LayerNorm"),
];

/// The matrices of a layer, each of which has a bias.
const MATRICES: [Role; 6] = [
    Role::AttentionQuery,
    Role::AttentionKey,
    Role::AttentionValue,
    Role::AttentionOutput,
    Role::MlpUp,
    Role::MlpDown,
];

impl Arch for Bert {
    fn name(&self) -> &'static str {
        NAME
    }

    fn classes(&self) -> &'static [&'static str] {
        &["BertModel"]
    }

    fn config_from_gguf(&self, keys: &GgufKeys<'_>) -> Result<Config, FormatError> {
        Ok(encoder(keys.encoder(EPS, RopeLayout::Half, biases())?))
    }

    fn config_from_json(&self, keys: &JsonKeys<'_>) -> Result<Config, FormatError> {
        let wanted = [
            ("position_embedding_type", Json::from("absolute")),
            ("is_decoder", Json::from(false)),
            ("add_cross_attention", Json::from(false)),
        ];
        for (key, wanted) in wanted {
            let given = &keys.json[key];
            if !given.is_null() && *given != wanted {
                let problem = format!("\"{key}\" is {given}");
                return Err(FormatError::new(keys.path, problem, format!("supported is {wanted}")));
            }
        }
        keys.refuse_unsupported("gelu")?;
        Ok(encoder(keys.numbers("layer_norm_eps", RopeLayout::Half, biases())?))
    }

    fn metadata(&self, config: &Config) -> Metadata {
        let mut metadata = crate::config::metadata(NAME, config);
        for key in ["rope.dimension_count", "rope.freq_base", "attention.layer_norm_rms_epsilon"] {
            metadata.remove(&format!("{NAME}.{key}"));
        }
        metadata.set(format!("{NAME}.{EPS}"), Value::F32(config.norm_eps));
        metadata.set(format!("{NAME}.attention.causal"), Value::Bool(false));
        metadata.set("tokenizer.ggml.token_type_count", Value::U32(TYPES as u32));
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
        let mut graph = build.graph;
        graph.output = Some(x);
        graph.validate()?;
        Ok(graph)
    }

    fn huggingface_name(&self, gguf_name: &str) -> Option<String> {
        let (stem, kind) = gguf_name.rsplit_once('.')?;
        let find = |list: &[(&str, &'static str)], name: &str| {
            list.iter().find(|(gguf, _)| *gguf == name).map(|(_, theirs)| *theirs)
        };
        match stem.strip_prefix("blk.") {
            None => Some(format!("{}.{kind}", find(WHOLE, stem)?)),
            Some(layer) => {
                let (layer, part) = layer.split_once('.')?;
                Some(format!("encoder.layer.{layer}.{}.{kind}", find(LAYER, part)?))
            }
        }
    }
}

/// Texts of a pair are of one type each.
const TYPES: usize = 2;

/// The matrices with a bias.
pub fn biases() -> BTreeSet<Role> {
    MATRICES.into()
}

/// A config without what decoders have.
fn encoder(config: Config) -> Config {
    Config { rotary_dim: 0, tied: false, window: None, ..config }
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
        let tokens = self.table("token_embd", Role::TokenEmbedding, c.vocab_len);
        let positions = self.table("position_embd", Role::PositionEmbedding, c.context_len);
        let types = self.table("token_types", Role::TypeEmbedding, TYPES);
        let x = self.graph.add("embed", Embedding, &[Graph::TOKENS], &[tokens])?;
        let x = self.graph.add("type_embed", TypeEmbedding, &[x], &[types])?;
        let x = self.graph.add("position_embed", PositionEmbedding, &[x], &[positions])?;
        self.norm("token_embd_norm", x)
    }

    fn attention(&mut self, x: ValueId) -> Result<ValueId, String> {
        let c = self.config;
        let (q_len, kv_len) = (c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
        let q = self.linear("attn_q", Role::AttentionQuery, x, q_len)?;
        let k = self.linear("attn_k", Role::AttentionKey, x, kv_len)?;
        let v = self.linear("attn_v", Role::AttentionValue, x, kv_len)?;
        let op = Attention {
            n_heads: c.n_heads,
            n_kv_heads: c.n_kv_heads,
            head_dim: c.head_dim,
            scale: Attention::usual_scale(c.head_dim),
            window: None,
            causal: false,
        };
        let mixed = self.add("attention", op, &[q, k, v], &[])?;
        let out = self.linear("attn_output", Role::AttentionOutput, mixed, c.dim)?;
        let sum = self.add("attn_residual", Add, &[x, out], &[])?;
        self.norm("attn_output_norm", sum)
    }

    fn mlp(&mut self, x: ValueId) -> Result<ValueId, String> {
        let up = self.linear("ffn_up", Role::MlpUp, x, self.config.ffn_dim)?;
        let bent = self.add("gelu", Gelu, &[up], &[])?;
        let down = self.linear("ffn_down", Role::MlpDown, bent, self.config.dim)?;
        let sum = self.add("ffn_residual", Add, &[x, down], &[])?;
        self.norm("layer_output_norm", sum)
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

    /// A table of so many learned rows.
    fn table(&mut self, name: &str, role: Role, n_rows: usize) -> WeightId {
        self.graph.weight(format!("{name}.weight"), &[n_rows, self.config.dim], role, None)
    }

    fn weight(&mut self, part: &str, kind: &str, shape: &[usize], role: Role) -> WeightId {
        self.graph.weight(format!("{}.{kind}", self.name(part)), shape, role, self.layer)
    }

    fn norm(&mut self, part: &str, x: ValueId) -> Result<ValueId, String> {
        let weight = self.weight(part, "weight", &[self.config.dim], Role::Norm);
        let bias = self.weight(part, "bias", &[self.config.dim], Role::Bias);
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
        let matrix = self.weight(part, "weight", &[n_outputs, n_inputs], role);
        let bias = self.weight(part, "bias", &[n_outputs], Role::Bias);
        self.add(part, Linear::new(true), &[x], &[matrix, bias])
    }
}
