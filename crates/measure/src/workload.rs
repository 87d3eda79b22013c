//! What is scored: documents of tokens with a name and a hash, and how text becomes them.
//!
//! In: text and a tokenizer function. Out: a [`Workload`], and the check that calibration and
//! held-out text share nothing (B8).

use crate::MeasureError;
use std::collections::HashMap;
use std::ops::Range;

/// Documents of tokens, scored one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    name: String,
    documents: Vec<Vec<u32>>,
    n_bytes: usize,
    hash: String,
}

/// How a text file becomes documents; every cut is the user's choice and none is silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextRecipe {
    /// Where one document ends and the next begins; `None` makes the file one document.
    pub separator: Option<String>,
    /// Keep the first so many documents.
    pub max_documents: Option<usize>,
    /// Leave out the first so many documents, before `max_documents` counts.
    pub skip_documents: usize,
    /// Cut each document at so many characters (Unicode scalar values).
    pub max_chars: Option<usize>,
    /// Cut each document at so many tokens of text. A BOS is no text (see `quality::Scoring`): to
    /// cut at 256 tokens with the BOS among them, say 255.
    pub max_tokens: Option<usize>,
}

impl TextRecipe {
    /// The whole text as one document, uncut.
    pub fn whole() -> Self {
        Self {
            separator: None,
            max_documents: None,
            skip_documents: 0,
            max_chars: None,
            max_tokens: None,
        }
    }

    /// The documents' text: split at the separator, trimmed of white space, the empty ones left
    /// out, then counted and cut at characters.
    pub fn documents<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let parts: Vec<&str> = match &self.separator {
            Some(separator) => text.split(separator.as_str()).map(str::trim).collect(),
            None => vec![text],
        };
        parts
            .into_iter()
            .filter(|part| !part.is_empty())
            .skip(self.skip_documents)
            .take(self.max_documents.unwrap_or(usize::MAX))
            .map(|part| cut_chars(part, self.max_chars))
            .collect()
    }

    /// The tokens of `text`; `encode` adds no special tokens, since a BOS is the scoring's affair.
    /// `token_bytes` gives one token's bytes of text: it counts what a cut document keeps.
    ///
    /// # Errors
    /// If no document has a token.
    pub fn workload(
        &self,
        name: &str,
        text: &str,
        encode: &mut dyn FnMut(&str) -> Vec<u32>,
        token_bytes: &dyn Fn(u32) -> usize,
    ) -> Result<Workload, MeasureError> {
        let mut documents = Vec::new();
        let mut n_bytes = 0;
        for part in self.documents(text) {
            let mut tokens = encode(part);
            let n_kept = self.max_tokens.unwrap_or(usize::MAX);
            if tokens.len() > n_kept {
                tokens.truncate(n_kept);
                let kept: usize = tokens.iter().map(|&token| token_bytes(token)).sum();
                // A tokenizer may put a space before the text that the text does not have.
                n_bytes += kept.min(part.len());
            } else {
                n_bytes += part.len();
            }
            documents.push(tokens);
        }
        Workload::new(name, documents, n_bytes)
    }
}

