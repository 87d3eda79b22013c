//! Text to token ids and back.
//!
//! In: the `tokenizer.ggml.*` keys of a GGUF file, or a `tokenizer.json`. Out: a [`Tokenizer`].
//! Each kind of encoder is one file: `spm` (SentencePiece-style), `bpe` (byte-level), `wordpiece`,
//! `json` (whatever the `tokenizers` crate reads).
//!
//! Encoding agrees with llama.cpp and with the `tokenizers` crate on the vocabularies that the
//! tests name. Decoding gives the text exactly: no "clean-up" of spaces before punctuation.

mod bpe;
mod decoder;
mod export;
mod hub;
mod json;
mod merge;
mod pre;
mod special;
mod spm;
mod vocab;
mod wordpiece;

#[cfg(test)]
mod tests;

pub use decoder::Decoder;

use bpe::Bpe;
use hub::Settings;
use json::JsonTokenizer;
use special::{Part, SpecialTokens};
use spm::Spm;
use std::borrow::Cow;
use std::path::Path;
use sterna_formats::{Metadata, Value};
use vocab::{Kind, Spelling, Vocab, flag, special_id};
use wordpiece::WordPiece;

/// A tokenizer. Share one between threads: encoding takes `&self` and, but for Unigram, whose cache
/// the `tokenizers` crate locks, waits for nothing. A clone copies the vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    vocab: Vocab,
    special: SpecialTokens,
    encoder: Encoder,
}

#[derive(Clone)]
enum Encoder {
    Spm(Spm),
    Bpe(Bpe),
    WordPiece(WordPiece),
    Json(JsonTokenizer),
}

