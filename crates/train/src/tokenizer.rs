//! Trains byte-level BPE tokenizers through the `tokenizers` crate.
//!
//! In: texts and [`Settings`]. Out: the text of a Hugging Face `tokenizer.json` with exactly the
//! tokens asked for. Words are cut by GPT-2's pattern without a space put in front, which GGUF
//! names `gpt-2`, so llama.cpp encodes the same. Ids: special tokens, the 256 bytes, then merges
//! by rank. The same texts and settings give the same bytes.

use sterna_model::Tokenizer;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::tokenizer::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};
use tokenizers::{AddedToken, Tokenizer as HfTokenizer};

#[cfg(test)]
mod tests;

/// Larger vocabularies than any model has.
const MAX_VOCAB: usize = 1 << 20;

/// How much text one thread counts at a time.
const SECTION_BYTES: usize = 1 << 16;

/// What a tokenizer shall be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tokens, the 256 bytes and the special ones included.
    pub vocab_size: usize,
    /// A pair of tokens becomes one only if it occurs at least so often.
    pub min_frequency: u64,
    /// Tokens that are never made from a text's characters, such as `<|endoftext|>`.
    pub specials: Vec<String>,
}

/// How many bytes of text a token stands for on average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compression {
    /// Bytes of the text, special tokens included.
    pub n_bytes: u64,
    /// Its tokens.
    pub n_tokens: u64,
}

impl Compression {
    /// Counts a text's tokens, special ones recognized.
    pub fn of(tokenizer: &Tokenizer, text: &str) -> Self {
        let count = |part| tokenizer.encode_special(part, false, true).len() as u64;
        Self { n_bytes: text.len() as u64, n_tokens: sections(text).map(count).sum() }
    }

    /// Bytes per token; none for an empty text.
    pub fn bytes_per_token(self) -> Option<f64> {
        (self.n_tokens > 0).then(|| self.n_bytes as f64 / self.n_tokens as f64)
    }
}

impl Settings {
    /// Refuses settings that no text can meet.
    ///
    /// # Errors
    /// A sentence that names the setting and what it may be.
    pub fn check(&self) -> Result<(), String> {
        let least = 256 + self.specials.len();
        if self.vocab_size < least || self.vocab_size > MAX_VOCAB {
            return Err(format!(
                "a vocabulary of {} tokens was asked for; it must be between {least} (256 bytes \
                 and {} special tokens) and {MAX_VOCAB}",
                self.vocab_size,
                self.specials.len()
            ));
        }
        if self.min_frequency == 0 {
            return Err("a pair must occur at least once to become a token; give a minimum \
                        frequency of 1 or more"
                .into());
        }
        for (at, special) in self.specials.iter().enumerate() {
            if self.specials[..at].contains(special) {
                return Err(format!("the special token {special:?} is given twice; give it once"));
            }
            // What training could make from a text would be taken for the special token.
            if n_words(special) < 2 {
                return Err(format!(
                    "the special token {special:?} could be part of a text; mix letters and signs, \
                     as in \"<|name|>\""
                ));
            }
        }
        Ok(())
    }
}

/// Trains a tokenizer on texts. `progress` hears how many bytes were counted so far; merging, which
/// follows, takes about as long.
///
/// # Errors
/// When a setting is impossible, or the texts are too little for so many tokens; the sentence says
/// how many they are enough for.
pub fn train(
    texts: &[&str],
    settings: &Settings,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<String, String> {
    settings.check()?;
    let n_bytes: usize = texts.iter().map(|t| t.len()).sum();
    let n_merges = settings.vocab_size - 256 - settings.specials.len();
    // Each merge needs a pair of its own, and pairs are no more than bytes.
    if n_merges > n_bytes {
        return Err(too_little(settings.vocab_size, 256 + settings.specials.len() + n_bytes));
    }
    let special = |text: &String| AddedToken::from(text.clone(), true);
    let trainer = BpeTrainer::builder()
        .vocab_size(settings.vocab_size)
        .min_frequency(settings.min_frequency)
        .special_tokens(settings.specials.iter().map(special).collect())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .build();
    let mut tokenizer = HfTokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(byte_level())).with_decoder(Some(byte_level()));
    let mut counted = 0;
    let parts = texts.iter().flat_map(|text| without(text, &settings.specials));
    let sections = parts.flat_map(sections).inspect(|section| {
        counted += section.len() as u64;
        progress(counted);
    });
    tokenizer
        .train(&mut TrainerWrapper::from(trainer), sections)
        .map_err(|e| format!("training the tokenizer failed: {e}"))?;
    let n_tokens = tokenizer.get_vocab_size(true);
    if n_tokens < settings.vocab_size {
        return Err(too_little(settings.vocab_size, n_tokens));
    }
    assert_eq!(n_tokens, settings.vocab_size, "the trainer stops at the size asked for");
    tokenizer.to_string(true).map_err(|e| format!("writing the tokenizer failed: {e}"))
}

fn too_little(asked: usize, possible: usize) -> String {
    format!(
        "the text is too little for {asked} tokens: it gives at most {possible}; ask for those, \
         lower the minimum frequency, or give more text"
    )
}

/// GPT-2's cutting and spelling.
fn byte_level() -> ByteLevel {
    ByteLevel::new(false, true, true)
}

/// Into how many words the pattern cuts a text.
fn n_words(text: &str) -> usize {
    let mut words = PreTokenizedString::from(text);
    match byte_level().pre_tokenize(&mut words) {
        Ok(()) => words.get_splits(OffsetReferential::Original, OffsetType::Byte).len(),
        Err(_) => 0,
    }
}

/// The parts of a text between special tokens, the longer of which win.
fn without<'t>(text: &'t str, specials: &[String]) -> Vec<&'t str> {
    let mut longest_first: Vec<&String> = specials.iter().collect();
    longest_first.sort_by_key(|s| std::cmp::Reverse(s.len()));
    let mut parts = vec![text];
    for special in longest_first {
        parts = parts.into_iter().flat_map(|part| part.split(special.as_str())).collect();
    }
    parts
}

/// A text in sections, cut where the pattern cuts anyway: before a space between ASCII letters. A
/// section without such a place grows to a megabyte, then ends where it is.
fn sections(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (section, tail) = rest.split_at(section_len(rest));
        rest = tail;
        (!section.is_empty()).then_some(section)
    })
}

fn section_len(text: &str) -> usize {
    if text.len() <= SECTION_BYTES {
        return text.len();
    }
    let is_cut =
        |w: &[u8]| w[0].is_ascii_alphabetic() && w[1] == b' ' && w[2].is_ascii_alphabetic();
    let end = text.floor_char_boundary(16 * SECTION_BYTES);
    let windows = text.as_bytes()[SECTION_BYTES..end.max(SECTION_BYTES)].windows(3);
    windows.enumerate().find(|(_, w)| is_cut(w)).map_or(end, |(at, _)| SECTION_BYTES + at + 1)
}
