//! The models in a folder.
//!
//! In: a folder. Out: a name and a path for each model file in it. Requests name models by these
//! names only; no part of a request ever becomes a path.

use std::path::{Path, PathBuf};

/// A model on disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// The file's name, without its ending.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

impl Item {
    /// A model of this path. A link is called by its own name: what it leads to may be called by a
    /// hash.
    pub fn new(path: &Path) -> Self {
        let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let named = if path.file_name().is_some() { path } else { &whole };
        let name = if named.is_dir() { named.file_name() } else { named.file_stem() };
        let name = name.map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
        Self { name, path: whole }
    }
}

/// The models that lie in a folder, by name: GGUF and llama2.c files, and Hugging Face directories.
/// Folders within it are not searched.
///
/// # Errors
/// When the folder cannot be read.
pub fn of_folder(folder: &Path) -> std::io::Result<Vec<Item>> {
    let mut items = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if is_model(&path) {
            items.push(Item::new(&path));
        }
    }
    items.sort();
    Ok(items)
}

fn is_model(path: &Path) -> bool {
    if path.is_dir() {
        return path.join("config.json").is_file();
    }
    let ending = path.extension().and_then(|ending| ending.to_str());
    // A tokenizer beside a llama2.c model has the same ending.
    ending.is_some_and(|ending| match ending.to_ascii_lowercase().as_str() {
        "gguf" => true,
        "bin" => path.file_name().is_none_or(|name| name != "tokenizer.bin"),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_models_are_found_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["b.gguf", "a.GGUF", "stories.bin", "tokenizer.bin", "readme.md", "c.d.gguf"] {
            std::fs::write(at(name), "x").unwrap();
        }
        for name in ["hf", "empty"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::fs::write(at("hf/config.json"), "{}").unwrap();
        let items = of_folder(folder.path()).unwrap();
        let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c.d", "hf", "stories"]);
        assert!(of_folder(&at("none")).is_err());
    }
}
