//! SentencePiece-style BPE: starting from characters, the adjacent pair whose union is the token of
//! the highest score is merged. Characters that are no token become byte tokens `<0xXX>`.

use super::export::{Entries, entries};
use super::merge::{Merger, NO_TOKEN, Symbol};
use super::vocab::{Kind, Vocab, byte_of, check_len};
use std::collections::{HashMap, HashSet};
use sterna_formats::{Array, Metadata, Value};

/// The encoder of `tokenizer.ggml.model = llama`.
#[derive(Clone, Debug)]
pub(super) struct Spm {
    /// Tokens that text may become: control, unknown and byte tokens are not among them, so that
    /// no text spells one.
    ids: HashMap<Box<str>, u32>,
    scores: Vec<f32>,
    bytes: Box<[Option<u32>; 256]>,
    unknown: Option<u32>,
    max_token_len: usize,
    /// Characters that are neighbours in some token. Between others no merge can ever happen, so a
    /// text falls apart there into short pieces, mostly words, which is what makes it fast.
    neighbours: HashSet<(char, char)>,
    space_prefix: bool,
}

impl Spm {
    /// Builds the encoder from `tokenizer.ggml.scores` and the vocabulary.
    pub fn from_metadata(metadata: &Metadata, vocab: &Vocab) -> Result<Self, String> {
        let scores = scores(metadata, vocab.tokens.len())?;
        let ids = vocab.ids(|k| matches!(k, Kind::Normal | Kind::UserDefined | Kind::Unused));
        let mut bytes = Box::new([None; 256]);
        for (id, token) in (0u32..).zip(&vocab.tokens) {
            if vocab.kinds[id as usize] == Kind::Byte {
                let byte = byte_of(token).ok_or_else(|| {
                    format!("tokenizer.ggml.tokens: byte token {id} is {token:?}, not <0xXX>")
                })?;
                bytes[byte as usize] = Some(id);
            }
        }
        Ok(Self {
            max_token_len: ids.keys().map(|t| t.len()).max().unwrap_or(0),
            neighbours: ids.keys().flat_map(|t| t.chars().zip(t.chars().skip(1))).collect(),
            unknown: vocab.specials.unknown,
            space_prefix: vocab.space_prefix,
            ids: ids.into_iter().map(|(token, id)| (token.into(), id)).collect(),
            scores,
            bytes,
        })
    }

    /// The metadata it could have been built from.
    pub fn to_metadata(&self, vocab: &Vocab) -> Entries {
        let mut scores = self.scores.clone();
        scores.resize(vocab.tokens.len(), 0.0);
        let mut entries = entries("llama", "default", vocab);
        entries.push(("tokenizer.ggml.scores".into(), Value::Array(Array::F32(scores))));
        let space_prefix = Value::Bool(self.space_prefix);
        entries.push(("tokenizer.ggml.add_space_prefix".into(), space_prefix));
        entries
    }

    /// Appends the tokens of a text. `at_start` says that nothing or a special token precedes it.
    pub fn encode(&self, text: &str, at_start: bool, out: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        let mut escaped = String::with_capacity(text.len() + text.len() / 2);
        if self.space_prefix && at_start {
            escaped.push('▁');
        }
        escaped.extend(text.chars().map(|c| if c == ' ' { '▁' } else { c }));
        let mut merger = Merger::default();
        let mut start = 0;
        let pairs = escaped.chars().zip(escaped.char_indices().skip(1));
        for (left, (at, right)) in pairs {
            if !self.neighbours.contains(&(left, right)) {
                self.encode_piece(&escaped[start..at], &mut merger, out);
                start = at;
            }
        }
        self.encode_piece(&escaped[start..], &mut merger, out);
    }

    fn encode_piece(&self, text: &str, merger: &mut Merger, out: &mut Vec<u32>) {
        let id = |token: &str| self.ids.get(token).copied();
        let parts = text.char_indices().map(|(at, c)| {
            let len = c.len_utf8();
            (len, id(&text[at..at + len]).unwrap_or(NO_TOKEN))
        });
        let join = |left: &Symbol, right: &Symbol| {
            let len = left.len + right.len;
            if len > self.max_token_len {
                return None;
            }
            let id = id(&text[left.start..left.start + len])?;
            Some((rank(self.scores[id as usize]), id))
        };
        for symbol in merger.merge(parts, join) {
            match symbol.id {
                NO_TOKEN => self.fall_back(&text[symbol.start..symbol.start + symbol.len], out),
                id => out.push(id),
            }
        }
    }

    /// A character that is no token: its bytes, or the unknown token.
    fn fall_back(&self, character: &str, out: &mut Vec<u32>) {
        let bytes = character.bytes().map(|b| self.bytes[b as usize]);
        if bytes.clone().all(|id| id.is_some()) {
            out.extend(bytes.flatten());
        } else {
            out.extend(self.unknown);
        }
    }
}

/// The ranks of scores: the higher a score, the lower its rank.
fn rank(score: f32) -> u32 {
    // Adding zero makes -0.0 equal to 0.0; then the bits of floats order like their magnitudes.
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 1 { bits } else { !(bits | 1 << 31) }
}

fn scores(metadata: &Metadata, n_tokens: usize) -> Result<Vec<f32>, String> {
    const KEY: &str = "tokenizer.ggml.scores";
    let scores: Vec<f32> = match metadata.get(KEY) {
        Some(Value::Array(Array::F32(v))) => v.clone(),
        Some(Value::Array(Array::I32(v))) => v.iter().map(|&s| s as f32).collect(),
        Some(_) => return Err(format!("{KEY} is not an array of f32; convert the model again")),
        None => {
            return Err(format!("{KEY} is missing; a `llama` tokenizer needs a score per token"));
        }
    };
    check_len(KEY, scores.len(), n_tokens)?;
    match scores.iter().position(|s| s.is_nan()) {
        Some(id) => Err(format!("{KEY} of token {id} is not a number; convert the model again")),
        None => Ok(scores),
    }
}
