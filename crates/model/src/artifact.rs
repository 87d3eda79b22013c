//! An artifact: one GGUF file with the model, the Plan it was made by, and the evidence for what is
//! claimed of it.
//!
//! In: a model, the source of its weights' bytes, Plan and evidence. Out: a file that any GGUF
//! reader loads, with four strings more in its metadata; and the same read back.

#[cfg(test)]
mod tests;

use crate::plan::{Plan, content_hash, hash_text};
use crate::write::{Sealed, Subject, write_sealed};
use crate::{Model, WeightSource};
use std::path::Path;
use sterna_formats::{FormatError, Metadata, Value};

/// The Sterna that wrote the artifact.
pub const VERSION_KEY: &str = "sterna.version";
/// The Plan's text, TOML.
pub const PLAN_KEY: &str = "sterna.plan";
/// The evidence, JSON.
pub const EVIDENCE_KEY: &str = "sterna.evidence";
/// [`content_hash`] of the tensors.
pub const CONTENT_KEY: &str = "sterna.content_hash";

/// An opened artifact.
#[derive(Debug)]
pub struct Artifact {
    /// The model.
    pub model: Model,
    /// The Sterna that wrote it.
    pub version: String,
    /// How it was made.
    pub plan: Plan,
    /// What was measured, as JSON.
    pub evidence: serde_json::Value,
    /// What the tensors must hash to.
    pub content_hash: String,
}

impl Artifact {
    /// Writes an artifact and gives its content hash; `progress` is told the bytes written so far
    /// and in all.
    ///
    /// # Errors
    /// When `weights` are not what the Plan says, or the file cannot be written.
    pub fn write(
        path: &Path,
        model: &Model,
        weights: &dyn WeightSource,
        plan: &Plan,
        evidence_json: &str,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<String, FormatError> {
        let wrong = |problem: String| {
            FormatError::new(path, problem, "write the artifact with the Plan it was made by")
        };
        plan.check_carried_out(model, weights).map_err(wrong)?;
        serde_json::from_str::<serde::de::IgnoredAny>(evidence_json)
            .map_err(|e| wrong(format!("the evidence is no JSON: {e}")))?;
        let mut extra = Metadata::default();
        extra.set(VERSION_KEY, Value::Str(env!("CARGO_PKG_VERSION").into()));
        extra.set(PLAN_KEY, Value::Str(plan.print()));
        extra.set(EVIDENCE_KEY, Value::Str(evidence_json.into()));
        let sealed = Sealed { extra: &extra, hash_key: Some(CONTENT_KEY) };
        write_sealed(path, Subject::of(model), weights, &sealed, progress)
    }

    /// Opens an artifact. The tensors' bytes are not read: see [`Artifact::verify_content`].
    ///
    /// # Errors
    /// When it is no model, carries no Plan, or the Plan's text is damaged.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        Self::from_model(Model::open(path)?)
    }

    /// The artifact of an opened model.
    ///
    /// # Errors
    /// As [`Artifact::open`].
    pub fn from_model(model: Model) -> Result<Self, FormatError> {
        let path = model.path().to_owned();
        let text = |key: &str| {
            model.metadata.str(key).map(str::to_owned).ok_or_else(|| {
                let problem = format!("metadata key {key} is missing, so this is no artifact");
                FormatError::new(&path, problem, "make one with `sterna optimize`")
            })
        };
        let plan = Plan::parse(&path, &text(PLAN_KEY)?)?;
        let evidence = serde_json::from_str(&text(EVIDENCE_KEY)?).map_err(|e| {
            let problem = format!("metadata key {EVIDENCE_KEY} is no JSON: {e}");
            FormatError::new(&path, problem, "the file is damaged, copy it again")
        })?;
        let (version, content_hash) = (text(VERSION_KEY)?, text(CONTENT_KEY)?);
        Ok(Self { version, plan, evidence, content_hash, model })
    }

    /// Reads every tensor and compares their hash with the one that was written.
    ///
    /// # Errors
    /// When they differ: the file was damaged or changed.
    pub fn verify_content(&self) -> Result<(), FormatError> {
        let found = content_hash(&self.model.graph, &self.model);
        if found == self.content_hash {
            return Ok(());
        }
        let problem = format!("its tensors hash to {found}, not to {}", self.content_hash);
        Err(FormatError::new(self.model.path(), problem, "the file is damaged, copy it again"))
    }
}

/// A hash of nothing yet, as long as every hash.
pub(crate) fn no_hash() -> String {
    hash_text(&[])
}
