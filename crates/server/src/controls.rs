//! Control tokens: where a prompt may spell them, and where it may not.
//!
//! A chat template writes control tokens as text, `<|im_end|>` say, and a user may write the same
//! text into a message. So that it stays text there, [`Controls::guard`] puts a mark, a character
//! that occurs nowhere else, in front of whatever in a user's text could become a control token or
//! a part of one; the template carries the marks to where the text goes, trimmed or quoted as it
//! may be; and [`Controls::encode`] takes the marks out again and makes no token of a spelling that
//! had one in front of it or within.
//!
//! A mark can only ever forbid a token, so a client that guesses it gains nothing. Texts without
//! anything suspicious, nearly all, get no mark, and the prompt is tokenized as a whole, exactly
//! as the reference does it. Tokens that a vocabulary calls user-defined are no control tokens:
//! the model was trained to find them in any text, and so they are.

use std::collections::BTreeMap;
use sterna_model::Tokenizer;

/// The control tokens of a vocabulary, by spelling.
pub struct Controls {
    spellings: Sorted,
    /// Of the spellings, in their order.
    ids: Vec<u32>,
    /// What is left of a spelling when some of its characters are taken off its front.
    suffixes: Sorted,
}

impl Controls {
    /// Finds them: tokens that add no bytes to a text and that the tokenizer reads from theirs.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let mut tokens = BTreeMap::new();
        for id in 0..tokenizer.vocab_len() as u32 {
            let Some(spelling) = tokenizer.token(id) else { continue };
            let is_silent = tokenizer.token_bytes(id).is_empty() && !spelling.is_empty();
            if is_silent && tokenizer.encode_special(spelling, false, true) == [id] {
                tokens.insert(spelling.to_owned(), id);
            }
        }
        let (texts, ids): (Vec<String>, Vec<u32>) = tokens.into_iter().unzip();
        let suffixes = texts.iter().flat_map(|text| {
            text.char_indices().skip(1).map(|(at, _)| text[at..].to_owned()).collect::<Vec<_>>()
        });
        let suffixes = Sorted::new(suffixes.collect());
        Self { spellings: Sorted::new(texts), ids, suffixes }
    }

    /// A user's text with a mark wherever a control token could begin in it, or at its edges
    /// together with what the template writes beside it. `None` when there is no such place.
    ///
    /// A plain identifier is no danger at its edges, only when it spells a token itself: names such
    /// as `function` must stay what templates compare them with.
    pub fn guard(&self, text: &str, mark: char) -> Option<String> {
        let has_edges = !text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        let is_risky = |at: usize| {
            let rest = &text.as_bytes()[at..];
            let ends = || self.spellings.extend(rest);
            let begins = || at == 0 && self.suffixes.touch(rest);
            !self.spellings.prefixes_of(rest).is_empty() || has_edges && (ends() || begins())
        };
        let mut guarded = String::new();
        let mut kept = 0;
        for (at, _) in text.char_indices().filter(|&(at, _)| is_risky(at)) {
            guarded.push_str(&text[kept..at]);
            guarded.push(mark);
            kept = at;
        }
        if guarded.is_empty() {
            return None;
        }
        guarded.push_str(&text[kept..]);
        Some(guarded)
    }

    /// The tokens of a rendered prompt with its marks.
    ///
    /// Where a mark forbids a token, the text between control tokens is tokenized piece by piece.
    /// That can differ from the whole at the seams for a `tokenizer.json` that treats the beginning
    /// of a text otherwise than its middle: prompts that spell control tokens pay that.
    pub fn encode(&self, tokenizer: &Tokenizer, prompt: &str, mark: char) -> Vec<u32> {
        let (text, marks) = unmark(prompt, mark);
        let (parts, is_forbidden) = self.split(&text, &marks);
        if !is_forbidden {
            return tokenizer.encode_special(&text, false, true);
        }
        let mut ids = Vec::new();
        for part in parts {
            match part {
                Part::Token(id) => ids.push(id),
                Part::Text(text) => ids.extend(tokenizer.encode_special(text, false, false)),
            }
        }
        ids
    }

    /// Cuts a text at the control tokens that it may spell; also says whether it spells one that it
    /// may not.
    fn split<'a>(&self, text: &'a str, marks: &[usize]) -> (Vec<Part<'a>>, bool) {
        let (mut parts, mut is_forbidden) = (Vec::new(), false);
        let (mut plain, mut at) = (0, 0);
        while at < text.len() && !marks.is_empty() {
            let found = self.spellings.prefixes_of(&text.as_bytes()[at..]);
            let may = |&&index: &&usize| {
                let end = at + self.spellings.texts[index].len();
                let next = marks.partition_point(|&mark| mark < at);
                marks.get(next).is_none_or(|&mark| mark >= end)
            };
            let Some(&index) = found.iter().rev().find(may) else {
                is_forbidden |= !found.is_empty();
                at += 1;
                continue;
            };
            if plain < at {
                parts.push(Part::Text(&text[plain..at]));
            }
            parts.push(Part::Token(self.ids[index]));
            at += self.spellings.texts[index].len();
            plain = at;
        }
        if plain < text.len() {
            parts.push(Part::Text(&text[plain..]));
        }
        (parts, is_forbidden)
    }
}

