//! What the manager did so far.

use crate::entry::ModelId;
use std::collections::{BTreeMap, BTreeSet};
use sterna_engine::Histogram;
use sterna_server::LOAD_BOUNDS;

/// Why a model left memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Another one needed the memory.
    Room,
    /// The machine's memory ran out.
    Pressure,
    /// Nobody used it.
    Idle,
    /// An operator wanted it.
    Asked,
    /// Its engine failed.
    Died,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Room, Self::Pressure, Self::Idle, Self::Asked, Self::Died];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Pressure => "pressure",
            Self::Idle => "idle",
            Self::Asked => "asked",
            Self::Died => "died",
        }
    }
}

/// Agents whose models are remembered.
const MOST_AGENTS: usize = 256;

/// Counts since the start.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Requests that found their model in memory.
    pub hits: u64,
    /// Requests that did not.
    pub misses: u64,
    /// Models that left, by [`Reason`].
    pub evictions: [u64; Reason::ALL.len()],
    /// The most bytes that models held.
    pub peak_bytes: u64,
    /// Bytes that were loaded ahead and then asked for.
    pub useful_bytes: u64,
    /// Bytes that were loaded ahead and left without having been asked for.
    pub wasted_bytes: u64,
    /// What loads took.
    pub load_seconds: Histogram,
    /// Which models each agent asked for.
    pub models_of: BTreeMap<String, BTreeSet<ModelId>>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            hits: 0,
            misses: 0,
            evictions: [0; Reason::ALL.len()],
            peak_bytes: 0,
            useful_bytes: 0,
            wasted_bytes: 0,
            load_seconds: Histogram::new(LOAD_BOUNDS),
            models_of: BTreeMap::new(),
        }
    }
}

impl Counters {
    /// Counts a request.
    pub fn request(&mut self, is_hit: bool, agent: &str, model: ModelId) {
        *(if is_hit { &mut self.hits } else { &mut self.misses }) += 1;
        if self.models_of.contains_key(agent) || self.models_of.len() < MOST_AGENTS {
            self.models_of.entry(agent.to_owned()).or_default().insert(model);
        }
    }

    /// Agents that asked for a model.
    pub fn agents_of(&self, model: ModelId) -> usize {
        self.models_of.values().filter(|models| models.contains(&model)).count()
    }

    /// What a load takes, as far as is known.
    pub fn mean_load_seconds(&self) -> Option<f64> {
        let n = self.load_seconds.count();
        (n > 0).then(|| self.load_seconds.sum() / n as f64)
    }
}
