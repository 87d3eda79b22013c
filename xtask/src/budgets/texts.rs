//! Texts as each tool wants them: documents apart for the search, plain for those who judge.

use super::design::Subject;
use crate::root;
use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What stands between documents.
const SEPARATOR: &str = "<|endoftext|>";
/// Shorter ones are headlines without a text.
const MIN_DOCUMENT_BYTES: usize = 200;
/// What all are judged by is no longer: some ten thousand tokens give intervals narrow enough.
const MAX_JUDGED_BYTES: usize = 200_000;
/// What llama-imatrix is shown.
const MAX_IMATRIX_BYTES: usize = 600_000;

/// The texts of a model, as files.
pub struct Texts {
    /// What it is trained on.
    pub train: Option<PathBuf>,
    /// What the search sees.
    pub calibration: PathBuf,
    /// What the search's own proof is made on.
    pub held_out: PathBuf,
    /// The start of the calibration text without separators.
    pub plain: PathBuf,
    /// The start of the held-out text without separators.
    pub judged: PathBuf,
}

impl Texts {
    /// Writes them into a folder.
    ///
    /// # Errors
    /// When a text is not there.
    pub fn prepare(subject: &Subject, folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let text = read(&find(name)?)?;
            anyhow::Ok(if subject.titles { by_titles(&text) } else { text })
        };
        let whole = read(&subject.calibration)?;
        let (calibration, held_out) = match &subject.held_out {
            Some(held_out) => (whole, read(held_out)?),
            None => {
                let share = 1.0 - subject.held_out_fraction.unwrap_or(0.25);
                let cut = whole.floor_char_boundary((whole.len() as f64 * share) as usize);
                // Between documents, so that none is in both.
                let cut = whole[cut..].find(SEPARATOR).map_or(cut, |at| cut + at);
                (whole[..cut].to_owned(), whole[cut..].to_owned())
            }
        };
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text)
                .with_context(|| format!("cannot write {}", path.display()))?;
            anyhow::Ok(path)
        };
        let start = |text: &str, most: usize| {
            let plain = text.replace(SEPARATOR, "\n");
            plain[..plain.floor_char_boundary(most)].to_owned()
        };
        let train = subject.train.as_deref().map(read).transpose()?;
        Ok(Self {
            train: train.map(|text| write("train.txt", &text)).transpose()?,
            plain: write("plain.txt", &start(&calibration, MAX_IMATRIX_BYTES))?,
            judged: write("judged.txt", &start(&held_out, MAX_JUDGED_BYTES))?,
            calibration: write("calibration.txt", &calibration)?,
            held_out: write("held_out.txt", &held_out)?,
        })
    }
}

/// A file of the data folder or of the repository.
///
/// # Errors
/// When it is in neither.
pub fn find(name: &str) -> Result<PathBuf> {
    let root = root::root();
    let data = std::env::var_os("STERNA_DATA").map(PathBuf::from);
    let beside = root.ancestors().map(|a| a.join("shared/data")).find(|path| path.is_dir());
    let folders = [data, beside, Some(root.clone())];
    let found = folders.iter().flatten().map(|f| f.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not there; set STERNA_DATA to the folder of the data"))
}

/// A text, plain or gzip.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> Result<String> {
    let shown = || format!("cannot read {}", path.display());
    let bytes = std::fs::read(path).with_context(shown)?;
    if path.extension().is_none_or(|ending| ending != "gz") {
        return String::from_utf8(bytes).with_context(shown);
    }
    let mut text = String::new();
    GzDecoder::new(&bytes[..]).read_to_string(&mut text).with_context(shown)?;
    Ok(text)
}

/// Documents of a text whose titles are lines like ` = Title = `, sections having more signs.
fn by_titles(text: &str) -> String {
    let is_title = |line: &str| {
        let line = line.trim();
        let inner = line.strip_prefix("= ").and_then(|line| line.strip_suffix(" ="));
        inner.is_some_and(|inner| !inner.starts_with('=') && !inner.ends_with('='))
    };
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if is_title(line) {
            documents.push(String::new());
        }
        let last = documents.last_mut().expect("never empty");
        last.push_str(line);
        last.push('\n');
    }
    let whole = documents.iter().map(|document| document.trim());
    let whole: Vec<&str> = whole.filter(|document| document.len() > MIN_DOCUMENT_BYTES).collect();
    whole.join(&format!("\n{SEPARATOR}\n")) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_part_documents_and_sections_do_not() {
        let long = "x".repeat(MIN_DOCUMENT_BYTES);
        let text = format!(" = A = \n {long}\n = = S = = \n {long}\n = B = \n {long}\n = C = \n");
        let parted = by_titles(&text);
        let documents: Vec<&str> = parted.split(SEPARATOR).collect();
        assert_eq!(documents.len(), 2, "{parted}");
        assert!(documents[0].contains("= = S = =") && documents[1].trim().starts_with("= B ="));
    }
}
