//! A run's state as a file: what resuming needs to go on with the same losses.
//!
//! One safetensors file per checkpoint: the full-precision weights and both moments of each, with
//! the step, the config and a checksum in its header. Written beside its place and renamed, so that
//! a killed run leaves the last whole one.

#[cfg(test)]
mod tests;

use crate::TrainError;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use sterna_formats::AtomicFile;
use sterna_model::Graph;

/// How many checkpoints a run keeps.
const KEPT: usize = 2;

/// Everything that changes from step to step, as plain numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Where the run is.
    pub progress: Progress,
    /// Weights in the graph's order.
    pub weights: Vec<Vec<f32>>,
    /// Of the weights that have been trained.
    pub moments: Vec<Option<Moments>>,
    /// The weights of the best held-out loss, where a run stops early.
    pub best: Option<Vec<Vec<f32>>>,
}

/// A weight's running means: of its gradient, of the square, and the steps they have seen.
pub type Moments = (Vec<f32>, Vec<f32>, usize);

/// Where a run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub step: usize,
    /// The best held-out loss so far.
    pub best: Option<f64>,
    /// Evaluations since then.
    pub stale: usize,
    /// Seconds spent, over all starts.
    pub seconds: f64,
    /// The decisions that a resumed run must share, as TOML.
    pub config: String,
    /// Hash of the text, the first weights and the teacher, which it must share too.
    pub content: String,
}

/// Where the header is in the file's metadata, and the checksum of header and tensors.
const HEADER: &str = "sterna.training";
const CHECKSUM: &str = "sterna.checksum";

/// What the header says; a missing or foreign one is refused.
#[derive(Serialize, Deserialize)]
struct Header {
    progress: Progress,
    times: Vec<Option<usize>>,
    has_best: bool,
}

impl State {
    /// Saves the state into `folder` and removes checkpoints that are too many.
    ///
    /// # Errors
    /// When the system refuses; older checkpoints stay then.
    pub fn save(&self, folder: &Path, graph: &Graph) -> Result<PathBuf, TrainError> {
        let path = folder.join(format!("checkpoint-{:08}.safetensors", self.progress.step));
        let mut tensors: Vec<(String, &[f32], (usize, usize))> = Vec::new();
        for (id, decl) in graph.weights.iter().enumerate() {
            let shape = decl.matrix();
            tensors.push((format!("weight.{}", decl.name), &self.weights[id], shape));
            if let Some((first, second, _)) = &self.moments[id] {
                tensors.push((format!("first.{}", decl.name), first, shape));
                tensors.push((format!("second.{}", decl.name), second, shape));
            }
            if let Some(best) = &self.best {
                tensors.push((format!("best.{}", decl.name), &best[id], shape));
            }
        }
        let header = Header {
            progress: self.progress.clone(),
            times: self.moments.iter().map(|m| m.as_ref().map(|m| m.2)).collect(),
            has_best: self.best.is_some(),
        };
        let header = serde_json::to_string(&header).expect("a header is plain data");
        let mut hasher = blake3::Hasher::new();
        hasher.update(header.as_bytes());
        let mut views = Vec::new();
        for (name, values, (rows, cols)) in &tensors {
            hasher.update(name.as_bytes());
            hasher.update(bytemuck::cast_slice(values));
            let view =
                TensorView::new(Dtype::F32, vec![*rows, *cols], bytemuck::cast_slice(values));
            views.push((name.clone(), view.expect("the bytes are of this shape")));
        }
        let checksum = hasher.finalize().to_hex().to_string();
        let metadata =
            HashMap::from([(HEADER.to_owned(), header), (CHECKSUM.to_owned(), checksum)]);
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| {
            TrainError::Input(format!("{}: cannot be written: {e}", path.display()))
        })?;
        AtomicFile::write_whole(&path, &bytes)?;
        remove_all_but(folder, KEPT);
        Ok(path)
    }

    /// Reads a checkpoint of this graph.
    ///
    /// # Errors
    /// When it is damaged, of another graph, or no checkpoint of training.
    pub fn open(path: &Path, graph: &Graph) -> Result<Self, TrainError> {
        let failed = |problem: String| {
            TrainError::Input(format!(
                "{}: {problem}; remove it to go on from the one before",
                path.display()
            ))
        };
        let bytes = std::fs::read(path).map_err(|e| failed(format!("cannot be read: {e}")))?;
        let damaged = |e: safetensors::SafeTensorError| failed(format!("is damaged: {e}"));
        let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        let stranger = || failed("is no checkpoint of a training run".into());
        let entry = |key| metadata.metadata().as_ref().and_then(|m| m.get(key));
        let (text, checksum) = entry(HEADER).zip(entry(CHECKSUM)).ok_or_else(stranger)?;
        let header: Header = serde_json::from_str(text).map_err(|_| stranger())?;
        if header.times.len() != graph.weights.len() {
            return Err(failed("is of another model".into()));
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(text.as_bytes());
        let mut read = |name: String, len: usize| -> Result<Vec<f32>, TrainError> {
            let tensor = file.tensor(&name).map_err(damaged)?;
            if tensor.dtype() != Dtype::F32 || tensor.data().len() != 4 * len {
                return Err(failed(format!("is of another model: {name} has another shape")));
            }
            hasher.update(name.as_bytes());
            hasher.update(tensor.data());
            Ok(bytemuck::pod_collect_to_vec(tensor.data()))
        };
        let (mut weights, mut moments, mut best) = (Vec::new(), Vec::new(), Vec::new());
        for (decl, time) in graph.weights.iter().zip(&header.times) {
            let (rows, cols) = decl.matrix();
            weights.push(read(format!("weight.{}", decl.name), rows * cols)?);
            moments.push(match time {
                Some(time) => Some((
                    read(format!("first.{}", decl.name), rows * cols)?,
                    read(format!("second.{}", decl.name), rows * cols)?,
                    *time,
                )),
                None => None,
            });
            if header.has_best {
                best.push(read(format!("best.{}", decl.name), rows * cols)?);
            }
        }
        if hasher.finalize().to_hex().as_str() != checksum {
            return Err(failed("is damaged: its checksum does not match".into()));
        }
        let best = header.has_best.then_some(best);
        Ok(Self { progress: header.progress, weights, moments, best })
    }
}

/// The newest checkpoint of a folder that is whole; `notes` gets a sentence for each newer one that
/// is not.
pub fn newest(folder: &Path, graph: &Graph, notes: &mut Vec<String>) -> Option<(PathBuf, State)> {
    for path in checkpoints(folder).into_iter().rev() {
        match State::open(&path, graph) {
            Ok(state) => return Some((path, state)),
            Err(error) => notes.push(error.to_string()),
        }
    }
    None
}

/// The checkpoints of a folder, oldest first.
pub fn checkpoints(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let is_checkpoint = |path: &PathBuf| {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with("checkpoint-") && name.ends_with(".safetensors")
    };
    let mut paths: Vec<PathBuf> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(is_checkpoint).collect();
    paths.sort();
    paths
}

fn remove_all_but(folder: &Path, kept: usize) {
    let paths = checkpoints(folder);
    for path in &paths[..paths.len().saturating_sub(kept)] {
        // One that stays costs space only.
        let _ = std::fs::remove_file(path);
    }
}