impl Tokenizer {
    /// Builds the tokenizer that a GGUF file describes.
    ///
    /// # Errors
    /// One sentence that names the key that is missing or wrong, and the fix.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, String> {
        let model = metadata.str("tokenizer.ggml.model").ok_or(
            "tokenizer.ggml.model is missing or not a string; the file holds no tokenizer",
        )?;
        let (vocab, encoder) = match model {
            "llama" => spm(metadata)?,
            "gpt2" => bpe(metadata)?,
            "bert" => wordpiece(metadata)?,
            other => {
                return Err(format!(
                    "tokenizer.ggml.model is `{other}`, which Sterna does not know; it knows \
                     llama, gpt2 and bert"
                ));
            }
        };
        Ok(Self { special: SpecialTokens::new(&vocab), vocab, encoder })
    }

    /// Reads a `tokenizer.json`, or the one in a folder, and the settings beside it.
    ///
    /// # Errors
    /// One sentence that names the file, the place in it, and the fix.
    pub fn from_json(path: &Path) -> Result<Self, String> {
        let path = hub::locate(path);
        let text = hub::read_text(&path)?;
        let settings = Settings::read(path.parent().unwrap_or(Path::new(".")))?;
        Self::from_settings(&text, &settings).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Reads the text of a `tokenizer.json` that has no settings beside it.
    ///
    /// # Errors
    /// As [`Tokenizer::from_json`].
    pub fn from_json_text(text: &str) -> Result<Self, String> {
        Self::from_settings(text, &Settings::default()).map_err(|e| format!("tokenizer.json: {e}"))
    }

    fn from_settings(text: &str, settings: &Settings) -> Result<Self, String> {
        let (mut vocab, json) = JsonTokenizer::new(text)?;
        settings.apply(&mut vocab)?;
        Ok(Self { special: SpecialTokens::new(&vocab), vocab, encoder: Encoder::Json(json) })
    }

    /// The `tokenizer.ggml.*` keys that describe this tokenizer, for a GGUF file.
    ///
    /// # Errors
    /// When GGUF cannot describe it: a sentence that says what it lacks.
    pub fn to_metadata(&self) -> Result<Vec<(String, Value)>, String> {
        match &self.encoder {
            Encoder::Spm(spm) => Ok(spm.to_metadata(&self.vocab)),
            Encoder::Bpe(bpe) => Ok(bpe.to_metadata(&self.vocab)),
            Encoder::WordPiece(wordpiece) => Ok(wordpiece.to_metadata(&self.vocab)),
            Encoder::Json(json) => export::from_json(json, &self.vocab),
        }
    }

    /// Adds unused tokens until there are `n_tokens`: models may have more rows than tokens, and a
    /// GGUF file must name each row.
    pub fn pad(&mut self, n_tokens: usize) {
        for id in self.vocab.tokens.len()..n_tokens {
            self.vocab.tokens.push(json::unused_token(id).into());
            self.vocab.kinds.push(Kind::Unused);
        }
    }

    /// The tokens of a text, all of which is plain text: `<s>` in it is three characters, so that
    /// what a user wrote can never act as a control token. `add_special` puts the tokens around it
    /// that the model expects (see [`Tokenizer::add_bos`]).
    pub fn encode(&self, text: &str, add_special: bool) -> Vec<u32> {
        self.encode_special(text, add_special, false)
    }

    /// As [`Tokenizer::encode`]; with `parse_special`, control tokens spelled in the text become
    /// those tokens: for rendered chat templates, not for what a user wrote.
    pub fn encode_special(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<u32> {
        let specials = &self.vocab.specials;
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        if add_special {
            ids.extend(&specials.prefix);
        }
        match &self.encoder {
            Encoder::Json(json) => json.encode(text, parse_special, &mut ids),
            encoder => {
                let mut at_start = true;
                for part in self.special.split(&self.vocab, text, parse_special) {
                    match part {
                        Part::Token(id) => ids.push(id),
                        Part::Text(text) => encoder.encode(text, at_start, &mut ids),
                    }
                    at_start = matches!(part, Part::Token(_));
                }
            }
        }
        if add_special {
            ids.extend(&specials.suffix);
        }
        ids
    }

    /// The text of tokens, without control tokens. Bytes that are not UTF-8 show as U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes = self.decode_bytes(ids);
        match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
        }
    }

    /// The bytes of tokens, without control tokens and without the space that encoding put first.
    pub fn decode_bytes(&self, ids: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        ids.iter().for_each(|&id| bytes.extend_from_slice(&self.vocab.bytes(id)));
        if self.vocab.space_prefix && bytes.first() == Some(&b' ') {
            bytes.remove(0);
        }
        bytes
    }

    /// A decoder of a whole text, token by token.
    pub fn decoder(&self) -> Decoder<&Self> {
        Decoder::new(self, self.vocab.space_prefix)
    }

    /// A decoder of what follows a text, as a generation follows its prompt: a space that begins it
    /// is kept.
    pub fn continuation(&self) -> Decoder<&Self> {
        Decoder::new(self, false)
    }

    /// The bytes that a token adds to a text: none for control tokens, and those of U+FFFD for an
    /// id outside the vocabulary (models may have more logits than tokens).
    pub fn token_bytes(&self, id: u32) -> Cow<'_, [u8]> {
        self.vocab.bytes(id)
    }

    /// A token as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.vocab.tokens.get(id as usize).map(|t| t.as_ref())
    }

    /// How many tokens there are; ids are below it.
    pub fn vocab_len(&self) -> usize {
        self.vocab.tokens.len()
    }

    /// The beginning-of-text token (BERT's `[CLS]`).
    pub fn bos(&self) -> Option<u32> {
        self.vocab.specials.bos
    }

    /// The end-of-text token that the file names (BERT's `[SEP]`); see also
    /// [`Tokenizer::is_end`].
    pub fn eos(&self) -> Option<u32> {
        self.vocab.specials.eos
    }

    /// Whether a token ends a generation: end of text, of turn or of message.
    pub fn is_end(&self, id: u32) -> bool {
        self.vocab.specials.ends.contains(&id)
    }

    /// Whether the model expects [`Tokenizer::bos`] in front of a text.
    pub fn add_bos(&self) -> bool {
        !self.vocab.specials.prefix.is_empty()
    }

    /// The tokens that the model expects behind a text, BERT's `[SEP]`; mostly none.
    pub fn suffix(&self) -> &[u32] {
        &self.vocab.specials.suffix
    }

    /// Whether the model expects [`Tokenizer::eos`] behind a text.
    pub fn add_eos(&self) -> bool {
        !self.vocab.specials.suffix.is_empty()
    }
}

