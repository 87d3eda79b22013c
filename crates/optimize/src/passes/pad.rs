//! `pad`: lengthens the MLP's hidden width with zeros until its rows divide into blocks of 32.
//!
//! Rows of 172 fit no block encoding and would stay F16. Twenty hidden features whose gate and up
//! rows are zero add `silu(0) * 0 = 0` times a zero column: the function is exactly the same, and
//! `ffn_down` may now be stored in 4 to 8 bits. It is done only where that saves bytes, and the
//! file says so by its ordinary `feed_forward_length`, so every engine reads it. Where the hidden
//! features are normalised together (BitNet's sub-norm), zeros would change their mean, so they
//! stay.

use super::{Context, Pass};
use crate::draft::Draft;
use crate::error::{OptimizeError, Result};
use sterna_model::config::Config;
use sterna_model::ops::{LayerNorm, RmsNorm};
use sterna_model::{Graph, Role};

/// The shortest block of any block encoding.
const BLOCK_LEN: usize = 32;

/// Zero features for the MLP.
pub struct Pad;

impl Pass for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn about(&self) -> &'static str {
        "adds zero features to the MLP so that its rows fit block encodings; changes no result"
    }

    fn apply(&self, draft: &mut Draft<'_>, context: &mut Context<'_>) -> Result<()> {
        let Some((arch, config)) = context.may_pad else { return Ok(()) };
        let Some(padded) = padded(config) else { return Ok(()) };
        if normalises(draft.graph(), Role::MlpDown) {
            return Ok(());
        }
        let graph = arch.graph(&padded).map_err(OptimizeError::Input)?;
        let (from, to) = (config.ffn_dim, padded.ffn_dim);
        draft.set_graph(graph);
        draft.set_config(padded);
        draft.note(format!(
            "pad: the MLP's {from} hidden features are stored as {to}, the last {} of them zero: \
             rows of {from} fit no block encoding, rows of {to} do",
            to - from
        ));
        Ok(())
    }
}

/// The config with the next hidden width that fits, if the width does not fit and the change saves
/// bytes at 8.5 bits per weight: three matrices grow, and one falls from 16 bits.
pub fn padded(config: &Config) -> Option<Config> {
    let from = config.ffn_dim;
    let to = from.next_multiple_of(BLOCK_LEN);
    let grown = 3.0 * to as f64 * 8.5;
    let as_is = 2.0 * from as f64 * 8.5 + from as f64 * 16.0;
    (to != from && grown < as_is).then(|| Config { ffn_dim: to, ..config.clone() })
}

/// Whether a matrix of that role reads the output of a norm.
pub fn normalises(graph: &Graph, role: Role) -> bool {
    let readers =
        graph.nodes.iter().filter(|node| node.weights.iter().any(|&w| graph.decl(w).role == role));
    let inputs: Vec<_> = readers.flat_map(|node| &node.inputs).collect();
    graph.nodes.iter().any(|node| {
        let op = node.op.as_any();
        (op.is::<RmsNorm>() || op.is::<LayerNorm>())
            && node.outputs.iter().any(|output| inputs.contains(&output))
    })
}
