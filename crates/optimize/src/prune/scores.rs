//! What channels and heads are worth: how much they add to the residual stream.
//!
//! A column of the matrix behind them, times what it reads, is what a channel adds; its expected
//! square over calibration text, `E[x^2] |column|^2`, is its score, and a head's is the sum of its
//! features'. Per layer those of the highest scores stay.

use super::cut::{Kept, Pruned};
use super::{Cut, Subject};
use crate::error::{OptimizeError, Result};
use crate::observe::Observed;
use crate::passes::pad::normalises;
use sterna_model::{Graph, Role, WeightSource};

/// Refuses models in which what is left out would change what stays.
///
/// # Errors
/// Then.
pub fn check(graph: &Graph) -> Result<()> {
    if normalises(graph, Role::MlpDown) || normalises(graph, Role::AttentionOutput) {
        return Err(OptimizeError::Input(
            "this model normalises its hidden channels together before they are summed up \
             (sub-norms), so that leaving some out would change all others; only layers can leave \
             it (--layers)"
                .into(),
        ));
    }
    Ok(())
}

/// Narrows every layer to so many channels, and key and value heads.
pub fn narrow(
    subject: &Subject<'_>,
    whole: &Pruned<'_>,
    observed: &Observed,
    (n_channels, n_kv_heads): (usize, usize),
    cut: &mut Cut,
) -> Result<()> {
    let (config, graph) = (subject.config, whole.graph());
    let group = config.n_heads / config.n_kv_heads * config.head_dim;
    let (mut lost, mut all) = (0.0, 0.0);
    for id in graph.weight_ids() {
        let decl = graph.decl(id);
        let Some(layer) = decl.layer else { continue };
        let (len, n_kept) = match decl.role {
            Role::MlpDown => (1, n_channels),
            Role::AttentionOutput => (group, n_kv_heads),
            _ => continue,
        };
        let input = observed.inputs.iter().find(|input| input.matrices.contains(&decl.name));
        let input = input
            .ok_or_else(|| OptimizeError::Input(format!("the text never reached {}", decl.name)))?;
        let view = whole.weight(id);
        let mut squares = vec![0.0; view.cols];
        for row in view.to_f32().chunks_exact(view.cols) {
            squares.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x).powi(2));
        }
        whole.release(id);
        let adds: Vec<f64> =
            input.mean_squares().zip(&squares).map(|(mean, square)| mean * square).collect();
        let scores: Vec<f64> = adds.chunks_exact(len).map(|adds| adds.iter().sum()).collect();
        let best = best(&scores, n_kept);
        all += scores.iter().sum::<f64>();
        lost += scores.iter().sum::<f64>() - best.iter().map(|&i| scores[i]).sum::<f64>();
        let Kept { channels, kv_heads, .. } = &mut cut.kept[layer];
        match decl.role {
            Role::MlpDown => *channels = best,
            _ => *kv_heads = best,
        }
    }
    cut.notes.push(format!(
        "what left added {:.2}% of the squares that all channels and heads add to the residual \
         stream",
        lost / f64::max(all, f64::MIN_POSITIVE) * 100.0
    ));
    Ok(())
}

/// The indices of the `n` highest, ascending; the earlier of equals.
fn best(scores: &[f64], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order.truncate(n);
    order.sort_unstable();
    order
}
