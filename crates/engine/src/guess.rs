//! A guess of what follows a sequence's last token, and how often its guesses were right.
//!
//! A guess is held against the tokens that the sampler chooses also where no batch computed it:
//! so it is known, at no cost, whether computing it would pay.

use std::iter::Sum;

/// Who guessed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The client, which said what it expects.
    Prediction,
    /// The sequence's own tokens.
    #[default]
    Lookup,
    /// A draft model.
    Model,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Prediction, Self::Lookup, Self::Model];
}

/// What guesses came to, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guessed {
    /// Those that were computed.
    pub drafted: usize,
    /// Those of them that were right.
    pub accepted: usize,
}

impl Sum for Guessed {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            drafted: sum.drafted + one.drafted,
            accepted: sum.accepted + one.accepted,
        })
    }
}

/// A sequence starts with these chances that a guessed token is right: a draft model is tried at
/// once, since its guesses are only known where it made some.
const FIRST_CHANCES: [f64; 3] = [0.8, 0.5, 0.8];

/// So many guessed tokens are remembered, roughly.
const MEMORY: f64 = 16.0;

/// Steps after which a draft model that guessed badly has another chance, roughly.
const FORGIVEN_AFTER: f64 = 256.0;

/// A sequence's guess.
#[derive(Clone, Debug)]
pub struct Guess {
    tokens: Vec<u32>,
    source: Source,
    /// Tokens of it that turned out right so far.
    n_right: usize,
    /// What the next batch computes: the sequence's last token, then the guess; empty where it
    /// computes no guess.
    rows: Vec<u32>,
    /// What a draft model guessed, and for how many tokens before it.
    proposed: (usize, Vec<u32>),
    chances: [f64; 3],
    counted: [Guessed; 3],
}

impl Default for Guess {
    fn default() -> Self {
        let (tokens, rows, proposed) = Default::default();
        let (source, counted) = Default::default();
        Self { tokens, source, n_right: 0, rows, proposed, chances: FIRST_CHANCES, counted }
    }
}

impl Guess {
    /// Notes what a draft model guesses to follow the first `n_tokens` of the sequence.
    pub fn propose(&mut self, n_tokens: usize, tokens: Vec<u32>) {
        self.proposed = (n_tokens, tokens);
    }

    /// A new guess after `n_tokens`: a draft model's where there is one, or what `look_up` finds.
    pub fn renew(
        &mut self,
        n_tokens: usize,
        most: usize,
        look_up: impl FnOnce() -> (Source, Vec<u32>),
    ) {
        self.forget();
        let first = FIRST_CHANCES[Source::Model as usize];
        let chance = &mut self.chances[Source::Model as usize];
        *chance += (first - *chance) / FORGIVEN_AFTER;
        let (at, proposed) = &self.proposed;
        if *at == n_tokens && !proposed.is_empty() {
            self.tokens.clone_from(proposed);
            self.source = Source::Model;
        } else {
            (self.source, self.tokens) = look_up();
        }
        self.tokens.truncate(most);
    }

    /// No guess.
    pub fn forget(&mut self) {
        self.tokens.clear();
        self.rows.clear();
        self.n_right = 0;
    }

    /// Tokens of the guess.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no guess.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Who made it.
    pub fn source(&self) -> Source {
        self.source
    }

    /// How likely a token is right that such a source guesses after right ones.
    pub fn chance(&self, source: Source) -> f64 {
        self.chances[source as usize]
    }

    /// Has the next batch compute the first `n` tokens of the guess, after `last`.
    pub fn compute(&mut self, last: u32, n: usize) {
        self.rows.clear();
        if n > 0 {
            self.rows.push(last);
            self.rows.extend(self.tokens.iter().take(n));
        }
    }

    /// Has it compute so many rows at most.
    pub fn limit_rows(&mut self, most: usize) {
        self.rows.truncate(most);
        if self.rows.len() == 1 {
            self.rows.clear();
        }
    }

    /// The last token and the guess that the next batch computes; empty where it computes no guess.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Notes that so many tokens of the guess were computed.
    pub fn count_computed(&mut self, n_tokens: usize) {
        self.counted[self.source as usize].drafted += n_tokens;
    }

    /// What the guesses of a source came to.
    pub fn counted(&self, source: Source) -> Guessed {
        self.counted[source as usize]
    }

    /// Holds the guess against the next token that was chosen, where the first `n_computed` tokens
    /// of the guess were computed; the place of the one that was computed and right, if one was.
    pub fn check(&mut self, token: u32, n_computed: usize) -> Option<usize> {
        let at = self.n_right;
        let guess = *self.tokens.get(at)?;
        let is_right = guess == token;
        let chance = &mut self.chances[self.source as usize];
        *chance += (f64::from(u8::from(is_right)) - *chance) / MEMORY;
        if is_right {
            self.n_right += 1;
        } else {
            self.tokens.truncate(self.n_right);
        }
        let is_saved = is_right && at < n_computed;
        self.counted[self.source as usize].accepted += usize::from(is_saved);
        is_saved.then_some(at)
    }

    /// Tokens of the guess that were chosen, one after another from its first.
    pub fn n_right(&self) -> usize {
        self.n_right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_are_held_against_what_comes() {
        let mut guess = Guess::default();
        guess.renew(3, 4, || (Source::Lookup, vec![7, 8, 9, 10, 11]));
        assert_eq!((guess.len(), guess.source()), (4, Source::Lookup));
        guess.compute(6, 3);
        assert_eq!(guess.rows(), [6, 7, 8, 9]);
        guess.limit_rows(1);
        assert!(guess.rows().is_empty(), "a row without a guess is a plain one");
        guess.count_computed(1);
        for (token, n_right, saved) in [(7, 1, Some(0)), (8, 2, None), (1, 2, None), (9, 2, None)] {
            assert_eq!(guess.check(token, 1), saved, "the first was computed");
            assert_eq!(guess.n_right(), n_right, "nothing is right after what is wrong");
        }
        assert_eq!(guess.counted(Source::Lookup), Guessed { drafted: 1, accepted: 1 });
        assert_eq!(guess.counted(Source::Prediction), Guessed::default());
        let chance = guess.chance(Source::Lookup);
        assert!((0.4..0.6).contains(&chance), "two right, one wrong: {chance}");
    }

    #[test]
    fn a_proposal_holds_for_the_tokens_it_was_made_for() {
        let mut guess = Guess::default();
        guess.propose(3, vec![1, 2]);
        guess.renew(3, 1, || unreachable!("the model guessed"));
        assert_eq!((guess.len(), guess.source()), (1, Source::Model));
        guess.renew(4, 8, || (Source::Lookup, vec![5]));
        assert_eq!((guess.len(), guess.source()), (1, Source::Lookup));
        for _ in 0..50 {
            guess.propose(4, vec![9]);
            guess.renew(4, 8, Default::default);
            guess.check(0, 0);
        }
        let bad = guess.chance(Source::Model);
        (0..1_000).for_each(|_| guess.renew(5, 8, Default::default));
        assert!(bad < 0.1 && guess.chance(Source::Model) > 0.7, "it is tried again");
    }
}
