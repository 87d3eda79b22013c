//! The machine profile: what this box is, and what it can do at most.
//!
//! In: `/proc`, `/sys`, the CPU itself, and probes to run. Out: [`Machine`] (read in milliseconds)
//! and [`Ceilings`] (measured in seconds), cached together as JSON by the machine's identity.

pub mod ceilings;
pub mod cgroup;
pub mod detect;
pub mod prober;
pub mod tuned;

pub use ceilings::{Ceiling, Ceilings, Effort, PAGE_BYTES, Pin, PortableProbes, Probes, Reader};
pub use detect::Machine;
pub use prober::{Prober, Roof};
pub use tuned::Tuned;

use crate::MeasureError;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A machine with its measured ceilings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What it is.
    pub machine: Machine,
    /// What it can do.
    pub ceilings: Ceilings,
}

impl Profile {
    /// Where the profile of a machine lies: `machine-<id>.json` under the cache folder.
    pub fn path(cache: &Path, machine: &Machine) -> PathBuf {
        cache.join(format!("machine-{}.json", machine.id()))
    }

    /// The cached profile of exactly this machine; `None` if there is none yet.
    ///
    /// # Errors
    /// If the file is there but cannot be read as a profile.
    pub fn load(cache: &Path, machine: &Machine) -> Result<Option<Self>, MeasureError> {
        let path = Self::path(cache, machine);
        let profile: Option<Self> = read_json(&path, "delete it, and it is measured again")?;
        // The hash names the file; a copied file is another machine's all the same.
        Ok(profile.filter(|profile| profile.machine.id() == machine.id()))
    }

    /// Writes the profile beside its place and renames it into it.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn save(&self, cache: &Path) -> Result<PathBuf, MeasureError> {
        let path = Self::path(cache, &self.machine);
        write_json(&path, self)?;
        Ok(path)
    }
}

/// A file's JSON; `None` if there is no file. `fix` says what to do about a damaged one.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(
    path: &Path,
    fix: &str,
) -> Result<Option<T>, MeasureError> {
    let data = |why: String| MeasureError::Data(format!("{}: {why}; {fix}", path.display()));
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(path).map_err(|error| data(error.to_string()))?;
    serde_json::from_str(&text).map(Some).map_err(|error| data(error.to_string()))
}

/// Writes JSON beside its place and renames it into it.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), MeasureError> {
    let text = serde_json::to_string_pretty(value).expect("plain data") + "\n";
    let beside = path.with_extension(format!("tmp{}", std::process::id()));
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = fs::create_dir_all(folder)
        .and_then(|()| fs::write(&beside, text))
        .and_then(|()| fs::rename(&beside, path));
    written.map_err(|error| {
        let what = format!("writing {}", path.display());
        MeasureError::Failed { what, why: error.to_string() }
    })
}

#[cfg(test)]
mod tests;
