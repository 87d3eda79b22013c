//! What the fleet is made of: models that may be served, and who loads them.
//!
//! In: names, what headers say, agents. Out: an answer to whether they go together.

use crate::catalog::Item;
use std::collections::HashSet;
use sterna_model::plan::nearest;
use sterna_server::{Agents, Evidence, KeepAlive, Served};
use thiserror::Error;

/// What a model is and takes, known from its header before it is loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The bytes it takes when it is loaded, by kind: weights, keys and values, scratch.
    pub memory: Vec<(&'static str, u64)>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Tokens that a request may have.
    pub context_len: usize,
    /// A sentence about it.
    pub describe: String,
    /// What decides its numbers, as in [`Served`].
    pub fingerprint: String,
}

impl Facts {
    /// All of its bytes.
    pub fn bytes(&self) -> u64 {
        self.memory.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Who loads models.
pub trait Load: Send + Sync {
    /// Loads a model that takes no more than so many bytes, and starts its engine.
    ///
    /// # Errors
    /// When it takes more, which is found before it is taken, or cannot be loaded.
    fn load(&self, item: &Item, within: u64) -> Result<Loaded, LoadError>;
}

/// Why a model was not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// It takes so many bytes, which is more than it was given.
    Larger(u64),
    /// A sentence.
    Failed(String),
}

/// A model in memory.
pub struct Loaded {
    /// For the server; name and aliases are replaced by those it is listed under.
    pub served: Served,
    /// Its engine.
    pub engine: Box<dyn Running>,
}

/// An engine that runs.
pub trait Running: Send {
    /// Requests that have not ended.
    fn n_open(&self) -> usize;

    /// Whether it can answer; one that failed never will again.
    fn is_alive(&self) -> bool;

    /// Takes no new requests from now on.
    fn drain(&self);

    /// Finishes what it has, if it can, and frees its memory; returns when that is done.
    fn stop(self: Box<Self>);
}

/// A model that may be served.
#[derive(Clone, Debug)]
pub struct Known {
    /// Where it is, and its name.
    pub item: Item,
    /// Other names.
    pub aliases: Vec<String>,
    /// What its header says, or what is wrong with it.
    pub facts: Result<Facts, String>,
    /// Where it stands by its own evidence.
    pub evidence: Evidence,
    /// Whether it stays in memory.
    pub is_pinned: bool,
    /// How long it stays unused.
    pub keep_alive: KeepAlive,
}

/// Models and agents that do not go together.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SetupError {
    /// There is none.
    #[error("there is no model to serve; name a file, or a folder of models with --models-dir")]
    NoModel,
    /// A name twice.
    #[error("two models are called `{0}`; rename a file, or give another --alias")]
    SameName(String),
    /// An agent with a model that there is not.
    #[error("{who} is given model `{model}`, which is not here; {fix}")]
    NoSuchModel {
        /// The agent, or everybody else.
        who: String,
        /// The model.
        model: String,
        /// What to do.
        fix: String,
    },
}

/// Checks that models and agents go together.
///
/// # Errors
/// When there is no model, two have the same name, or an agent's model is none of them.
pub fn check(known: &[Known], agents: &Agents) -> Result<(), SetupError> {
    if known.is_empty() {
        return Err(SetupError::NoModel);
    }
    let names = || known.iter().flat_map(|k| std::iter::once(&k.item.name).chain(&k.aliases));
    let mut seen = HashSet::new();
    if let Some(name) = names().find(|name| !seen.insert(name.as_str())) {
        return Err(SetupError::SameName(name.clone()));
    }
    let named = agents.all().map(|agent| (format!("agent `{}`", agent.name), agent));
    for (who, agent) in named.chain([("[anonymous]".to_owned(), agents.anybody())]) {
        let Some(model) = agent.model.as_ref().filter(|model| !seen.contains(model.as_str()))
        else {
            continue;
        };
        let known = || names().map(String::as_str);
        let fix = match nearest(model, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", known().collect::<Vec<_>>().join(", ")),
        };
        return Err(SetupError::NoSuchModel { who, model: model.clone(), fix });
    }
    Ok(())
}
