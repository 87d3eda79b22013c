//! A Hugging Face directory: `config.json`, safetensors, `tokenizer.json` and other JSON beside it.

use super::safetensors::{INDEX_NAME, add_file, add_shards, read_json};
use super::{Container, Source};
use crate::{Checkpoint, FormatError, MappedFile, OpenOptions};
use std::path::{Path, PathBuf};

/// The container.
pub struct HuggingFace;

/// Kept as JSON in [`Checkpoint::side_json`] where they are there.
const SIDE_FILES: &[&str] = &[
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "modules.json",
    "1_Pooling/config.json",
];

/// The largest known (with a vocabulary's added tokens) have 2 MB.
const MAX_JSON_LEN: usize = 4 << 20;

impl Container for HuggingFace {
    fn name(&self) -> &'static str {
        "huggingface"
    }

    fn recognizes(&self, source: &Source) -> bool {
        matches!(source, Source::Directory(_))
    }

    fn open(&self, source: Source, options: &OpenOptions) -> Result<Checkpoint, FormatError> {
        let dir = source.path();
        let config_path = dir.join("config.json");
        if !config_path.exists() {
            return Err(no_config(dir));
        }
        let mut checkpoint = Checkpoint {
            path: dir.to_owned(),
            container: self.name(),
            config: Some(read_json(&MappedFile::open(&config_path)?, MAX_JSON_LEN)?),
            tokenizer_json: options
                .tokenizer
                .clone()
                .or_else(|| Some(dir.join("tokenizer.json")).filter(|path| path.exists())),
            ..Checkpoint::default()
        };
        for &name in SIDE_FILES {
            let path = dir.join(name);
            if path.exists() {
                let json = read_json(&MappedFile::open(&path)?, MAX_JSON_LEN)?;
                checkpoint.side_json.insert(name.to_owned(), json);
            }
        }
        add_weights(&mut checkpoint, dir)?;
        checkpoint.indexed()
    }
}

/// The index where there is one, else `model.safetensors`, else the only safetensors file.
fn add_weights(to: &mut Checkpoint, dir: &Path) -> Result<(), FormatError> {
    let index = dir.join(INDEX_NAME);
    if index.exists() {
        return add_shards(to, &MappedFile::open(&index)?);
    }
    let single = dir.join("model.safetensors");
    if single.exists() {
        return add_file(to, MappedFile::open(&single)?);
    }
    match with_extension(dir, &["safetensors"])?.as_slice() {
        [only] => add_file(to, MappedFile::open(only)?),
        [] => Err(no_safetensors(dir)),
        [first, ..] => Err(FormatError::new(
            dir,
            format!("has several safetensors files ({}, ...) but no {INDEX_NAME}", name_of(first)),
            "download the index too, or give the one file that is meant",
        )),
    }
}

fn no_config(dir: &Path) -> FormatError {
    let models = with_extension(dir, &["gguf", "safetensors", "bin"]).unwrap_or_default();
    let fix = match models.first() {
        Some(file) => format!("give the file itself, e.g. {}", file.display()),
        None => "give a model file, or a directory downloaded from Hugging Face".to_owned(),
    };
    FormatError::new(dir, "is a directory without config.json", fix)
}

fn no_safetensors(dir: &Path) -> FormatError {
    let pickles = with_extension(dir, &["bin", "pt", "pth", "ckpt"]).unwrap_or_default();
    match pickles.first() {
        Some(file) => FormatError::new(
            dir,
            format!(
                "has its weights only as a PyTorch pickle ({}), which can run any code when it is \
                 loaded",
                name_of(file)
            ),
            "get the safetensors revision of this model, or convert it where you trust it",
        ),
        None => FormatError::new(
            dir,
            "has a config.json but no safetensors file",
            "download the weights too",
        ),
    }
}

/// Files of the directory with one of these extensions, in name order.
fn with_extension(dir: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, FormatError> {
    let failed = |e: std::io::Error| FormatError::io(dir, "listed", &e);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let fits = |e: &std::ffi::OsStr| extensions.iter().any(|x| e.eq_ignore_ascii_case(x));
        if path.extension().is_some_and(fits) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
