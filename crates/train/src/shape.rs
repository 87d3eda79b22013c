//! The shape of a new model: a preset with the config's changes.

use crate::TrainError;
use crate::config::{self, Config};
use sterna_model::{Arch, Graph, presets};

/// Where a shape starts that names no preset.
const USUAL: &str = "llama-1m";

/// The architecture, hyper-parameters and graph that a config asks for; `vocab_len` gives the
/// vocabulary, from the preset's.
///
/// # Errors
/// When the preset is unknown (the message names the nearest), or the shape does not fit together.
pub fn graph(
    config: &Config,
    vocab_len: &mut dyn FnMut(usize) -> usize,
) -> Result<(&'static dyn Arch, sterna_model::Config, Graph), TrainError> {
    let (arch, mut shape) = of(&config.model)?;
    let wrong = |problem: String| TrainError::Input(format!("the model's shape: {problem}"));
    let seq_len = config.data.seq_len;
    if config.model.context.is_some_and(|context| context < seq_len) {
        return Err(wrong(format!("model.context is less than data.seq_len {seq_len}")));
    }
    shape.context_len = shape.context_len.max(seq_len);
    shape.vocab_len = vocab_len(shape.vocab_len);
    shape.check().map_err(wrong)?;
    let graph = arch.graph(&shape).map_err(wrong)?;
    Ok((arch, shape, graph))
}

/// Checks that the preset is known.
///
/// # Errors
/// When it is not: the message names the nearest.
pub fn check_preset(model: &config::Model) -> Result<(), TrainError> {
    of(model).map(|_| ())
}

/// Checks that what a config says of the shape is true of a model that training starts from.
///
/// # Errors
/// When it is not: the message names the key.
pub fn check_against(model: &config::Model, real: &sterna_model::Config) -> Result<(), TrainError> {
    let (_, asked) = of(model)?;
    let has_preset = model.preset.is_some();
    let pairs = [
        ("layers", model.layers, asked.n_layers, real.n_layers),
        ("dim", model.dim, asked.dim, real.dim),
        ("ffn_dim", model.ffn_dim, asked.ffn_dim, real.ffn_dim),
        ("heads", model.heads, asked.n_heads, real.n_heads),
        ("kv_heads", model.kv_heads, asked.n_kv_heads, real.n_kv_heads),
        ("context", model.context, real.context_len, real.context_len),
    ];
    for (key, given, asked, real) in pairs {
        let asked = given.unwrap_or(asked);
        if asked != real && (given.is_some() || has_preset) {
            let from = if given.is_some() { format!("model.{key}") } else { "model.preset".into() };
            return Err(TrainError::Input(format!(
                "{from} asks for {key} = {asked}, but model.init has {real}; leave {from} out"
            )));
        }
    }
    Ok(())
}

/// The architecture and hyper-parameters that `[model]` asks for.
fn of(model: &config::Model) -> Result<(&'static dyn Arch, sterna_model::Config), TrainError> {
    let name = model.preset.as_deref().unwrap_or(USUAL);
    let preset = presets::by_name(name).map_err(TrainError::Input)?;
    let mut shape = preset.config();
    let set = |to: &mut usize, from: Option<usize>| *to = from.unwrap_or(*to);
    set(&mut shape.n_layers, model.layers);
    set(&mut shape.dim, model.dim);
    set(&mut shape.ffn_dim, model.ffn_dim);
    set(&mut shape.n_heads, model.heads);
    set(&mut shape.n_kv_heads, model.kv_heads.or(model.heads));
    set(&mut shape.context_len, model.context);
    if model.dim.is_some() || model.heads.is_some() {
        let rotates = shape.rotary_dim > 0;
        shape.head_dim = shape.dim / shape.n_heads.max(1);
        shape.rotary_dim = if rotates { shape.head_dim } else { 0 };
    }
    Ok((preset.architecture(), shape))
}
