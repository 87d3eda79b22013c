//! What models counted, those that left memory too: counters of a process never go down.
//!
//! In: what an engine and the server count while a model is in memory. Out: the same with what was
//! counted before, which whoever keeps the models remembers.

use crate::groups::Lengths;
use crate::model::Model;
use std::sync::Arc;
use sterna_engine::Stats;

/// What was counted for a model.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// By its engine.
    pub stats: Stats,
    /// By the server.
    pub(crate) groups: Lengths,
}

impl Counted {
    /// Since a model came into memory.
    pub fn of(model: &Model) -> Self {
        Self { stats: model.served.engine.stats(), groups: model.groups.all() }
    }

    /// Adds what was counted before.
    pub fn add(&mut self, before: &Self) {
        self.stats.add(&before.stats);
        self.groups.n.merge(&before.groups.n);
        self.groups.longest.merge(&before.groups.longest);
    }
}

/// A model that is in memory, or was.
pub struct Past {
    /// Its name.
    pub name: String,
    /// The model, where it is in memory.
    pub model: Option<Arc<Model>>,
    /// What was counted before it came into memory the last time.
    pub before: Counted,
}

impl Past {
    /// What was counted in all, and what the model has now.
    pub fn counted(&self) -> Counted {
        let mut counted = self.model.as_deref().map(Counted::of).unwrap_or_default();
        counted.add(&self.before);
        counted
    }
}
