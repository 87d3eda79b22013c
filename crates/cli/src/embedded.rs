//! The model and the text inside this program, so that its main job needs no file and no network.
//!
//! In: a folder. Out: both as ordinary files there, for the same pipeline as any other model's.

use anyhow::Context;
use flate2::read::GzDecoder;
use std::io::Read;
use std::path::{Path, PathBuf};
use sterna_formats::AtomicFile;

/// The model: `models/README.md` says what it is and how it was trained.
const MODEL: &[u8] = include_bytes!("../../../models/austen-4m.gguf");
/// A novel that the model was not trained on, compressed; one paragraph per line.
const TEXT: &[u8] = include_bytes!("../../../models/text/held_out.txt.gz");

/// The model's file.
pub const MODEL_NAME: &str = "austen-4m.gguf";
/// The text's file.
pub const TEXT_NAME: &str = "held_out.txt";

/// The two as files.
pub struct Files {
    /// The model.
    pub model: PathBuf,
    /// The text.
    pub text: PathBuf,
}

/// Writes both into a folder that exists.
///
/// # Errors
/// When a file cannot be written.
pub fn write_into(folder: &Path) -> anyhow::Result<Files> {
    let mut text = Vec::new();
    GzDecoder::new(TEXT).read_to_end(&mut text).context("the text inside this program")?;
    let files = Files { model: folder.join(MODEL_NAME), text: folder.join(TEXT_NAME) };
    AtomicFile::write_whole(&files.model, MODEL)?;
    AtomicFile::write_whole(&files.text, &text)?;
    Ok(files)
}
