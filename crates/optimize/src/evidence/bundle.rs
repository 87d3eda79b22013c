//! The folder of samples beside an artifact, written and read.
//!
//! In: evidence. Out: `evidence/` with the held-out text's tokens, a line of JSON per passage for
//! what each model said, all times, and the manifest, which is written last.

use super::manifest::{self, Manifest};
use super::{Candidate, Evidence, Facts};
use crate::error::{OptimizeError, Result};
use crate::pipeline::write_text;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};
use sterna_measure::Workload;
use sterna_measure::quality::{Passages, Scoring};
use sterna_measure::report::Artefact;

const FOLDER: &str = "evidence";
const TEXT: &str = "evidence/text.json";
const BASELINE: &str = "evidence/baseline.jsonl";
const TIMES: &str = "evidence/times.json";

/// The held-out text as tokens.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    name: String,
    n_bytes: usize,
    scoring: Scoring,
    documents: Vec<Vec<u32>>,
}

fn samples_path(facts: &Facts) -> String {
    format!("{FOLDER}/{}.jsonl", facts.id)
}

/// Writes the samples into `folder`, which has the artifact and the files `beside` it already, then
/// the manifest, whose `files` and `candidates` are filled in here.
///
/// # Errors
/// When a file cannot be written or read again.
pub fn write(
    folder: &Path,
    evidence: &Evidence,
    beside: &[&str],
    manifest: Manifest,
) -> Result<PathBuf> {
    let path = folder.join(manifest::NAME);
    let failed = |error| OptimizeError::failed(path.display().to_string(), error);
    // An older bundle's files are not of this one; without its manifest it claims nothing.
    match std::fs::remove_dir_all(folder.join(FOLDER)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => std::fs::create_dir_all(folder.join(FOLDER)).map_err(failed)?,
    }
    let workload = evidence.text.workload();
    let text = Text {
        name: workload.name().into(),
        n_bytes: workload.n_bytes(),
        scoring: evidence.text.scoring(),
        documents: workload.documents().to_vec(),
    };
    write_text(&folder.join(TEXT), &json(&text))?;
    write_text(&folder.join(BASELINE), &lines(&evidence.baseline))?;
    write_text(&folder.join(TIMES), &json(&evidence.times))?;
    let mut files: Vec<String> = beside.iter().map(|&name| name.to_owned()).collect();
    files.extend([manifest.artifact.clone(), TEXT.into(), BASELINE.into(), TIMES.into()]);
    for candidate in &evidence.candidates {
        let name = samples_path(&candidate.facts);
        write_text(&folder.join(&name), &lines(&candidate.said))?;
        files.push(name);
    }
    let hashed = |name: String| {
        let file = Artefact::of(&folder.join(&name)).map_err(failed)?;
        Ok(Artefact { path: name, ..file })
    };
    let files = files.into_iter().map(hashed).collect::<Result<_>>()?;
    let candidates = evidence.candidates.iter().map(|c| c.facts.clone()).collect();
    write_text(&path, &Manifest { files, candidates, ..manifest }.print())?;
    Ok(path)
}

/// Reads the samples that a manifest names; whether the files are those of the manifest is for the
/// caller to check before.
///
/// # Errors
/// When a file is not what it should be.
pub fn read(folder: &Path, manifest: &Manifest) -> Result<Evidence> {
    let text: Text = parsed(&folder.join(TEXT))?;
    let workload = Workload::new(&text.name, text.documents, text.n_bytes)?;
    let candidate = |facts: &Facts| {
        let said = parsed_lines(&folder.join(samples_path(facts)))?;
        Ok(Candidate { facts: facts.clone(), said })
    };
    Ok(Evidence {
        text: Passages::new(&workload, text.scoring)?,
        baseline: parsed_lines(&folder.join(BASELINE))?,
        candidates: manifest.candidates.iter().map(candidate).collect::<Result<_>>()?,
        times: parsed(&folder.join(TIMES))?,
    })
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data") + "\n"
}

fn lines<T: Serialize>(values: &[T]) -> String {
    values.iter().map(json).collect()
}

fn content(path: &Path) -> Result<String> {
    let bad = |error| OptimizeError::Input(format!("{}: {error}", path.display()));
    std::fs::read_to_string(path).map_err(bad)
}

fn parsed<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bad = |error| OptimizeError::Input(format!("{}: {error}", path.display()));
    serde_json::from_str(&content(path)?).map_err(bad)
}

fn parsed_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let content = content(path)?;
    let line = |(number, line): (usize, &str)| {
        let bad = |e| OptimizeError::Input(format!("{}, line {}: {e}", path.display(), number + 1));
        serde_json::from_str(line).map_err(bad)
    };
    content.lines().enumerate().map(line).collect()
}
