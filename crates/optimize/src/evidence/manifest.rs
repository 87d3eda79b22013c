//! The manifest of a bundle: which files it has, what their bytes hash to, and under which
//! circumstances they were made.
//!
//! In: facts and files. Out: JSON with a hash of itself, so that no byte of it can change unseen
//! either; and the same read back, its paths held to the bundle's folder.

use super::Facts;
use crate::error::{OptimizeError, Result};
use crate::footprint::Memory;
use crate::spent::Spent;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path};
use sterna_measure::machine::Machine;
use sterna_measure::report::Artefact;

/// The manifest in a bundle's folder.
pub const NAME: &str = "evidence/manifest.json";
/// The version that this Sterna writes and reads.
pub const VERSION: u32 = 4;
/// A manifest is no longer than this.
const MAX_BYTES: u64 = 16 << 20;

/// What a bundle consists of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// Under which circumstances.
    pub made: Circumstances,
    /// What the artifact was made from.
    pub source: SourceFile,
    /// The artifact's file name.
    pub artifact: String,
    /// [`sterna_model::plan::content_hash`] of its tensors.
    pub artifact_content: String,
    /// Its Plan's hash.
    pub plan: String,
    /// Hash of the calibration text's tokens.
    pub calibration: String,
    /// Hash of the held-out text's tokens.
    pub held_out: String,
    /// What the artifact and its baseline take of memory, where that was asked for.
    pub memory: Option<Memory>,
    /// What the run itself took.
    pub spent: Spent,
    /// Whose samples there are.
    pub candidates: Vec<Facts>,
    /// Every file, its path from the bundle's folder.
    pub files: Vec<Artefact>,
    /// blake3 of the manifest's text with nothing between these quotes.
    pub hash: String,
}

/// Who made a bundle, and where.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Circumstances {
    /// The version of Sterna.
    pub sterna: String,
    /// blake3 of the program's file.
    pub binary: Option<String>,
    /// Date and time.
    pub timestamp: String,
    /// The command.
    pub command: String,
    /// The seed of everything random.
    pub seed: u64,
    /// Threads that ran the models.
    pub threads: usize,
    /// The kernels in use.
    pub isa: String,
    /// How the baseline kept keys and values; of the artifact its Plan says it.
    pub kv: String,
    /// The CPU's own name.
    pub cpu: String,
    /// What it can do, as far as Sterna cares.
    pub cpu_flags: Vec<String>,
    /// Identity of the machine profile.
    pub machine: String,
}

/// The model that an artifact was made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    /// Where it was, as the user said it.
    pub path: String,
    /// Its tokenizer file, where that is apart.
    pub tokenizer: Option<String>,
    /// [`sterna_model::plan::content_hash`] of its weights.
    pub content: String,
    /// Bytes as a GGUF file.
    pub bytes: u64,
}

impl Circumstances {
    /// Of this machine.
    pub fn here(machine: &Machine) -> Self {
        Self {
            cpu: machine.cpu.clone(),
            cpu_flags: machine.isa.clone(),
            machine: machine.id(),
            ..Self::default()
        }
    }
}

impl Manifest {
    /// The text of the manifest, its hash in place.
    pub fn print(&self) -> String {
        let sealed = Self { hash: self.own_hash(), ..self.clone() };
        sealed.text()
    }

    fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data") + "\n"
    }

    fn own_hash(&self) -> String {
        let open = Self { hash: String::new(), ..self.clone() };
        blake3::hash(open.text().as_bytes()).to_hex().to_string()
    }

    /// Reads the manifest of a bundle.
    ///
    /// # Errors
    /// When there is none, or one that was changed.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        let bad = |why: String| OptimizeError::Input(format!("{}: {why}", path.display()));
        let length = std::fs::metadata(&path).map_err(|error| {
            bad(format!("{error}; a bundle is the folder that `sterna optimize` wrote"))
        })?;
        if length.len() > MAX_BYTES {
            return Err(bad(format!("{} bytes are no manifest", length.len())));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| bad(error.to_string()))?;
        let manifest: Self = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
        if manifest.version != VERSION {
            let version = manifest.version;
            return Err(bad(format!("version {version}; this Sterna reads version {VERSION}")));
        }
        if manifest.print() != text {
            return Err(bad("it was changed after it was written".into()));
        }
        manifest.check_paths().map_err(bad)?;
        Ok(manifest)
    }

    /// Paths must stay in the folder, whatever a file says.
    fn check_paths(&self) -> std::result::Result<(), String> {
        let ids = self.candidates.iter().map(|candidate| &candidate.id);
        let paths = self.files.iter().map(|file| &file.path).chain([&self.artifact]).chain(ids);
        for path in paths {
            let mut parts = Path::new(path).components();
            if path.is_empty() || !parts.all(|part| matches!(part, Component::Normal(_))) {
                return Err(format!("the path {path:?} leads out of the bundle"));
            }
        }
        Ok(())
    }
}
