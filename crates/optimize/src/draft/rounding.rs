//! How a draft's weights are rounded: which errors matter, and what their columns are scaled by.

use super::Draft;
use super::scaling::{Place, Scaling};
use crate::fit;
use crate::importance::Importance;
use std::sync::Arc;
use sterna_model::WeightId;
use sterna_model::plan::{Distilled, Rounding};

impl Draft<'_> {
    /// Has every squared error count as much as the importance of its column; what is encoded from
    /// now on is rounded so.
    pub fn weigh(&mut self, importance: Arc<Importance>) {
        self.importance = Some(importance);
        // Its bytes were rounded otherwise.
        self.empty_shelf();
    }

    /// Multiplies what a place's matrices have in each column by a power of two, and divides what
    /// they read there by it: the model computes the same, and is rounded otherwise. `strength` is
    /// what the factors came from.
    ///
    /// # Panics
    /// As [`Scaling::scale`].
    pub fn scale(&mut self, place: &Place, factors: &[f32], strength: f64) {
        self.scaling.scale(&self.graph, place, factors, strength);
        // Its bytes were of other values.
        self.empty_shelf();
    }

    /// What was moved from matrices' inputs into their columns.
    pub fn scaling(&self) -> &Scaling {
        &self.scaling
    }

    /// How much a squared error in each column of a matrix matters; `None` where all matter alike.
    pub fn importance(&self, id: WeightId) -> Option<Arc<[f32]>> {
        let decl = self.graph.decl(id);
        let weights = self.importance.as_ref()?.of(&decl.name, fit::cols_of(decl))?;
        Some(match self.scaling.of(id) {
            Some(factors) => factors.weigh(&weights).into(),
            None => weights,
        })
    }

    /// The same before anything is encoded anew.
    pub fn unrounded(&self) -> Self {
        let mut draft = self.clone();
        draft.clear_encodings();
        draft
    }

    /// Says that it has learned from its source since it was rounded so.
    pub fn set_distilled(&mut self, rounding: Rounding, how: Distilled) {
        self.taught = Some((rounding, how));
    }

    /// How it learned from its source.
    pub fn distilled(&self) -> Option<&Distilled> {
        self.taught.as_ref().map(|(_, how)| how)
    }

    /// How its matrices are rounded.
    pub fn rounding(&self) -> Rounding {
        if let Some((rounding, _)) = self.taught {
            return rounding;
        }
        match self.importance {
            _ if self.edits.values().any(|edit| edit.bytes.is_some()) => Rounding::Compensated,
            Some(_) => Rounding::Weighed,
            None => Rounding::Plain,
        }
    }
}
