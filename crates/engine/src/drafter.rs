//! A draft model: a small model of the same vocabulary that guesses how sequences go on.
//!
//! In: the tokens of sequences. Out: the likeliest next ones by this model, so many rounds of one
//! token each, all sequences in a batch. It keeps keys and values of the sequences that it was
//! asked for last. What it guesses is checked by the model itself, so that nothing but time depends
//! on it.

use crate::prefix::common;
use crate::speculation::{Drafted, MOST_DRAFTED, MOST_MODELLED, Wanted};
use std::time::Duration;
use sterna_model::Tokenizer;
use sterna_runtime::sample::argmax;
use sterna_runtime::settings::PAGE_LEN;
use sterna_runtime::{Chunk, Logits, Runner, RuntimeError, SequenceId};

/// Tokens of a sequence that the first round may compute: its last one, and what was guessed right
/// before it. More are left where it is new, or was not asked for in a while.
const MOST_LEFT: usize = MOST_DRAFTED + 1;

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
    /// What the next round computes of it: tokens that were not read yet, then the last one.
    rows: Vec<u32>,
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
    /// read further, a batch at a time, and guessed once it is near its end; one that does not fit
    /// its context is not guessed.
    ///
    /// # Errors
    /// When the runner fails.
    pub fn draft(
        &mut self,
        wanted: &[Wanted<'_>],
        clock: &dyn Fn() -> Duration,
    ) -> Result<Drafted, RuntimeError> {
        let start = clock();
        let mut guesses: Vec<Continued> = Vec::new();
        let mut reads: Vec<(SequenceId, &[u32])> = Vec::new();
        for one in wanted.iter().take(MOST_MODELLED).filter(|one| one.most > 0) {
            if !self.fits(one) {
                continue;
            }
            let id = self.touch(one.key)?;
            let mut rows = self.lacking(one)?;
            if rows.len() > MOST_LEFT {
                let n_read = self.runner.program().settings().max_batch_rows.min(rows.len() - 1);
                let (read, left) = rows.split_at(n_read);
                reads.push((id, read));
                rows = left;
            }
            if rows.len() <= MOST_LEFT {
                let (key, most, rows, tokens) = (one.key, one.most, rows.to_vec(), Vec::new());
                guesses.push(Continued { key, id, most, rows, tokens });
            }
        }
        if !reads.is_empty() {
            self.forward(&reads, Logits::None)?;
        }
        let read = clock();
        let mut n_rounds = 0;
        while self.round(&mut guesses)? {
            n_rounds += 1;
        }
        let (reading, took) = (read.saturating_sub(start), clock().saturating_sub(read));
        let guesses = guesses.into_iter().map(|guess| (guess.key, guess.tokens)).collect();
        Ok(Drafted { guesses, reading, took, n_rounds })
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

    /// The tokens that it lacks of the sequence that was touched last: the last one, and those
    /// before it that it did not read yet.
    fn lacking<'a>(&mut self, wanted: &Wanted<'a>) -> Result<&'a [u32], RuntimeError> {
        let before = &wanted.tokens[..wanted.tokens.len() - 1];
        let known = self.known.last_mut().expect("it was touched");
        let n_common = common(&known.tokens, before);
        known.tokens.truncate(n_common);
        self.runner.truncate(known.id, n_common)?;
        Ok(&wanted.tokens[n_common..])
    }

    /// Computes the next tokens of sequences.
    fn forward(
        &mut self,
        rows: &[(SequenceId, &[u32])],
        logits: Logits,
    ) -> Result<&[f32], RuntimeError> {
        let chunks = rows.iter().map(|&(sequence, tokens)| Chunk { sequence, tokens, logits });
        let chunks: Vec<Chunk<'_>> = chunks.collect();
        let logits = self.runner.forward(&chunks)?;
        for (id, tokens) in rows {
            let known = self.known.iter_mut().find(|known| known.id == *id);
            known.expect("it was touched").tokens.extend(*tokens);
        }
        Ok(logits)
    }

    /// Guesses one more token of those that want one; whether any did.
    fn round(&mut self, guesses: &mut [Continued]) -> Result<bool, RuntimeError> {
        let wants = |guess: &Continued| guess.tokens.len() < guess.most;
        let wanting = guesses.iter().filter(|guess| wants(guess));
        let rows: Vec<_> = wanting.map(|guess| (guess.id, &*guess.rows)).collect();
        if rows.is_empty() {
            return Ok(false);
        }
        let n_outputs = self.runner.program().n_outputs();
        let logits = self.forward(&rows, Logits::Last)?;
        let wanting = guesses.iter_mut().filter(|guess| wants(guess));
        for (guess, row) in wanting.zip(logits.chunks_exact(n_outputs)) {
            let next = argmax(row).expect("a model has tokens") as u32;
            guess.rows = vec![next];
            guess.tokens.push(next);
        }
        Ok(true)
    }
}
