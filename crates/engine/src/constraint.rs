//! What an answer is held to, as the engine sees it: which tokens may come next.
//!
//! In: a grammar that somebody compiled (`grammar.rs`), and the tokens of the answer. Out: the
//! tokens that may follow, and when none may. The engine's core knows no more of grammars than
//! this, and the same tokens give the same masks whenever and wherever they are computed.

use crate::EngineError;
use std::fmt;
use std::sync::Arc;
use sterna_runtime::sample::TokenSet;

/// A compiled grammar, from which any number of answers may begin.
pub trait Grammar: Send + Sync {
    /// The beginning of an answer. Nothing of it is shared with other answers.
    fn start(&self) -> Box<dyn Follower>;
}

/// A grammar at a place in an answer.
pub trait Follower: Send {
    /// Tokens that may come next; those that end a text are among them where the answer is whole.
    ///
    /// # Errors
    /// When there is none, or finding them takes more than a grammar may: a sentence.
    fn allowed(&mut self) -> Result<TokenSet, String>;

    /// Goes on by a token, one of those that may come next and does not end a text.
    ///
    /// # Errors
    /// When it may not come here: a sentence.
    fn accept(&mut self, token: u32) -> Result<(), String>;

    /// Whether the answer is whole and no token may follow.
    fn is_over(&self) -> bool;
}

/// What an answer is held to: a grammar under the text that it was compiled from. Equal texts are
/// equal constraints.
#[derive(Clone)]
pub struct Constraint {
    source: Arc<str>,
    grammar: Arc<dyn Grammar>,
}

impl Constraint {
    /// A compiled grammar; `source` tells it from every other of the same model.
    pub fn new(source: impl Into<Arc<str>>, grammar: Arc<dyn Grammar>) -> Self {
        Self { source: source.into(), grammar }
    }

    /// What it was compiled from.
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl PartialEq for Constraint {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Constraint").field(&self.source).finish()
    }
}

/// An answer's place in its grammar. It goes with the answer's tokens, which stay when the sequence
/// gives its pages up, so a sequence that is computed again is where it was.
pub struct Held {
    follower: Box<dyn Follower>,
    /// What may come next, once it was asked for.
    next: Option<Result<TokenSet, String>>,
}

impl Held {
    /// An answer that has not begun.
    pub fn new(constraint: &Constraint) -> Self {
        Self { follower: constraint.grammar.start(), next: None }
    }

    /// Finds what may come next ahead of time.
    pub fn prepare(&mut self) {
        let follower = &mut self.follower;
        self.next.get_or_insert_with(|| follower.allowed());
    }

    /// What may come next.
    ///
    /// # Errors
    /// When the grammar finds nothing.
    pub fn allowed(&mut self) -> Result<&TokenSet, EngineError> {
        self.prepare();
        let next = self.next.as_ref().expect("it was just prepared");
        next.as_ref().map_err(|why| failed(why))
    }

    /// Goes on by a token.
    ///
    /// # Errors
    /// When it may not come here.
    pub fn accept(&mut self, token: u32) -> Result<(), EngineError> {
        self.next = None;
        self.follower.accept(token).map_err(|why| failed(&why))
    }

    /// Whether no token may follow.
    pub fn is_over(&self) -> bool {
        self.follower.is_over()
    }
}

fn failed(why: &str) -> EngineError {
    // Which is so of the client's grammar, and not a failure of ours.
    EngineError::Invalid(format!("its grammar cannot be followed any further: {why}"))
}
