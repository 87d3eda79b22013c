//! A model that is served: an engine, and what is needed to talk to it in text.

use crate::agents::Agents;
use crate::backend::Backend;
use crate::controls::Controls;
use crate::groups::Groups;
use crate::metered::Metered;
use crate::template::ChatTemplate;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;
use sterna_engine::{Grammars, Pooling};
use sterna_model::Tokenizer;

/// A model to serve.
pub struct Served {
    /// The name that answers carry.
    pub name: String,
    /// Other names that requests may use.
    pub aliases: Vec<String>,
    /// Text to tokens and back.
    pub tokenizer: Arc<Tokenizer>,
    /// Tokens that a request may have, prompt and answer together.
    pub context_len: usize,
    /// The model's Jinja template; without one, messages become lines of `role: content`.
    pub chat_template: Option<String>,
    /// How embeddings are made of a text's tokens; `None` where the model's way is not there.
    pub pooling: Option<Pooling>,
    /// Whether it encodes texts and generates none.
    pub is_encoder: bool,
    /// What the template sees as `bos_token`.
    pub bos: Option<String>,
    /// What the template sees as `eos_token`.
    pub eos: Option<String>,
    /// `system_fingerprint` of every answer: what decides the numbers, so the Plan and the build.
    pub fingerprint: String,
    /// When the model was made, in seconds since 1970.
    pub created: u64,
    /// What computes.
    pub engine: Arc<dyn Backend>,
    /// A sentence about it, for people who list the models.
    pub describe: String,
    /// The bytes it takes, by kind.
    pub memory: Vec<(&'static str, u64)>,
}

/// A served model with what is derived from it.
pub struct Model {
    /// What was given.
    pub served: Served,
    /// The parsed template.
    pub(crate) template: Option<ChatTemplate>,
    /// What its answers were like.
    pub(crate) groups: Groups,
    /// Leases that are held.
    n_leases: AtomicUsize,
    controls: OnceLock<Controls>,
    grammars: OnceLock<Result<Grammars, String>>,
}

impl Model {
    /// Parses the template, and puts the agents' quotas before the engine.
    ///
    /// # Errors
    /// When it is not one: a sentence.
    pub fn new(
        mut served: Served,
        agents: Arc<Agents>,
        now: fn() -> SystemTime,
    ) -> Result<Self, String> {
        let source = served.chat_template.as_deref();
        let template = source.map(|source| ChatTemplate::new(source, now)).transpose()?;
        served.engine = Arc::new(Metered { engine: served.engine, agents, now });
        let (groups, n_leases, controls, grammars) = Default::default();
        Ok(Self { served, template, groups, n_leases, controls, grammars })
    }

    /// How many are about to ask its engine: what it was asked it counts itself.
    pub fn n_leases(&self) -> usize {
        self.n_leases.load(Ordering::Acquire)
    }

    /// The control tokens; found when first asked for, since that goes over the whole vocabulary.
    pub(crate) fn controls(&self) -> &Controls {
        self.controls.get_or_init(|| Controls::of(&self.served.tokenizer))
    }

    /// What compiles grammars for it; made when first asked for, for the same reason.
    ///
    /// # Errors
    /// When its vocabulary serves no grammars: a sentence.
    pub fn grammars(&self) -> Result<&Grammars, String> {
        let made = self.grammars.get_or_init(|| Grammars::new(&self.served.tokenizer));
        made.as_ref().map_err(Clone::clone)
    }

    /// Its chat template, empty where there is none.
    pub fn template_source(&self) -> &str {
        self.template.as_ref().map_or("", |template| template.source())
    }

    /// Its name and its aliases.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.served.name).chain(&self.served.aliases)
    }
}

/// A model for a request: it stays in memory while this is held. Who only looks at a model, or
/// reads what it has said, has no lease.
pub struct Lease(Arc<Model>);

impl Lease {
    /// Whoever keeps the model gives it out.
    pub fn new(model: &Arc<Model>) -> Self {
        model.n_leases.fetch_add(1, Ordering::AcqRel);
        Self(model.clone())
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.n_leases.fetch_sub(1, Ordering::AcqRel);
    }
}
