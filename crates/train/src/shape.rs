//! The shape of a new model: a preset with the config's changes.

use crate::{TrainError, config};
use sterna_model::{Arch, Config, presets};

/// Where a shape starts that names no preset.
const USUAL: &str = "llama-1m";

/// The architecture and hyper-parameters that `[model]` asks for.
///
/// # Errors
/// When the preset is unknown: the message names the nearest.
pub fn of(model: &config::Model) -> Result<(&'static dyn Arch, Config), TrainError> {
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
