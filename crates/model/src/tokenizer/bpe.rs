//! Byte-level BPE (GPT-2's): words of bytes spelled in a printable alphabet, merged by rank. The
//! merging is the `tokenizers` crate's; the words are cut here.

use super::export::{Entries, entries, texts};
use super::pre::{self, PreTokenizer, Splitter};
use super::vocab::{Kind, Vocab, char_of_byte, strings};
use serde_json::Value as Json;
use std::sync::Arc;
use sterna_formats::{Metadata, Value};
use tokenizers::Model;
use tokenizers::models::bpe::BPE;

/// The encoder of `tokenizer.ggml.model = gpt2`. Clones share it: its cache of words is per thread.
#[derive(Clone)]
pub(super) struct Bpe {
    pre: &'static PreTokenizer,
    splitter: Splitter,
    model: Arc<BPE>,
}

impl Bpe {
    /// Builds the encoder from `tokenizer.ggml.pre`, `tokenizer.ggml.merges` and the vocabulary.
    pub fn from_metadata(
        metadata: &Metadata,
        vocab: &Vocab,
        pre: &'static PreTokenizer,
    ) -> Result<Self, String> {
        let merges = strings(metadata, "tokenizer.ggml.merges")?
            .ok_or("tokenizer.ggml.merges is missing; a `gpt2` tokenizer needs it")?;
        let ids: tokenizers::models::bpe::Vocab = vocab
            .ids(|k| matches!(k, Kind::Normal | Kind::UserDefined | Kind::Unused))
            .into_iter()
            .map(|(token, id)| (token.into(), id))
            .collect();
        let merges = merges.iter().enumerate().map(|(rank, merge)| {
            let (left, right) = split_merge(merge)
                .ok_or_else(|| bad_merge(rank, merge, "is not two tokens with a space between"))?;
            for part in [left, right, &[left, right].concat()] {
                if !ids.contains_key(part) {
                    return Err(bad_merge(rank, merge, &format!("needs the token {part:?}")));
                }
            }
            Ok((left.to_owned(), right.to_owned()))
        });
        let merges = merges.collect::<Result<Vec<_>, String>>()?;
        let model = BPE::builder()
            .vocab_and_merges(ids, merges)
            .ignore_merges(pre.ignore_merges)
            .build()
            .map_err(|e| format!("tokenizer.ggml.merges: {e}; convert the model again"))?;
        Ok(Self { pre, splitter: Splitter::new(pre), model: Arc::new(model) })
    }

    /// The metadata it could have been built from.
    pub fn to_metadata(&self, vocab: &Vocab) -> Entries {
        let json = serde_json::to_value(&*self.model).expect("a BPE model is valid JSON");
        let pair = |p: &Json| Some(format!("{} {}", p[0].as_str()?, p[1].as_str()?));
        let merges = json["merges"].as_array().into_iter().flatten().filter_map(pair);
        let mut entries = entries("gpt2", self.pre.names[0], vocab);
        entries.push(("tokenizer.ggml.merges".into(), texts(merges)));
        entries
    }

    /// Appends the tokens of a text. A byte without a token, which only a crippled vocabulary
    /// lacks, is left out.
    pub fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let mut word = String::new();
        self.splitter.for_each(text, |piece| {
            word.clear();
            word.extend(piece.bytes().map(char_of_byte));
            let tokens = self.model.tokenize(&word).expect("fails only for a missing <unk>");
            out.extend(tokens.iter().map(|t| t.id));
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

fn bad_merge(rank: usize, merge: &str, what: &str) -> String {
    format!("tokenizer.ggml.merges: merge {rank}, {merge:?}, {what}; convert the model again")
}
