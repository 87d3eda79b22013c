//! Leaving a run and going on with it.

use super::{Event, Trainer, curve, tensors};
use crate::TrainError;
use crate::matrix::{matrix, numbers};
use crate::optim::Moments;
use crate::state::{self, State};
use burn::tensor::backend::AutodiffBackend;
use std::path::{Path, PathBuf};
use sterna_formats::atomic;

impl<B: AutodiffBackend> Trainer<'_, B> {
    /// Goes on from the newest whole checkpoint, if there is one.
    pub(super) fn resume(
        &mut self,
        watch: &mut dyn FnMut(Event<'_>) -> bool,
    ) -> Result<(), TrainError> {
        let Some(out) = self.job.out else { return Ok(()) };
        atomic::remove_abandoned(out);
        let mut notes = Vec::new();
        let found = state::newest(out, &self.job.graph, &mut notes);
        for note in notes {
            watch(Event::Note(note));
        }
        let Some((path, state)) = found else { return Ok(()) };
        if state.progress.config != self.progress.config {
            return Err(TrainError::Input(format!(
                "{}: was made by another config; give another run.out, or remove the folder",
                path.display()
            )));
        }
        if state.progress.content != self.progress.content {
            return Err(TrainError::Input(format!(
                "{}: was made from another text, other first weights or another teacher; give \
                 another run.out, or remove the folder",
                path.display()
            )));
        }
        self.curve = curve::read(out, state.progress.step);
        let best = state.best.as_ref();
        self.best = best.map(|w| tensors::<B::InnerBackend>(&self.job.graph, w, &self.device));
        self.weights = tensors::<B::InnerBackend>(&self.job.graph, &state.weights, &self.device);
        let tensor = |values: &[f32], id: usize| {
            let (rows, cols) = self.job.graph.weights[id].matrix();
            matrix(values.to_vec(), [rows, cols], &self.device)
        };
        let moments = state.moments.iter().enumerate().map(|(id, m)| {
            m.as_ref().map(|(first, second, time)| Moments {
                first: tensor(first, id),
                second: tensor(second, id),
                time: *time,
            })
        });
        self.moments = moments.collect();
        self.progress = state.progress;
        self.last_saved = Some(path);
        watch(Event::Resumed(self.progress.step));
        Ok(())
    }

    /// Writes a checkpoint and the curve.
    pub(super) fn save(&mut self, out: &Path) -> Result<PathBuf, TrainError> {
        let moments = self
            .moments
            .iter()
            .map(|m| m.as_ref().map(|m| (numbers(&m.first), numbers(&m.second), m.time)));
        let state = State {
            progress: self.progress.clone(),
            weights: self.weights.iter().map(numbers).collect(),
            moments: moments.collect(),
            best: self.best.as_ref().map(|w| w.iter().map(numbers).collect()),
        };
        curve::write(out, &self.curve)?;
        let path = state.save(out, &self.job.graph)?;
        self.last_saved = Some(path.clone());
        Ok(path)
    }
}
