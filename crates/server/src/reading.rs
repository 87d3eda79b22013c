//! What an answer's text is made of: thoughts, calls of tools, and what is said.
//!
//! In: pieces of an answer as the engine gives them. Out: pieces in which the three are told apart,
//! for whichever API shows them. A piece of which nothing is certain yet waits, and the log
//! probabilities of its tokens with it.

use crate::answer::Piece;
use crate::calls::{self, Format};
use crate::reasoning::{Form, Splitter};
use sterna_engine::TokenLogprob;

/// How the answers of a request are read; by default they are all text.
#[derive(Clone, Default)]
pub struct Reading {
    /// How the model writes thoughts, and whether the prompt has begun them.
    pub thoughts: Option<(&'static Form, bool)>,
    /// How it calls tools.
    pub calls: Option<Calls>,
}

/// The calls that an answer may have.
#[derive(Clone)]
pub struct Calls {
    /// Their form.
    pub format: &'static dyn Format,
    /// The tools.
    pub names: Vec<String>,
    /// Further ones are left out.
    pub most: usize,
}

impl Reading {
    /// Who reads one of the answers.
    pub fn reader(&self) -> Reader {
        let splitter = self.thoughts.map(|(form, has_begun)| Splitter::new(form, has_begun));
        let calls = self.calls.as_ref();
        let calls = calls.map(|of| (calls::Reader::new(of.format, of.names.clone()), of.most));
        Reader { splitter, calls, held: Vec::new(), n_tokens: 0, n_thought: 0 }
    }
}

/// Reads one answer as it comes.
#[derive(Default)]
pub struct Reader {
    splitter: Option<Splitter>,
    /// With the most calls.
    calls: Option<(calls::Reader, usize)>,
    /// Log probabilities of text that waits.
    held: Vec<TokenLogprob>,
    n_tokens: usize,
    n_thought: usize,
}

impl Reader {
    /// Counts a token, which came with this piece of text, and reads it.
    pub fn token(&mut self, piece: Piece) -> Option<Piece> {
        self.n_tokens += 1;
        let was_thinking = self.is_thinking();
        let read = self.read(piece);
        if was_thinking || self.is_thinking() {
            self.n_thought = self.n_tokens;
        }
        read
    }

    /// Tokens of thoughts, with their marks.
    pub fn n_thought(&self) -> usize {
        self.n_thought
    }

    /// Reads a piece, or a whole answer at once; the last one has a reason. `None` where nothing is
    /// to be shown yet, which is not so at the end.
    pub fn read(&mut self, mut piece: Piece) -> Option<Piece> {
        if self.splitter.is_none() && self.calls.is_none() {
            return Some(piece);
        }
        let is_over = piece.reason.is_some();
        if let Some(splitter) = &mut self.splitter {
            let parts = splitter.push(&piece.text, is_over);
            (piece.thoughts, piece.text) = (parts.thoughts, parts.answer);
        }
        if let Some((reader, most)) = &mut self.calls {
            let n_before = reader.n_calls();
            let mut said = reader.push(&piece.text);
            if is_over {
                let last = reader.finish();
                said.text += &last.text;
                said.calls.extend(last.calls);
            }
            said.calls.truncate(most.saturating_sub(n_before));
            (piece.text, piece.calls) = (said.text, said.calls);
        }
        self.held.append(&mut piece.tokens);
        if piece.is_empty() && !is_over {
            return None;
        }
        piece.tokens = std::mem::take(&mut self.held);
        Some(piece)
    }

    fn is_thinking(&self) -> bool {
        self.splitter.as_ref().is_some_and(Splitter::is_thinking)
    }
}
