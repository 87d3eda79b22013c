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
    all: Set,
    /// Without control and unknown tokens.
    user_defined: Set,
}

#[derive(Clone, Debug)]
struct Set {
    /// Ids of the tokens, by text.
    sorted: Vec<u32>,
    is_first_byte: [bool; 256],
}

impl SpecialTokens {
    pub fn new(vocab: &Vocab) -> Self {
        let all = |k| matches!(k, Kind::Control | Kind::Unknown | Kind::UserDefined);
        Self {
            all: Set::new(vocab, all),
            user_defined: Set::new(vocab, |k| k == Kind::UserDefined),
        }
    }

    /// Cuts a text at the special tokens in it.
    pub fn split<'a>(&self, vocab: &Vocab, text: &'a str, parse_special: bool) -> Vec<Part<'a>> {
        let set = if parse_special { &self.all } else { &self.user_defined };
        let mut parts = Vec::new();
        let (mut plain, mut at) = (0, 0);
        while at < text.len() {
            let Some(id) = set.longest_prefix(vocab, &text.as_bytes()[at..]) else {
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

impl Set {
    fn new(vocab: &Vocab, wanted: impl Fn(Kind) -> bool) -> Self {
        let mut sorted: Vec<u32> = (0..vocab.tokens.len() as u32)
            .filter(|&id| wanted(vocab.kinds[id as usize]))
            .filter(|&id| !vocab.tokens[id as usize].is_empty())
            .collect();
        sorted.sort_by_key(|&id| &vocab.tokens[id as usize]);
        let mut is_first_byte = [false; 256];
        for &id in &sorted {
            is_first_byte[vocab.tokens[id as usize].as_bytes()[0] as usize] = true;
        }
        Self { sorted, is_first_byte }
    }

    /// The longest token that `text` starts with: the sorted ids are narrowed byte by byte to
    /// those that agree with the text so far. Tokens and text are UTF-8, so a match of a token
    /// begins and ends between characters.
    fn longest_prefix(&self, vocab: &Vocab, text: &[u8]) -> Option<u32> {
        if !self.is_first_byte[text[0] as usize] {
            return None;
        }
        let bytes = |id: u32| vocab.tokens[id as usize].as_bytes();
        let mut ids = &self.sorted[..];
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
}
