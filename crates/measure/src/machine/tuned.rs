//! The tuned part of a machine profile: knobs whose values were measured to be fastest here.
//!
//! A file of its own beside the ceilings, because it is made by another command, and for one ISA.

use super::{Machine, read_json, write_json};
use crate::{Figure, MeasureError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What `sterna tune` found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuned {
    /// The machine's identity.
    pub machine_id: String,
    /// The ISA that it ran on.
    pub isa: String,
    /// The version of Sterna: another one may have other knobs, or other kernels.
    pub version: String,
    /// What was run.
    pub workload: String,
    /// When.
    pub timestamp_utc: String,
    /// Every knob's value.
    pub knobs: BTreeMap<String, usize>,
    /// The cost with them over the cost with the defaults; `None` where the defaults won.
    pub cost_ratio: Option<Figure>,
}

impl Tuned {
    /// Where it lies: `tuned-<machine>-<isa>.json` under the cache folder.
    pub fn path(cache: &Path, machine: &Machine, isa: &str) -> PathBuf {
        cache.join(format!("tuned-{}-{isa}.json", machine.id()))
    }

    /// What was tuned on exactly this machine, ISA and version; `None` if nothing was.
    ///
    /// # Errors
    /// If the file is there but cannot be read.
    pub fn load(
        cache: &Path,
        machine: &Machine,
        isa: &str,
        version: &str,
    ) -> Result<Option<Self>, MeasureError> {
        let path = Self::path(cache, machine, isa);
        let found: Option<Self> = read_json(&path, "delete it, or run `sterna tune` again")?;
        Ok(found.filter(|tuned| {
            tuned.machine_id == machine.id() && tuned.isa == isa && tuned.version == version
        }))
    }

    /// Writes it beside its place and renames it into it.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn save(&self, cache: &Path, machine: &Machine) -> Result<PathBuf, MeasureError> {
        let path = Self::path(cache, machine, &self.isa);
        write_json(&path, self)?;
        Ok(path)
    }
}
