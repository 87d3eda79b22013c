//! A [`Config`] as GGUF metadata, with the keys and types that llama.cpp reads.

use super::Config;
use sterna_formats::{Metadata, Value};

/// The hyper-parameters of an architecture.
pub fn metadata(arch: &str, config: &Config) -> Metadata {
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", Value::Str(arch.into()));
    let mut count = |key: &str, n: usize| {
        let n = u32::try_from(n).expect("Config::check keeps counts below 2^24");
        metadata.set(format!("{arch}.{key}"), Value::U32(n));
    };
    count("vocab_size", config.vocab_len);
    count("context_length", config.context_len);
    count("embedding_length", config.dim);
    count("block_count", config.n_layers);
    count("feed_forward_length", config.ffn_dim);
    count("rope.dimension_count", config.rotary_dim);
    count("attention.head_count", config.n_heads);
    count("attention.head_count_kv", config.n_kv_heads);
    count("attention.key_length", config.head_dim);
    count("attention.value_length", config.head_dim);
    if let Some(window) = config.window {
        count("attention.sliding_window", window);
    }
    let mut float = |key: &str, x: f32| metadata.set(format!("{arch}.{key}"), Value::F32(x));
    float("attention.layer_norm_rms_epsilon", config.norm_eps);
    float("rope.freq_base", config.rope_base);
    if config.rope_scale != 1.0 {
        float("rope.scaling.factor", config.rope_scale);
        metadata.set(format!("{arch}.rope.scaling.type"), Value::Str("linear".into()));
    }
    metadata
}
