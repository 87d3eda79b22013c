//! The passes: each edits a [`Draft`]. A pass is one file, plus one line in [`PASSES`].
//!
//! In: a draft and a [`Context`], what a pass may use. Out: the draft, edited, with notes for the
//! report. Passes run in the order of the list; a pass that has nothing to do does nothing.

pub mod distill;
pub mod fuse;
pub mod gptq;
pub mod int8;
pub mod mixed;
pub mod pad;
pub mod rtn;
pub mod scale;
pub mod weigh;

use crate::draft::Draft;
use crate::error::Result;
use crate::importance::Importance;
use crate::recipe::Recipe;
use crate::search::{Chooser, Found};
use std::sync::Arc;
use sterna_model::archs::Arch;
use sterna_model::config::Config;

/// Every pass, in the order in which they run.
pub const PASSES: &[&dyn Pass] = &[
    &pad::Pad,
    &int8::Int8,
    &weigh::Weigh,
    &scale::Scale,
    &rtn::Rtn,
    &mixed::Mixed,
    &gptq::Gptq,
    &distill::Distill,
    &fuse::Fuse,
];

/// What a pass may use besides the draft. What is `None` was not asked for.
#[derive(Default)]
pub struct Context<'a> {
    /// What scales of inputs are made of: for `int8`.
    pub int8: Option<int8::Scales<'a>>,
    /// How much errors matter, by column: for `weigh`.
    pub importance: Option<Arc<Importance>>,
    /// What factors are chosen by: for `scale`.
    pub scales: Option<scale::Scales<'a>>,
    /// Encodings chosen by name: for `rtn`.
    pub recipe: Option<&'a Recipe>,
    /// A search under a budget: for `mixed`.
    pub chooser: Option<&'a mut (dyn Chooser + 'a)>,
    /// What `mixed` found.
    pub found: Option<Found>,
    /// What matrices read: for `gptq`.
    pub calibrated: Option<gptq::Calibrated<'a>>,
    /// Who teaches: for `distill`, which takes it.
    pub course: Option<distill::Course<'a>>,
    /// Rewrites to make, by name: for `fuse`.
    pub rewrites: &'a [&'a str],
    /// The architecture and what it was built from, if `pad` may widen it.
    pub may_pad: Option<(&'a dyn Arch, &'a Config)>,
}

/// An edit of a draft.
pub trait Pass: Sync {
    /// Its name, as in Plans and `--passes`.
    fn name(&self) -> &'static str;
    /// What it does and why, in one sentence.
    fn about(&self) -> &'static str;
    /// Edits the draft.
    ///
    /// # Errors
    /// When what was asked for cannot be done.
    fn apply(&self, draft: &mut Draft<'_>, context: &mut Context<'_>) -> Result<()>;
}

/// The pass of that name.
pub fn by_name(name: &str) -> Option<&'static dyn Pass> {
    PASSES.iter().copied().find(|pass| pass.name() == name)
}
