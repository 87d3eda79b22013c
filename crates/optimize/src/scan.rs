//! Looks for weights that are no numbers before anything is built on them (B8).
//!
//! In: a graph and its weights. Out: nothing, or the first tensor and row that is damaged.

use crate::error::{OptimizeError, Result};
use rayon::prelude::*;
use sterna_model::{Graph, WeightSource, WeightView};

/// Reads every weight once, streaming, and gives its pages back.
///
/// # Errors
/// When a value, or the scale of a block, is NaN or infinite: the sentence names tensor and row.
pub fn finite(graph: &Graph, weights: &dyn WeightSource) -> Result<()> {
    for id in graph.weight_ids() {
        let broken = broken_row(&weights.weight(id));
        weights.release(id);
        if let Some(row) = broken {
            let name = &graph.decl(id).name;
            return Err(OptimizeError::Input(format!(
                "tensor {name}, row {row} holds a number that is NaN or infinite; the file is \
                 damaged, or the training that made it diverged: get another"
            )));
        }
    }
    Ok(())
}

/// The first row with a value that is no finite number.
fn broken_row(view: &WeightView<'_>) -> Option<usize> {
    (0..view.rows).into_par_iter().find_first(|&row| {
        let mut values = vec![0.0; view.cols];
        view.encoding.decode(view.row_bytes(row..row + 1), &mut values);
        values.iter().any(|value| !value.is_finite())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny_model;

    #[test]
    fn a_number_that_is_none_is_found_by_tensor_and_row() {
        // proves B8 (NaN scan)
        let mut tiny = tiny_model(1);
        finite(&tiny.graph, &tiny).unwrap();
        let id = tiny.graph.find_weight("blk.1.attn_v.weight").unwrap();
        let at = (5 * 32 + 7) * 4;
        for bad in [f32::NAN, f32::INFINITY] {
            tiny.weights[id.0][at..at + 4].copy_from_slice(&bad.to_le_bytes());
            let error = finite(&tiny.graph, &tiny).unwrap_err().to_string();
            assert!(error.starts_with("tensor blk.1.attn_v.weight, row 5 holds"), "{error}");
        }
    }
}
