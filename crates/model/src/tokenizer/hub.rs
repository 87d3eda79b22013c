//! The files beside a `tokenizer.json` that say which token begins and which ends a text:
//! `tokenizer_config.json`, `config.json` and `generation_config.json`. Each may be absent.

use super::json::{MAX_JSON_BYTES, parse};
use super::vocab::{Spelling, Vocab};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};

/// The settings found beside a `tokenizer.json`; null where there are none.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub tokenizer_config: Json,
    pub config: Json,
    pub generation_config: Json,
}

impl Settings {
    /// Reads them from a folder.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let read = |name| match folder.join(name) {
            path if path.is_file() => {
                parse(&read_text(&path)?).map_err(|e| format!("{}: {e}", path.display()))
            }
            _ => Ok(Json::Null),
        };
        Ok(Self {
            tokenizer_config: read("tokenizer_config.json")?,
            config: read("config.json")?,
            generation_config: read("generation_config.json")?,
        })
    }

    /// Settles the special ids of a vocabulary, whose prefix and suffix are the post-processor's.
    pub fn apply(&self, vocab: &mut Vocab) -> Result<(), String> {
        let (named_bos, named_eos) = (self.named(vocab, "bos"), self.named(vocab, "eos"));
        let (bos_ids, eos_ids) = (self.ids(vocab, "bos")?, self.ids(vocab, "eos")?);
        vocab.find_ends();
        let specials = &mut vocab.specials;
        specials.bos = named_bos.or(bos_ids.first().copied()).or(specials.prefix.first().copied());
        let only_end = specials.ends.iter().next().copied().filter(|_| specials.ends.len() == 1);
        // BERT's files name no end, but what stands behind a text ends it.
        let is_bert = vocab.spelling == Spelling::Hashes;
        let last = specials.suffix.last().copied().filter(|_| is_bert);
        specials.eos = named_eos.or(eos_ids.first().copied()).or(only_end).or(last);
        specials.ends.extend(eos_ids);
        specials.ends.extend(specials.eos);
        // Where these are given, transformers rebuilds the post-processor from them.
        if let Some(add) = self.tokenizer_config["add_bos_token"].as_bool() {
            specials.prefix = Vec::from_iter(specials.bos.filter(|_| add));
        }
        if let Some(add) = self.tokenizer_config["add_eos_token"].as_bool() {
            specials.suffix = Vec::from_iter(specials.eos.filter(|_| add));
        }
        Ok(())
    }

    /// The token that `tokenizer_config.json` names by its text, plain or as an object.
    fn named(&self, vocab: &Vocab, which: &str) -> Option<u32> {
        let token = &self.tokenizer_config[format!("{which}_token")];
        let text = token.as_str().or(token["content"].as_str())?;
        vocab.tokens.iter().position(|t| t.as_ref() == text).map(|id| id as u32)
    }

    /// The ids that the model's own settings name, one or several.
    fn ids(&self, vocab: &Vocab, which: &str) -> Result<Vec<u32>, String> {
        let key = format!("{which}_token_id");
        let mut ids = Vec::new();
        for (file, config) in
            [("config.json", &self.config), ("generation_config.json", &self.generation_config)]
        {
            let given = &config[&key];
            let given = given.as_array().map_or(std::slice::from_ref(given), |a| a);
            for id in given.iter().filter_map(Json::as_u64) {
                if id >= vocab.tokens.len() as u64 {
                    return Err(format!(
                        "{file}: {key} is {id} but the vocabulary has {} tokens; correct it",
                        vocab.tokens.len()
                    ));
                }
                ids.push(id as u32);
            }
        }
        Ok(ids)
    }
}

/// The path of a `tokenizer.json`, given it or its folder.
pub(super) fn locate(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("tokenizer.json") } else { path.to_owned() }
}

/// A text file of bounded size.
pub(super) fn read_text(path: &Path) -> Result<String, String> {
    let failed = |e: std::io::Error| format!("{}: {e}; check the path", path.display());
    let n_bytes = std::fs::metadata(path).map_err(failed)?.len();
    if n_bytes > MAX_JSON_BYTES as u64 {
        return Err(format!(
            "{}: it has {n_bytes} bytes; at most {MAX_JSON_BYTES} are read",
            path.display()
        ));
    }
    std::fs::read_to_string(path).map_err(failed)
}
