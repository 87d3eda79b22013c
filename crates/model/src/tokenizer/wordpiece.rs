//! WordPiece (BERT's): normalized words, each cut greedily into the longest tokens. GGUF marks the
//! start of a word with `▁` and leaves continuations bare.

use super::export::{Entries, entries};
use super::vocab::{Kind, Vocab, flag};
use std::collections::HashMap;
use sterna_formats::{Metadata, Value};
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

/// The encoder of `tokenizer.ggml.model = bert`.
#[derive(Clone, Debug)]
pub(super) struct WordPiece {
    ids: HashMap<Box<str>, u32>,
    max_token_len: usize,
    unknown: u32,
    normalizer: BertNormalizer,
}

/// A longer word is unknown: BERT's own limit.
pub(super) const MAX_WORD_CHARS: usize = 100;

/// The metadata of a vocabulary in GGUF's spelling, and what its normalizer does.
pub(super) fn metadata(vocab: &Vocab, lowercase: bool, strip_accents: bool) -> Entries {
    let mut entries = entries("bert", "default", vocab);
    let specials = &vocab.specials;
    for (name, id) in [("cls", specials.bos), ("seperator", specials.eos)] {
        let key = format!("tokenizer.ggml.{name}_token_id");
        entries.extend(id.map(|id| (key, Value::U32(id))));
    }
    for (name, flag) in [("lowercase", lowercase), ("strip_accents", strip_accents)] {
        entries.push((format!("tokenizer.ggml.normalizer.{name}"), Value::Bool(flag)));
    }
    entries
}

/// A token of a `tokenizer.json`, where `##` continues a word, as GGUF spells it: `▁` begins one.
/// Tokens in brackets, such as `[CLS]`, are no words.
pub(super) fn respelled(token: &str) -> Box<str> {
    match token.strip_prefix("##") {
        Some(rest) => rest.into(),
        None if token.starts_with('[') && token.ends_with(']') => token.into(),
        None => format!("▁{token}").into(),
    }
}

impl WordPiece {
    /// Builds the encoder from the vocabulary and the normalizer's settings.
    pub fn from_metadata(metadata: &Metadata, vocab: &Vocab) -> Result<Self, String> {
        let unknown = vocab.specials.unknown.ok_or(
            "tokenizer.ggml.unknown_token_id is missing; a `bert` tokenizer needs the id of [UNK]",
        )?;
        let lowercase = flag(metadata, "tokenizer.ggml.normalizer.lowercase", true)?;
        let accents = flag(metadata, "tokenizer.ggml.normalizer.strip_accents", lowercase)?;
        let ids = vocab.ids(|k| matches!(k, Kind::Normal | Kind::UserDefined | Kind::Unused));
        let max_token_len = ids.keys().map(|t| t.len()).max().unwrap_or(0);
        let ids = ids.into_iter().map(|(token, id)| (token.into(), id)).collect();
        let normalizer = BertNormalizer::new(true, true, Some(accents), lowercase);
        Ok(Self { ids, max_token_len, unknown, normalizer })
    }

    /// The metadata it could have been built from.
    pub fn to_metadata(&self, vocab: &Vocab) -> Entries {
        let normalizer = &self.normalizer;
        let accents = normalizer.strip_accents.unwrap_or(normalizer.lowercase);
        metadata(vocab, normalizer.lowercase, accents)
    }

    /// Appends the tokens of a text.
    pub fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let mut normalized = NormalizedString::from(text);
        self.normalizer.normalize(&mut normalized).expect("BERT's normalizer cannot fail");
        let mut words = PreTokenizedString::from(normalized);
        BertPreTokenizer.pre_tokenize(&mut words).expect("BERT's pre-tokenizer cannot fail");
        for (word, ..) in words.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            self.encode_word(word, out);
        }
    }

    fn encode_word(&self, word: &str, out: &mut Vec<u32>) {
        let n_before = out.len();
        let marked = format!("▁{word}");
        let mut rest = marked.as_str();
        let short = word.chars().count() <= MAX_WORD_CHARS;
        while short && !rest.is_empty() {
            let mut end = rest.floor_char_boundary(self.max_token_len);
            let id = loop {
                match self.ids.get(&rest[..end]) {
                    Some(&id) => break Some(id),
                    None if end == 0 => break None,
                    None => end = rest.floor_char_boundary(end - 1),
                }
            };
            let Some(id) = id else { break };
            out.push(id);
            rest = &rest[end..];
        }
        if !short || !rest.is_empty() {
            out.truncate(n_before);
            out.push(self.unknown);
        }
    }
}
