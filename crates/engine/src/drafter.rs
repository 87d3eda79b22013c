//! A draft model: a small model of the same vocabulary that guesses how sequences go on.
//!
//! In: the tokens of sequences. Out: the likeliest next ones by this model, so many rounds of one
//! token each, all sequences in a batch. It keeps keys and values of the sequences that it was
//! asked for last. What it guesses is checked by the model itself, so that nothing but time depends
//! on it.

use crate::prefix::common;
use crate::speculation::{Drafted, MOST_MODELLED, Wanted};
use std::time::Duration;
use sterna_model::Tokenizer;
use sterna_runtime::sample::argmax;
use sterna_runtime::settings::PAGE_LEN;
use sterna_runtime::{Chunk, Logits, Runner, RuntimeError, SequenceId};

/// What it keeps of a sequence.
struct Known {
    key: u64,
    id: SequenceId,
    /// The tokens whose keys and values it has.
    tokens: Vec<u32>,
}

/// The model with its sequences.
pub struct Drafter {
    runner: Runner,
    /// The last asked for last.
    known: Vec<Known>,
}

/// Says whether a draft model has the vocabulary of a model, token by token: otherwise its guesses
/// mean nothing to that one.
///
/// # Errors
/// When it has not: where they differ.
pub fn same_vocabulary(model: &Tokenizer, draft: &Tokenizer) -> Result<(), String> {
    let (n, n_draft) = (model.vocab_len(), draft.vocab_len());
    if n != n_draft {
        return Err(format!(
            "the draft model has {n_draft} tokens and the model {n}; a draft model must have the \
             same vocabulary, as smaller models of the same family do"
        ));
    }
    match (0..n as u32).find(|&id| model.token(id) != draft.token(id)) {
        None => Ok(()),
        Some(id) => Err(format!(
            "token {id} is {:?} in the draft model and {:?} in the model; a draft model must have \
             the same vocabulary, as smaller models of the same family do",
            draft.token(id).unwrap_or_default(),
            model.token(id).unwrap_or_default(),
        )),
    }
}

/// A sequence being gone on with.
struct Continued {
    key: u64,
    id: SequenceId,
    most: usize,
    last: u32,
    tokens: Vec<u32>,
}

impl Drafter {
    /// Positions of keys and values that its runner needs, for contexts of this length.
    pub fn positions(context_len: usize) -> usize {
        MOST_MODELLED * context_len.next_multiple_of(PAGE_LEN)
    }

    /// A drafter on a runner of which no sequence was made, of a program that has
    /// [`Drafter::positions`].
    pub fn new(runner: Runner) -> Self {
        Self { runner, known: Vec::new() }
    }

    /// Goes on with sequences, at most [`MOST_MODELLED`]. One whose beginning it has yet to read is
    /// read further, a batch at a time, and guessed another time; one that does not fit its context
    /// is not guessed.
    ///
    /// # Errors
    /// When the runner fails.
    pub fn draft(
        &mut self,
        wanted: &[Wanted<'_>],
        clock: &dyn Fn() -> Duration,
    ) -> Result<Drafted, RuntimeError> {
        let mut guesses: Vec<Continued> = Vec::new();
        for one in wanted.iter().take(MOST_MODELLED).filter(|one| one.most > 0) {
            if !self.fits(one) {
                continue;
            }
            let id = self.touch(one.key)?;
            if self.read(one)? {
                let last = *one.tokens.last().expect("a sequence has a token");
                let (key, most, tokens) = (one.key, one.most, Vec::new());
                guesses.push(Continued { key, id, most, last, tokens });
            }
        }
        let start = clock();
        let mut n_rounds = 0;
        while self.round(&mut guesses)? {
            n_rounds += 1;
        }
        let took = clock().saturating_sub(start);
        let guesses = guesses.into_iter().map(|guess| (guess.key, guess.tokens)).collect();
        Ok(Drafted { guesses, took, n_rounds })
    }

    fn fits(&self, wanted: &Wanted<'_>) -> bool {
        let program = self.runner.program();
        let vocabulary = program.vocabulary();
        wanted.tokens.len() + wanted.most <= program.settings().context_len
            && wanted.tokens.iter().all(|&token| (token as usize) < vocabulary)
    }

    /// Puts a sequence last, so that it is the last to make room.
    fn touch(&mut self, key: u64) -> Result<SequenceId, RuntimeError> {
        let known = match self.known.iter().position(|known| known.key == key) {
            Some(at) => self.known.remove(at),
            None => {
                if self.known.len() == MOST_MODELLED {
                    self.runner.free(self.known.remove(0).id)?;
                }
                Known { key, id: self.runner.new_sequence(), tokens: Vec::new() }
            }
        };
        let id = known.id;
        self.known.push(known);
        Ok(id)
    }

    /// Reads what it lacks of the sequence that was touched last, but for its last token; a batch
    /// at most. Whether that was all.
    fn read(&mut self, wanted: &Wanted<'_>) -> Result<bool, RuntimeError> {
        let before = &wanted.tokens[..wanted.tokens.len() - 1];
        let known = self.known.last_mut().expect("it was touched");
        let n_common = common(&known.tokens, before);
        known.tokens.truncate(n_common);
        self.runner.truncate(known.id, n_common)?;
        let n_rows = self.runner.program().settings().max_batch_rows.min(before.len() - n_common);
        let tokens = &before[n_common..n_common + n_rows];
        if !tokens.is_empty() {
            self.runner.forward(&[Chunk { sequence: known.id, tokens, logits: Logits::None }])?;
            known.tokens.extend(tokens);
        }
        Ok(known.tokens.len() == before.len())
    }

    /// Guesses one more token of those that want one; whether any did.
    fn round(&mut self, guesses: &mut [Continued]) -> Result<bool, RuntimeError> {
        let wants = |guess: &Continued| guess.tokens.len() < guess.most;
        let chunk = |guess: &'_ Continued| (guess.id, [guess.last]);
        let rows: Vec<_> = guesses.iter().filter(|guess| wants(guess)).map(chunk).collect();
        if rows.is_empty() {
            return Ok(false);
        }
        let logits = Logits::Last;
        let chunks = rows.iter().map(|(id, tokens)| Chunk { sequence: *id, tokens, logits });
        let chunks: Vec<Chunk<'_>> = chunks.collect();
        let n_outputs = self.runner.program().n_outputs();
        let logits = self.runner.forward(&chunks)?;
        let wanting = guesses.iter_mut().filter(|guess| wants(guess));
        for (guess, row) in wanting.zip(logits.chunks_exact(n_outputs)) {
            if let Some(known) = self.known.iter_mut().find(|known| known.id == guess.id) {
                known.tokens.push(guess.last);
            }
            guess.last = argmax(row).expect("a model has tokens") as u32;
            guess.tokens.push(guess.last);
        }
        Ok(true)
    }
}
