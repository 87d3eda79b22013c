//! Evidence: what was measured, raw, so that every number of a report can be derived again (A3).
//!
//! In: what two models said of held-out text, token by token, and how long they took. Out: the
//! numbers of a report (`derive`), the folder that keeps the samples beside the artifact
//! (`bundle`, with a `manifest` of every file's hash), and the check that the numbers follow from
//! the samples (`verify`), or come again when the models are run again (`rerun`).
//!
//! ```text
//! models --prove--> Evidence --derive--> figures --> report.json, artifact
//!                      |                    ^
//!                   bundle <----verify------+
//! ```

pub mod bundle;
pub mod derive;
pub mod manifest;
pub mod rerun;
pub mod times;
pub mod verify;

use crate::error::Result;
use crate::yardstick::Reading;
use sterna_measure::quality::tasks::Task;
use sterna_measure::quality::{Compared, Divergence, Passages, Predictions};
use times::Times;

pub use manifest::{Circumstances, Manifest, SourceFile};
pub use verify::{Check, Outcome, Verification, verify};

/// Raw samples of a model, its baseline, and uniform encodings.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// What they were run on.
    pub text: Passages,
    /// What the baseline said, passage by passage.
    pub baseline: Vec<Predictions>,
    /// The artifact first, then whom it is compared with: itself rounded plainly, uniform
    /// encodings.
    pub candidates: Vec<Candidate>,
    /// What both answered to questions.
    pub tasks: Vec<Task>,
    /// How long the artifact and its baseline took.
    pub times: Times,
}

/// A model measured beside the baseline.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Which.
    pub facts: Facts,
    /// What it said, passage by passage.
    pub said: Vec<Compared>,
}

/// Which model a candidate is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The name of its file of samples, without the ending.
    pub id: String,
    /// What it is, for people.
    pub label: String,
    /// `chosen`, `ablation`, `float-inputs` or `uniform`.
    pub kind: String,
    /// The encoding, where it is uniform.
    pub encoding: Option<String>,
    /// Bytes of its file.
    pub bytes: u64,
}

/// The kind of an artifact that lacks something.
pub const PLAIN: &str = "ablation";

/// The kind of an artifact whose layers do not see int8 codes, though its Plan says so.
pub const FLOAT_INPUTS: &str = "float-inputs";

impl Facts {
    /// The artifact itself.
    pub fn artifact(bytes: u64) -> Self {
        let (id, label, kind) = ("artifact".into(), "artifact".into(), "chosen".into());
        Self { id, label, kind, encoding: None, bytes }
    }

    /// The artifact's encodings without its rounding; its file is as long.
    pub fn plain(bytes: u64) -> Self {
        let (id, label) = ("plain".into(), "its encodings, rounded plainly".into());
        Self { id, label, kind: PLAIN.into(), encoding: None, bytes }
    }

    /// The artifact with inputs that are not int8 codes; its file is about as long.
    pub fn float_inputs(bytes: u64) -> Self {
        let (id, label) = (FLOAT_INPUTS.into(), "it with inputs as they are".into());
        Self { id, label, kind: FLOAT_INPUTS.into(), encoding: None, bytes }
    }

    /// The model in one encoding.
    pub fn uniform(encoding: &str, bytes: u64) -> Self {
        Self {
            id: format!("uniform-{encoding}"),
            label: format!("{encoding} wherever it fits, else F16"),
            kind: "uniform".into(),
            encoding: Some(encoding.into()),
            bytes,
        }
    }
}

impl Evidence {
    /// The samples of one candidate as a reading.
    ///
    /// # Errors
    /// When they are not one per scored token of the text.
    pub fn reading(&self, candidate: &Candidate) -> Result<Reading> {
        let (baseline, said) = (self.baseline.clone(), candidate.said.clone());
        Reading::of(Divergence::derive(&self.text, baseline, said)?)
    }
}

#[cfg(test)]
mod tests;
