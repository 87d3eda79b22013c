//! The shape of a new model: a preset with the config's changes.

use crate::TrainError;
use crate::config;
use sterna_model::Arch;

/// The architecture and hyper-parameters that `[model]` asks for.
///
/// # Errors
/// When the preset is unknown: the message names the nearest.
pub fn of(model: &config::Model) -> Result<(&'static dyn Arch, sterna_model::Config), TrainError> {
    use sterna_model::ops::RopeLayout;
    let mut shape = sterna_model::Config {
        n_layers: 5,
        dim: 256,
        ffn_dim: 768,
        n_heads: 4,
        n_kv_heads: 4,
        head_dim: 64,
        vocab_len: 2048,
        context_len: 512,
        norm_eps: 1e-5,
        rope_layout: RopeLayout::Interleaved,
        rotary_dim: 64,
        rope_base: 10000.0,
        rope_scale: 1.0,
        rope_factors: false,
        llama3: None,
        window: None,
        tied: true,
        biases: Default::default(),
        qk_norm: false,
    };
    let set = |to: &mut usize, from: Option<usize>| *to = from.unwrap_or(*to);
    set(&mut shape.n_layers, model.layers);
    set(&mut shape.dim, model.dim);
    set(&mut shape.ffn_dim, model.ffn_dim);
    set(&mut shape.n_heads, model.heads);
    set(&mut shape.n_kv_heads, model.kv_heads.or(model.heads));
    set(&mut shape.context_len, model.context);
    if model.dim.is_some() || model.heads.is_some() {
        shape.head_dim = shape.dim / shape.n_heads.max(1);
        shape.rotary_dim = shape.head_dim;
    }
    Ok((&sterna_model::archs::llama::Llama, shape))
}