impl Encoder {
    /// Appends the tokens of a text without special tokens in it.
    fn encode(&self, text: &str, at_start: bool, ids: &mut Vec<u32>) {
        match self {
            Encoder::Spm(spm) => spm.encode(text, at_start, ids),
            Encoder::Bpe(bpe) => bpe.encode(text, ids),
            Encoder::WordPiece(wordpiece) => wordpiece.encode(text, ids),
            Encoder::Json(json) => json.encode(text, false, ids),
        }
    }
}

fn spm(metadata: &Metadata) -> Result<(Vocab, Encoder), String> {
    let mut vocab =
        Vocab::from_metadata(metadata, Spelling::Metaspace, [Some(1), Some(2), Some(0)])?;
    vocab.space_prefix = flag(metadata, "tokenizer.ggml.add_space_prefix", true)?;
    surround(metadata, &mut vocab, true)?;
    let spm = Spm::from_metadata(metadata, &vocab)?;
    Ok((vocab, Encoder::Spm(spm)))
}

fn bpe(metadata: &Metadata) -> Result<(Vocab, Encoder), String> {
    let pre = bpe::pre_tokenizer(metadata)?;
    let mut vocab = Vocab::from_metadata(metadata, Spelling::ByteLevel, [None; 3])?;
    surround(metadata, &mut vocab, pre.add_bos)?;
    let bpe = Bpe::from_metadata(metadata, &vocab, pre)?;
    Ok((vocab, Encoder::Bpe(bpe)))
}

fn wordpiece(metadata: &Metadata) -> Result<(Vocab, Encoder), String> {
    let defaults = [Some(101), None, Some(100)];
    let mut vocab = Vocab::from_metadata(metadata, Spelling::Metaspace, defaults)?;
    let n_tokens = vocab.tokens.len();
    let id = |key| special_id(metadata, key, n_tokens);
    let cls = id("tokenizer.ggml.cls_token_id")?.or(vocab.specials.bos);
    // GGUF's name for it is misspelled; the right one is read too.
    let sep = id("tokenizer.ggml.seperator_token_id")?
        .or(id("tokenizer.ggml.separator_token_id")?)
        .or(Some(102).filter(|&id| id < n_tokens as u32));
    vocab.specials.bos = cls;
    vocab.specials.eos = sep;
    vocab.specials.prefix.extend(cls);
    vocab.specials.suffix.extend(sep);
    vocab.space_prefix = true;
    let wordpiece = WordPiece::from_metadata(metadata, &vocab)?;
    Ok((vocab, Encoder::WordPiece(wordpiece)))
}

/// Settles what is put around a text, from `add_bos_token` and `add_eos_token`.
fn surround(metadata: &Metadata, vocab: &mut Vocab, add_bos: bool) -> Result<(), String> {
    let n_tokens = vocab.tokens.len();
    let specials = &mut vocab.specials;
    if flag(metadata, "tokenizer.ggml.add_bos_token", add_bos)? {
        specials.prefix.extend(specials.bos);
    }
    if flag(metadata, "tokenizer.ggml.add_eos_token", false)? {
        specials.suffix.extend(specials.eos);
        if specials.suffix.is_empty() {
            return Err(format!(
                "tokenizer.ggml.add_eos_token is set but tokenizer.ggml.eos_token_id is not; \
                 set it to an id below {n_tokens}"
            ));
        }
    }
    Ok(())
}
