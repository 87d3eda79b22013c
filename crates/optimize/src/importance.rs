//! Importance: how much each input of a matrix matters, as the mean square of its activations.
//!
//! In: a statistics file in llama-imatrix's GGUF form (tensors `NAME.in_sum2` and `NAME.counts`).
//! Out: per tensor one weight per value of a row.

use crate::error::{OptimizeError, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use sterna_formats::Checkpoint;

/// Weights of squared errors by tensor name.
#[derive(Clone, Debug, Default)]
pub struct Importance {
    tensors: BTreeMap<String, Arc<[f32]>>,
}

impl Importance {
    /// Adds or replaces a tensor's weights, one per value of a row.
    pub fn set(&mut self, name: impl Into<String>, weights: Vec<f32>) {
        self.tensors.insert(name.into(), weights.into());
    }

    /// Reads a statistics file.
    ///
    /// # Errors
    /// When it cannot be read or holds no statistics.
    pub fn open(path: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let mut importance = Self::default();
        for info in &checkpoint.tensors {
            let Some(name) = info.name.strip_suffix(".in_sum2") else { continue };
            let sums = values(&checkpoint, &info.name)?;
            let counts = values(&checkpoint, &format!("{name}.counts"))?;
            // Several rows are several experts; a dense matrix has one.
            if counts.len() != 1 {
                let problem = format!(
                    "{}: {name} is of {} experts, and only dense \
                    matrices are supported",
                    path.display(),
                    counts.len()
                );
                return Err(OptimizeError::Input(problem));
            }
            let n = counts[0].max(1.0);
            importance.set(name, sums.iter().map(|sum| sum / n).collect());
        }
        if importance.tensors.is_empty() {
            return Err(OptimizeError::Input(format!(
                "{}: no tensor is called NAME.in_sum2, so this is no importance matrix; make one \
                 with llama-imatrix (its GGUF form)",
                path.display()
            )));
        }
        Ok(importance)
    }

    /// The weights of a tensor, as many as were seen.
    pub fn seen(&self, name: &str) -> Option<Arc<[f32]>> {
        self.tensors.get(name).cloned()
    }

    /// The weights of a tensor with rows of `cols` values, zeros where the row was lengthened.
    pub fn of(&self, name: &str, cols: usize) -> Option<Arc<[f32]>> {
        let weights = self.tensors.get(name)?;
        if weights.len() == cols {
            return Some(weights.clone());
        }
        (weights.len() < cols).then(|| {
            let mut longer = weights.to_vec();
            longer.resize(cols, 0.0);
            longer.into()
        })
    }
}

fn values(checkpoint: &Checkpoint, name: &str) -> Result<Vec<f32>> {
    let path = checkpoint.path.display();
    let missing = || OptimizeError::Input(format!("{path}: tensor {name} is missing"));
    let info = checkpoint.tensor(name).ok_or_else(missing)?;
    let encoding = checkpoint.encoding(info)?;
    let mut values = vec![0.0; info.n_values()];
    encoding.decode(checkpoint.bytes(info), &mut values);
    if values.iter().any(|v| !v.is_finite() || *v < 0.0) {
        let problem = format!("{path}: {name} holds numbers that are no mean squares; remake it");
        return Err(OptimizeError::Input(problem));
    }
    Ok(values)
}
