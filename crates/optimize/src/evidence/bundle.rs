//! The folder of samples beside an artifact, written and read.
//!
//! In: evidence. Out: `evidence/` with the held-out text's tokens, a line of JSON per passage for
//! what each model said (gzip: millions of digits), all times, and the manifest, written last.

use super::manifest::{self, Manifest};
use super::{Candidate, Evidence, FLOAT_INPUTS, Facts};
use crate::error::{OptimizeError, Result};
use crate::pipeline::write_file;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use sterna_measure::Workload;
use sterna_measure::quality::{Passages, Scoring};
use sterna_measure::report::Artefact;

const FOLDER: &str = "evidence";
const TEXT: &str = "evidence/text.json";
const BASELINE: &str = "evidence/baseline.jsonl.gz";
const TASKS: &str = "evidence/tasks.json";
const TIMES: &str = "evidence/times.json";
/// How the names of files of samples end.
const SAMPLES: &str = ".jsonl.gz";

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
    format!("{FOLDER}/{}{SAMPLES}", facts.id)
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
    clear(folder)?;
    std::fs::create_dir_all(folder.join(FOLDER)).map_err(failed)?;
    let workload = evidence.text.workload();
    let text = Text {
        name: workload.name().into(),
        n_bytes: workload.n_bytes(),
        scoring: evidence.text.scoring(),
        documents: workload.documents().to_vec(),
    };
    write_file(&folder.join(TEXT), json(&text).as_bytes())?;
    write_lines(&folder.join(BASELINE), &evidence.baseline)?;
    write_file(&folder.join(TASKS), json(&evidence.tasks).as_bytes())?;
    write_file(&folder.join(TIMES), json(&evidence.times).as_bytes())?;
    let mut files: Vec<String> = beside.iter().map(|&name| name.to_owned()).collect();
    files.extend([
        manifest.artifact.clone(),
        TEXT.into(),
        BASELINE.into(),
        TASKS.into(),
        TIMES.into(),
    ]);
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
    write_file(&path, Manifest { files, candidates, ..manifest }.print().as_bytes())?;
    Ok(path)
}

/// What stands beside the samples in every bundle.
pub const BESIDE: [&str; 3] = ["plan.toml", "report.json", "report.html"];

/// Every file that a bundle with such a manifest has.
pub fn needed(manifest: &Manifest) -> Vec<String> {
    let plain = BESIDE.iter().chain(&[TEXT, BASELINE, TASKS, TIMES]).map(|&name| name.to_owned());
    let samples = manifest.candidates.iter().map(samples_path);
    plain.chain([manifest.artifact.clone()]).chain(samples).collect()
}

/// Refuses a folder whose `evidence` is somebody else's: before hours of work, not after.
///
/// # Errors
/// Then.
pub fn may_write(folder: &Path) -> Result<()> {
    let path = folder.join(FOLDER);
    // A run that was killed while it wrote leaves samples without a manifest.
    let is_ours = |name: &str| {
        let path = format!("{FOLDER}/{name}");
        [TEXT, TASKS, TIMES, manifest::NAME].contains(&path.as_str())
            || name.ends_with(SAMPLES)
            || name.starts_with('.') && name.ends_with(".tmp")
    };
    let is_free = match path.read_dir() {
        Ok(mut entries) => entries
            .all(|entry| entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(is_ours))),
        Err(_) => !path.exists(),
    };
    if is_free {
        return Ok(());
    }
    Err(OptimizeError::Input(format!(
        "{} is there and is not of an earlier optimization; the samples would go into it: choose \
         another folder with --out",
        path.display()
    )))
}

/// Removes the samples of an older bundle, its manifest first: without it they claim nothing.
fn clear(folder: &Path) -> Result<()> {
    may_write(folder)?;
    let older = Manifest::read(folder);
    let remove = |name: &str| {
        let path = folder.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(OptimizeError::failed(path.display().to_string(), error))
            }
            _ => Ok(()),
        }
    };
    remove(manifest::NAME)?;
    let files = older.map_or_else(|_| Vec::new(), |manifest| manifest.files);
    let mut own = files.iter().filter(|file| Path::new(&file.path).starts_with(FOLDER));
    own.try_for_each(|file| remove(&file.path))
}

/// Reads the samples that a manifest names; whether the files are those of the manifest is for the
/// caller to check before.
///
/// # Errors
/// When a file is not what it should be.
pub fn read(folder: &Path, manifest: &Manifest) -> Result<Evidence> {
    check_candidates(folder, manifest)?;
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
        tasks: parsed(&folder.join(TASKS))?,
        times: parsed(&folder.join(TIMES))?,
    })
}

/// The artifact first, then itself rounded plainly, or with other inputs, and uniform encodings,
/// each once: nothing else is known how to run again.
fn check_candidates(folder: &Path, manifest: &Manifest) -> Result<()> {
    let bad = |why: String| OptimizeError::Input(format!("{}: {why}", manifest::NAME));
    let length = std::fs::metadata(folder.join(&manifest.artifact));
    let length = length.map_err(|error| bad(format!("{}: {error}", manifest.artifact)))?.len();
    let mut ids = HashSet::new();
    for (index, facts) in manifest.candidates.iter().enumerate() {
        let expected = match (&facts.encoding, index) {
            (None, 0) => Facts::artifact(length),
            (None, 1..) if facts.kind == FLOAT_INPUTS => Facts::float_inputs(length),
            (None, 1..) => Facts::plain(length),
            (Some(encoding), 1..) => Facts::uniform(encoding, facts.bytes),
            _ => return Err(bad(format!("{} is out of its place", facts.id))),
        };
        if *facts != expected || !ids.insert(&facts.id) {
            return Err(bad(format!("{} is not what it is called, or is twice", facts.id)));
        }
    }
    match manifest.candidates.len() {
        1..=MAX_CANDIDATES => Ok(()),
        n => Err(bad(format!("{n} models are not 1 to {MAX_CANDIDATES}"))),
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data") + "\n"
}

/// Models that are compared at most.
const MAX_CANDIDATES: usize = 16;
/// Texts and times are no longer: some hundred million tokens.
const MAX_PLAIN_BYTES: u64 = 1 << 30;
/// A token's samples as text are no longer: four numbers of 24 characters, a fifth, commas.
const MAX_TOKEN_BYTES: u64 = 160;
/// What stands around them in a line.
const MAX_LINE_BYTES: u64 = 512;

fn write_lines<T: Serialize>(path: &Path, values: &[T]) -> Result<()> {
    let failed = |error| OptimizeError::failed(path.display().to_string(), error);
    let mut text = GzEncoder::new(Vec::new(), Compression::default());
    values.iter().try_for_each(|value| text.write_all(json(value).as_bytes())).map_err(failed)?;
    write_file(path, &text.finish().map_err(failed)?)
}

fn parsed<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bad = |error: String| OptimizeError::Input(format!("{}: {error}", path.display()));
    let length = std::fs::metadata(path).map_err(|error| bad(error.to_string()))?.len();
    if length > MAX_PLAIN_BYTES {
        return Err(bad(format!("{length} bytes are more than {MAX_PLAIN_BYTES}")));
    }
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
