//! Finds the tokens that are matched in raw text before anything else: user-defined ones always
//! (the model was trained so), control and unknown ones only where the caller asks for it.

use super::vocab::{Kind, Vocab};

/// A part of a text: plain, or one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Token(u32),
}

/// Matches the leftmost, of those the longest. Holds ids only: the texts stay in the vocabulary.
#[derive(Clone, Debug)]
pub(super) struct SpecialTokens {
    /// Ids of the tokens, by text.
    sorted: Vec<u32>,
    /// The same without control and unknown tokens.
    user_defined: Vec<u32>,
}

impl SpecialTokens {
    pub fn new(vocab: &Vocab) -> Self {
        let ids = |wanted: &dyn Fn(Kind) -> bool| {
            let mut ids: Vec<u32> = (0..vocab.tokens.len() as u32)
                .filter(|&id| wanted(vocab.kinds[id as usize]))
                .filter(|&id| !vocab.tokens[id as usize].is_empty())
                .collect();
            ids.sort_by_key(|&id| &vocab.tokens[id as usize]);
            ids
        };
        Self {
            sorted: ids(&|k| matches!(k, Kind::Control | Kind::Unknown | Kind::UserDefined)),
            user_defined: ids(&|k| k == Kind::UserDefined),
        }
    }

    /// Cuts a text at the special tokens in it.
    pub fn split<'a>(&self, vocab: &Vocab, text: &'a str, parse_special: bool) -> Vec<Part<'a>> {
        let ids = if parse_special { &self.sorted } else { &self.user_defined };
        let mut is_first_byte = [false; 256];
        for &id in ids {
            is_first_byte[vocab.tokens[id as usize].as_bytes()[0] as usize] = true;
        }
        let mut parts = Vec::new();
        let (mut plain, mut at) = (0, 0);
        while at < text.len() {
            let found = if is_first_byte[text.as_bytes()[at] as usize] {
                longest_prefix(vocab, ids, &text.as_bytes()[at..])
            } else {
                None
            };
            let Some(id) = found else {
                at += 1;
                continue;
            };
            if plain < at {
                parts.push(Part::Text(&text[plain..at]));
            }
            parts.push(Part::Token(id));
            at += vocab.tokens[id as usize].len();
            plain = at;
        }
        if plain < text.len() {
            parts.push(Part::Text(&text[plain..]));
        }
        parts
    }
}

/// The longest token that `text` starts with: the sorted ids are narrowed byte by byte to those
/// that agree with the text so far. A token and a text are both UTF-8, so a match ends between
/// characters.
fn longest_prefix(vocab: &Vocab, mut ids: &[u32], text: &[u8]) -> Option<u32> {
    let bytes = |id: u32| vocab.tokens[id as usize].as_bytes();
    let mut longest = None;
    for (depth, &byte) in text.iter().enumerate() {
        let from = ids.partition_point(|&id| bytes(id).get(depth).is_none_or(|&b| b < byte));
        let to = ids.partition_point(|&id| bytes(id).get(depth).is_none_or(|&b| b <= byte));
        ids = &ids[from..to];
        match ids.first() {
            None => break,
            // Of those that share a prefix, the one that is the prefix sorts first.
            Some(&id) if bytes(id).len() == depth + 1 => longest = Some(id),
            Some(_) => {}
        }
    }
    longest
}
