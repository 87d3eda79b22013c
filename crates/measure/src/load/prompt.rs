//! Prompts as parts: each part is a stream of the seed and a length, so that two prompts share
//! exactly the tokens that they are meant to share, and a million of them take little room.

use super::draw::Draw;
use crate::MeasureError;

/// A prompt before it is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// In order; none is empty.
    pub parts: Vec<Part>,
}

/// The first tokens of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Which.
    pub stream: Stream,
    /// How many.
    pub n_tokens: usize,
}

/// Where tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// One for all agents.
    Shared,
    /// One for each request, by its number.
    Own(u64),
    /// A block of a trace, by its hash: requests with the same hash share it.
    Block(u64),
    /// One for each request that only warms up.
    WarmUp(u64),
}

impl Stream {
    fn keys(self) -> [u64; 2] {
        match self {
            Stream::Shared => [0, 0],
            Stream::Own(request) => [1, request],
            Stream::Block(hash) => [2, hash],
            Stream::WarmUp(request) => [3, request],
        }
    }
}

impl Prompt {
    /// How long it is.
    pub fn n_tokens(&self) -> usize {
        self.parts.iter().map(|part| part.n_tokens).sum()
    }

    /// Its token ids, uniform over the vocabulary.
    pub fn ids(&self, seed: u64, vocabulary: Vocabulary) -> Vec<u32> {
        self.draw(seed).map(|mut draw| vocabulary.id(&mut draw)).collect()
    }

    /// As many English words as it has tokens, for servers that take only text. How many tokens
    /// they are is the tokenizer's affair: most of them are one.
    pub fn text(&self, seed: u64) -> String {
        let word = |mut draw: Draw| WORDS[draw.below(WORDS.len() as u64) as usize];
        self.draw(seed).map(word).collect::<Vec<_>>().join(" ")
    }

    /// A source of numbers for each token.
    fn draw(&self, seed: u64) -> impl Iterator<Item = Draw> {
        self.parts.iter().flat_map(move |part| {
            let [kind, id] = part.stream.keys();
            (0..part.n_tokens as u64).map(move |position| Draw::new(seed, &[kind, id, position]))
        })
    }
}

/// The token ids that prompts are drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vocabulary {
    first: u32,
    n: u32,
}

/// Vocabularies begin with control and byte tokens and end with whatever was added to them.
const FIRST_OF_LARGE: u32 = 1000;
const FIRST_OF_SMALL: u32 = 100;
const LARGE: usize = 2000;
const END: usize = 30_000;

/// With fewer ids, prompts that ought to differ would not.
const MIN_IDS: usize = 28;

impl Vocabulary {
    /// The ids of a model with so many tokens that are ordinary in any of that size.
    ///
    /// # Errors
    /// When there are too few tokens for prompts that differ.
    pub fn new(n_tokens: usize) -> Result<Self, MeasureError> {
        let end = n_tokens.min(END);
        let first = if end >= LARGE { FIRST_OF_LARGE } else { FIRST_OF_SMALL };
        let n = end.saturating_sub(first as usize);
        if n < MIN_IDS {
            return Err(MeasureError::Data(format!(
                "a vocabulary of {n_tokens} tokens is too small: prompts are drawn from ids of \
                 {FIRST_OF_SMALL} on, and need {MIN_IDS} of them"
            )));
        }
        Ok(Self { first, n: n as u32 })
    }

    fn id(self, draw: &mut Draw) -> u32 {
        self.first + draw.below(u64::from(self.n)) as u32
    }
}

/// Frequent, short, and one token of most vocabularies.
const WORDS: &[&str] = &[
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world",
    "school", "state", "family", "student", "group", "country", "problem", "hand", "part", "place",
    "case", "week", "company", "system", "program", "question", "work", "number", "night", "point",
    "home", "water", "room", "mother", "area", "money", "story", "fact", "month", "lot", "right",
    "study", "book", "eye", "job", "word", "business", "issue", "side", "kind", "head", "house",
    "service", "friend", "father", "power", "hour", "game", "line", "end", "member", "law", "car",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(own: u64) -> Prompt {
        let parts = [(Stream::Shared, 240), (Stream::Own(own), 16)];
        Prompt { parts: parts.map(|(stream, n_tokens)| Part { stream, n_tokens }).to_vec() }
    }

    #[test]
    fn prefixes_are_the_same_and_tails_are_not() {
        let vocabulary = Vocabulary::new(32_000).unwrap();
        let all: Vec<Vec<u32>> = (0..69).map(|own| prompt(own).ids(5, vocabulary)).collect();
        for (i, ids) in all.iter().enumerate() {
            assert_eq!((ids.len(), &ids[..240]), (256, &all[0][..240]));
            assert!(all[..i].iter().all(|other| other[240..] != ids[240..]), "seed 5, agent {i}");
        }
        assert_eq!(all[3], prompt(3).ids(5, vocabulary));
        assert_ne!(all[3][..240], prompt(3).ids(6, vocabulary)[..240]);
    }

    #[test]
    fn a_shorter_part_is_the_start_of_a_longer_one() {
        let of = |n_tokens| Prompt { parts: vec![Part { stream: Stream::Block(9), n_tokens }] };
        let vocabulary = Vocabulary::new(512).unwrap();
        assert_eq!(of(512).ids(1, vocabulary)[..100], of(100).ids(1, vocabulary));
    }

    #[test]
    fn ids_are_ordinary_tokens() {
        for (n_tokens, range) in [(512, 100..512), (32_000, 1000..30_000), (2000, 1000..2000)] {
            let ids = prompt(0).ids(1, Vocabulary::new(n_tokens).unwrap());
            assert!(ids.iter().all(|id| range.contains(id)), "{n_tokens}");
        }
        assert!(Vocabulary::new(128).is_ok());
        let error = Vocabulary::new(100).unwrap_err().to_string();
        assert!(error.contains("100 tokens is too small"), "{error}");
    }

    #[test]
    fn text_has_a_word_for_each_token() {
        let text = prompt(1).text(5);
        assert_eq!(text.split(' ').count(), 256);
        let start = |text: &str| text.split(' ').take(240).collect::<Vec<_>>().join(" ");
        assert_eq!(start(&text), start(&prompt(2).text(5)));
        assert_ne!(text, prompt(2).text(5));
    }
}
