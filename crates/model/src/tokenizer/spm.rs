//! SentencePiece-style BPE: starting from characters, the adjacent pair whose union is the token of
//! the highest score is merged, the leftmost of equals first, until no union is a token. Characters
//! that are no token become byte tokens `<0xXX>`.

use super::export::{Entries, entries};
use super::vocab::{Kind, Vocab, byte_of, check_len};
use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap, HashSet};
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

/// What merging one piece needs, reused for the next.
#[derive(Default)]
struct Scratch {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Candidate>,
}

/// A run of text that is one token so far; an empty one was merged into its left neighbour.
#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    len: usize,
    prev: usize,
    next: usize,
}

/// No symbol: the end of the chain.
const NONE: usize = usize::MAX;

/// Two neighbours that may be merged, valid while they together still have `len` bytes.
struct Candidate {
    score: f32,
    left: usize,
    right: usize,
    len: usize,
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
            ids,
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
        let mut scratch = Scratch::default();
        let mut start = 0;
        let pairs = escaped.chars().zip(escaped.char_indices().skip(1));
        for (left, (at, right)) in pairs {
            if !self.neighbours.contains(&(left, right)) {
                self.encode_piece(&escaped[start..at], &mut scratch, out);
                start = at;
            }
        }
        self.encode_piece(&escaped[start..], &mut scratch, out);
    }

    fn encode_piece(&self, text: &str, scratch: &mut Scratch, out: &mut Vec<u32>) {
        self.merge(text, scratch);
        let mut at = 0;
        while at != NONE {
            let symbol = scratch.symbols[at];
            self.emit(&text[symbol.start..symbol.start + symbol.len], out);
            at = symbol.next;
        }
    }

    fn merge(&self, text: &str, Scratch { symbols, queue }: &mut Scratch) {
        symbols.clear();
        symbols.extend(text.char_indices().enumerate().map(|(i, (start, c))| Symbol {
            start,
            len: c.len_utf8(),
            prev: i.wrapping_sub(1),
            next: i + 1,
        }));
        symbols.last_mut().expect("text is not empty").next = NONE;
        for right in 1..symbols.len() {
            queue.extend(self.candidate(text, symbols, right - 1, right));
        }
        while let Some(Candidate { left, right, len, .. }) = queue.pop() {
            let (l, r) = (symbols[left], symbols[right]);
            if l.len == 0 || r.len == 0 || l.len + r.len != len {
                continue;
            }
            symbols[left].len = len;
            symbols[left].next = r.next;
            symbols[right].len = 0;
            if r.next != NONE {
                symbols[r.next].prev = left;
            }
            queue.extend(self.candidate(text, symbols, l.prev, left));
            queue.extend(self.candidate(text, symbols, left, r.next));
        }
    }

    fn candidate(
        &self,
        text: &str,
        symbols: &[Symbol],
        left: usize,
        right: usize,
    ) -> Option<Candidate> {
        let (l, r) = (symbols.get(left)?, symbols.get(right)?);
        let len = l.len + r.len;
        if len > self.max_token_len {
            return None;
        }
        let &id = self.ids.get(&text[l.start..l.start + len])?;
        Some(Candidate { score: self.scores[id as usize], left, right, len })
    }

    /// A merged symbol is a token; a single character may be none.
    fn emit(&self, symbol: &str, out: &mut Vec<u32>) {
        if let Some(&id) = self.ids.get(symbol) {
            out.push(id);
        } else if symbol.bytes().all(|b| self.bytes[b as usize].is_some()) {
            out.extend(symbol.bytes().filter_map(|b| self.bytes[b as usize]));
        } else {
            out.extend(self.unknown);
        }
    }
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

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}