/// A part of a prompt.
enum Part<'a> {
    Text(&'a str),
    Token(u32),
}

/// A prompt without its marks, and where in it they were.
fn unmark(prompt: &str, mark: char) -> (String, Vec<usize>) {
    let mut text = String::with_capacity(prompt.len());
    let mut marks = Vec::new();
    for (index, part) in prompt.split(mark).enumerate() {
        if index > 0 {
            marks.push(text.len());
        }
        text.push_str(part);
    }
    (text, marks)
}

/// Texts in order, for looking up which of them a text begins with.
struct Sorted {
    texts: Vec<String>,
    is_first_byte: [bool; 256],
}

impl Sorted {
    fn new(mut texts: Vec<String>) -> Self {
        texts.sort_unstable();
        texts.dedup();
        let mut is_first_byte = [false; 256];
        texts.iter().for_each(|text| is_first_byte[usize::from(text.as_bytes()[0])] = true);
        Self { texts, is_first_byte }
    }

    /// Indices of those that `text` begins with, the shortest first: the range that agrees with
    /// `text` so far is narrowed byte by byte.
    fn prefixes_of(&self, text: &[u8]) -> Vec<usize> {
        let mut found = Vec::new();
        if text.first().is_none_or(|&byte| !self.is_first_byte[usize::from(byte)]) {
            return found;
        }
        let (mut low, mut high) = (0, self.texts.len());
        for (depth, &byte) in text.iter().enumerate() {
            let range = &self.texts[low..high];
            let at = |text: &String| text.as_bytes().get(depth).copied();
            let from = range.partition_point(|text| at(text).is_none_or(|b| b < byte));
            let to = range.partition_point(|text| at(text).is_none_or(|b| b <= byte));
            (low, high) = (low + from, low + to);
            match self.texts[low..high].first() {
                None => break,
                // Of those that share a prefix, the one that is the prefix sorts first.
                Some(first) if first.len() == depth + 1 => found.push(low),
                Some(_) => {}
            }
        }
        found
    }

    /// Whether one of them begins with `text` and goes on.
    fn extend(&self, text: &[u8]) -> bool {
        let next = self.texts.partition_point(|known| known.as_bytes() <= text);
        let starts = |known: &String| known.as_bytes().starts_with(text);
        !text.is_empty() && self.texts.get(next).is_some_and(starts)
    }

    /// Whether `text` begins with one of them, or one of them with `text`.
    fn touch(&self, text: &[u8]) -> bool {
        !self.prefixes_of(text).is_empty() || self.extend(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::{self, BOS, END, START};

    const MARK: char = '\u{f0000}';

    fn guarded(text: &str) -> String {
        let controls = Controls::of(&vocabulary::tokenizer());
        controls.guard(text, MARK).unwrap_or_else(|| text.into()).replace(MARK, "^")
    }

    fn encoded(marked: &str) -> Vec<u32> {
        let tokenizer = vocabulary::tokenizer();
        Controls::of(&tokenizer).encode(&tokenizer, &marked.replace('^', "\u{f0000}"), MARK)
    }

    #[test]
    fn what_could_become_a_control_token_is_marked() {
        for fine in ["", "Hello, <b>world</b>", "a < b | c", "im_end", "function"] {
            assert_eq!(guarded(fine), fine);
        }
        assert_eq!(guarded("a<|im_end|>b"), "a^<|im_end|>b");
        assert_eq!(guarded("<s><s>"), "^<s>^<s>");
        // What the template writes next to it could complete these.
        assert_eq!(guarded("stop <|im_"), "stop ^<|im_");
        assert_eq!(guarded("|im_end|> x"), "^|im_end|> x");
        assert_eq!(guarded("|im_end|"), "^|im_end|");
    }

    #[test]
    fn marked_spellings_are_text_and_others_are_tokens() {
        let plain = vocabulary::tokenizer();
        let text = |text: &str| plain.encode(text, false);
        let join = |parts: &[&[u32]]| parts.concat();
        let hi = text("hi");
        assert_eq!(encoded("<s>hi<|im_end|>"), join(&[&[BOS], &hi, &[END]]));
        let spelled = text("hi<|im_end|>");
        let both = "<|im_start|>hi^<|im_end|><|im_end|>";
        assert_eq!(encoded(both), join(&[&[START], &spelled, &[END]]));
        // A mark that forbids nothing changes nothing.
        assert_eq!(encoded("<|im_start|>^hi<|im_end|>"), join(&[&[START], &hi, &[END]]));
        // Half from the user, half from the template.
        assert_eq!(encoded("^<|im_end|>"), text("<|im_end|>"));
        assert_eq!(encoded("<^|im_end|>"), text("<|im_end|>"));
        assert_eq!(encoded("é^<s>é"), text("é<s>é"));
    }
}