fn cut_chars(text: &str, max_chars: Option<usize>) -> &str {
    let end = max_chars.and_then(|n| text.char_indices().nth(n)).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

impl Workload {
    /// `n_bytes` is the length of the text that the tokens stand for.
    ///
    /// # Errors
    /// If there is no token at all.
    pub fn new(name: &str, documents: Vec<Vec<u32>>, n_bytes: usize) -> Result<Self, MeasureError> {
        if documents.iter().all(Vec::is_empty) {
            let why = format!("{name}: it has no tokens; is the file empty, or the limit 0?");
            return Err(MeasureError::Data(why));
        }
        let hash = hash_of(&documents);
        Ok(Self { name: name.into(), documents, n_bytes, hash })
    }

    /// Its name, for reports.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The token documents.
    pub fn documents(&self) -> &[Vec<u32>] {
        &self.documents
    }

    /// Bytes of text that the tokens stand for.
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Tokens in all documents.
    pub fn n_tokens(&self) -> usize {
        self.documents.iter().map(Vec::len).sum()
    }

    /// The blake3 hash of the documents' tokens and boundaries, in hex.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The first `n` documents as a workload of its own, its bytes taken in proportion to tokens;
    /// for quick looks during a search, never for a final figure per byte. All are this one.
    ///
    /// # Errors
    /// When they have no tokens.
    pub fn first(&self, n: usize) -> Result<Self, MeasureError> {
        match n < self.documents.len() {
            true => self.part(0..n, &format!("first {n}")),
            false => Ok(self.clone()),
        }
    }

    /// The documents without the first `n`, in the same way.
    ///
    /// # Errors
    /// As [`Workload::first`].
    pub fn without_first(&self, n: usize) -> Result<Self, MeasureError> {
        self.part(n..self.documents.len(), &format!("without the first {n}"))
    }

    /// The documents that share nothing with another workload, as [`disjoint`] means it; `None`
    /// where all do.
    ///
    /// # Errors
    /// As [`Workload::first`].
    pub fn apart_from(&self, other: &Self) -> Result<Option<Self>, MeasureError> {
        let seen = ngrams(other);
        let is_apart = |tokens: &&Vec<u32>| !grams_of(tokens).any(|gram| seen.contains_key(gram));
        let documents: Vec<Vec<u32>> = self.documents.iter().filter(is_apart).cloned().collect();
        let what = format!("without what is in {}", other.name);
        (!documents.is_empty()).then(|| self.of(documents, &what)).transpose()
    }

    fn part(&self, range: Range<usize>, what: &str) -> Result<Self, MeasureError> {
        let documents = self.documents.iter().skip(range.start).take(range.len());
        self.of(documents.cloned().collect(), what)
    }

    fn of(&self, documents: Vec<Vec<u32>>, what: &str) -> Result<Self, MeasureError> {
        let n_tokens: usize = documents.iter().map(Vec::len).sum();
        let n_bytes = (self.n_bytes as u128 * n_tokens as u128 / self.n_tokens() as u128) as usize;
        Self::new(&format!("{} ({what})", self.name), documents, n_bytes)
    }
}

/// Lengths are hashed before tokens so that no two lists of documents read the same.
fn hash_of(documents: &[Vec<u32>]) -> String {
    let mut hasher = blake3::Hasher::new();
    for document in documents {
        hasher.update(&(document.len() as u64).to_le_bytes());
        for token in document {
            hasher.update(&token.to_le_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// A run of tokens this long in both texts is a copy, not a turn of phrase.
pub const LEAK_NGRAM_LEN: usize = 32;

/// Refuses held-out text that calibration has seen: any run of [`LEAK_NGRAM_LEN`] tokens in both,
/// or a whole document equal to one of the other's.
///
/// # Errors
/// Names both workloads, the documents and the place of the first overlap.
pub fn disjoint(calibration: &Workload, heldout: &Workload) -> Result<(), MeasureError> {
    let seen = ngrams(calibration);
    for (document, tokens) in heldout.documents.iter().enumerate() {
        let grams = grams_of(tokens);
        let Some((at, (their_document, their_at))) =
            grams.enumerate().find_map(|(at, gram)| seen.get(gram).map(|place| (at, *place)))
        else {
            continue;
        };
        let n = LEAK_NGRAM_LEN.min(tokens.len());
        return Err(MeasureError::Data(format!(
            "{}: document {document} repeats {n} tokens from token {at} on that are also in the \
             calibration text {}, document {their_document}, token {their_at}; a quality figure \
             from text that the optimization has seen is worthless: choose disjoint texts",
            heldout.name, calibration.name
        )));
    }
    Ok(())
}

/// All runs of a document; a document shorter than a run is one run, whole.
fn grams_of(tokens: &[u32]) -> std::slice::Windows<'_, u32> {
    tokens.windows(LEAK_NGRAM_LEN.min(tokens.len()).max(1))
}

fn ngrams(workload: &Workload) -> HashMap<&[u32], (usize, usize)> {
    let mut places = HashMap::new();
    for (document, tokens) in workload.documents.iter().enumerate() {
        for (at, gram) in grams_of(tokens).enumerate() {
            places.entry(gram).or_insert((document, at));
        }
    }
    places
}

#[cfg(test)]
mod tests;
