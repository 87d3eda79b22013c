//! The folder of samples beside an artifact, written and read.
//!
//! In: evidence. Out: `evidence/` with the held-out text's tokens, a line of JSON per passage for
//! what each model said (gzip: millions of digits), all times, and the manifest, written last.

use super::manifest::{self, Manifest};
use super::{Candidate, Evidence, Facts};
use crate::error::{OptimizeError, Result};
use crate::pipeline::write_text;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use sterna_measure::Workload;
use sterna_measure::quality::{Passages, Scoring};
use sterna_measure::report::Artefact;

const FOLDER: &str = "evidence";
const TEXT: &str = "evidence/text.json";
const BASELINE: &str = "evidence/baseline.jsonl.gz";
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
    format!("{FOLDER}/{}.jsonl.gz", facts.id)
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
    write_lines(&folder.join(BASELINE), &evidence.baseline)?;
    write_text(&folder.join(TIMES), &json(&evidence.times))?;
    let mut files: Vec<String> = beside.iter().map(|&name| name.to_owned()).collect();
    files.extend([manifest.artifact.clone(), TEXT.into(), BASELINE.into(), TIMES.into()]);
    for candidate in &evidence.candidates {
        let name = samples_path(&candidate.facts);
        write_lines(&folder.join(&name), &candidate.said)?;
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
    let text = Passages::new(&workload, text.scoring)?;
    let most = MAX_TOKEN_BYTES * text.n_scored() as u64 + MAX_LINE_BYTES * text.len() as u64;
    let candidate = |facts: &Facts| {
        let said = parsed_lines(&folder.join(samples_path(facts)), most)?;
        Ok(Candidate { facts: facts.clone(), said })
    };
    Ok(Evidence {
        baseline: parsed_lines(&folder.join(BASELINE), most)?,
        text,
        candidates: manifest.candidates.iter().map(candidate).collect::<Result<_>>()?,
        times: parsed(&folder.join(TIMES))?,
    })
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data") + "\n"
}

/// A token's samples as text are no longer: four numbers of 24 characters, a fifth, commas.
const MAX_TOKEN_BYTES: u64 = 160;
/// What stands around them in a line.
const MAX_LINE_BYTES: u64 = 512;

fn write_lines<T: Serialize>(path: &Path, values: &[T]) -> Result<()> {
    let failed =
        |e: std::io::Error| OptimizeError::failed(format!("writing {}", path.display()), e);
    let beside = path.with_extension("part");
    let file = BufWriter::new(File::create(&beside).map_err(failed)?);
    let mut text = GzEncoder::new(file, Compression::default());
    values.iter().try_for_each(|value| text.write_all(json(value).as_bytes())).map_err(failed)?;
    text.finish().and_then(|mut file| file.flush()).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)
}

fn parsed<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bad = |error: String| OptimizeError::Input(format!("{}: {error}", path.display()));
    let content = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    serde_json::from_str(&content).map_err(|error| bad(error.to_string()))
}

/// The values of a packed file of at most so many bytes unpacked.
fn parsed_lines<T: DeserializeOwned>(path: &Path, most: u64) -> Result<Vec<T>> {
    let bad = |error: String| OptimizeError::Input(format!("{}: {error}", path.display()));
    let file = BufReader::new(File::open(path).map_err(|error| bad(error.to_string()))?);
    // One more than there may be, so that a longer file is not cut in silence.
    let lines = BufReader::new(GzDecoder::new(file).take(most + 1)).lines();
    let (mut values, mut n_bytes) = (Vec::new(), 0);
    for (number, line) in lines.enumerate() {
        let line = line.map_err(|error| bad(error.to_string()))?;
        n_bytes += line.len() as u64 + 1;
        if n_bytes > most {
            return Err(bad(format!(
                "unpacks to more than the {most} bytes that the text has use for"
            )));
        }
        let value = serde_json::from_str(&line);
        values.push(value.map_err(|error| bad(format!("line {}: {error}", number + 1)))?);
    }
    Ok(values)
}
