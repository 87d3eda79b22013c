//! Byte-level BPE (GPT-2's): a text is cut into words, and the bytes of each are merged in the
//! order in which the vocabulary learned its merges.

use super::export::{Entries, entries, texts};
use super::merge::{Merger, NO_TOKEN};
use super::pre::{self, PreTokenizer, Splitter};
use super::vocab::{Kind, Vocab, char_of_byte, strings};
use std::collections::HashMap;
use sterna_formats::{Metadata, Value};

/// The encoder of `tokenizer.ggml.model = gpt2`.
#[derive(Clone)]
pub(super) struct Bpe {
    pre: &'static PreTokenizer,
    splitter: Splitter,
    /// The token of each byte, [`NO_TOKEN`] for a byte that has none.
    bytes: Box<[u32; 256]>,
    /// The rank and the result of each merge, by its two tokens.
    merges: HashMap<(u32, u32), (u32, u32)>,
    /// Tokens by their bytes, where a word that is a token is taken whole.
    words: HashMap<Box<[u8]>, u32>,
}

impl Bpe {
    /// Builds the encoder from `tokenizer.ggml.merges` and the vocabulary.
    pub fn from_metadata(
        metadata: &Metadata,
        vocab: &Vocab,
        pre: &'static PreTokenizer,
    ) -> Result<Self, String> {
        let texts = strings(metadata, "tokenizer.ggml.merges")?
            .ok_or("tokenizer.ggml.merges is missing; a `gpt2` tokenizer needs it")?;
        let ids = vocab.ids(|k| matches!(k, Kind::Normal | Kind::UserDefined | Kind::Unused));
        let mut merges = HashMap::with_capacity(texts.len());
        for (rank, text) in (0u32..).zip(texts) {
            let (left, right) = split_merge(text)
                .ok_or_else(|| bad_merge(rank, text, "is not two tokens with a space between"))?;
            let id = |part: &str| {
                let needs = || bad_merge(rank, text, &format!("needs the token {part:?}"));
                ids.get(part).copied().ok_or_else(needs)
            };
            let result = id(&[left, right].concat())?;
            merges.entry((id(left)?, id(right)?)).or_insert((rank, result));
        }
        let mut bytes = Box::new([NO_TOKEN; 256]);
        for byte in 0..=255u8 {
            let spelling = char_of_byte(byte);
            if let Some(&id) = ids.get(spelling.encode_utf8(&mut [0; 4]) as &str) {
                bytes[byte as usize] = id;
            }
        }
        let mut words = HashMap::new();
        if pre.ignore_merges {
            words.extend(ids.values().map(|&id| (vocab.bytes(id).into(), id)));
        }
        Ok(Self { pre, splitter: Splitter::new(pre), bytes, merges, words })
    }

    /// The metadata it could have been built from.
    pub fn to_metadata(&self, vocab: &Vocab) -> Entries {
        let mut merges: Vec<_> =
            self.merges.iter().map(|(&pair, &(rank, _))| (rank, pair)).collect();
        merges.sort_unstable();
        let token = |id: u32| &vocab.tokens[id as usize];
        let merges = merges.into_iter().map(|(_, (l, r))| format!("{} {}", token(l), token(r)));
        let mut entries = entries("gpt2", self.pre.names[0], vocab);
        entries.push(("tokenizer.ggml.merges".into(), texts(merges)));
        entries
    }

    /// Appends the tokens of a text. A byte without a token, which only a vocabulary lacks that
    /// never saw it in training, is left out.
    pub fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let mut merger = Merger::default();
        self.splitter.for_each(text, |word| {
            if let Some(&id) = self.words.get(word.as_bytes()) {
                return out.push(id);
            }
            let bytes = word.bytes().map(|byte| (1, self.bytes[byte as usize]));
            let merged = merger.merge(bytes, |l, r| self.merges.get(&(l.id, r.id)).copied());
            out.extend(merged.map(|symbol| symbol.id).filter(|&id| id != NO_TOKEN));
        });
    }
}

/// The pre-tokenizer a file names; `default` where it names none, as llama.cpp has it.
pub(super) fn pre_tokenizer(metadata: &Metadata) -> Result<&'static PreTokenizer, String> {
    match metadata.get("tokenizer.ggml.pre") {
        None => pre::by_name("default"),
        Some(Value::Str(name)) => pre::by_name(name),
        Some(_) => Err("tokenizer.ggml.pre is not a string; convert the model again".into()),
    }
}

/// The two tokens of a merge. The first may begin with a space only in files that do not spell
/// bytes; the separator is the first space after that.
fn split_merge(merge: &str) -> Option<(&str, &str)> {
    let first_len = merge.chars().next()?.len_utf8();
    let at = first_len + merge[first_len..].find(' ')?;
    let (left, right) = (&merge[..at], &merge[at + 1..]);
    (!right.is_empty()).then_some((left, right))
}

fn bad_merge(rank: u32, merge: &str, what: &str) -> String {
    format!("tokenizer.ggml.merges: merge {rank}, {merge:?}, {what}; convert the model again")
}
