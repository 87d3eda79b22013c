//! The judge of the search: a draft with the plan's encodings, run on calibration text.

use crate::draft::Draft;
use crate::engine::Engine;
use crate::error::Result;
use crate::search::{Depth, Judge, Loss};
use crate::yardstick::Yardstick;
use sterna_formats::EncodingRef;
use sterna_model::WeightId;

/// Measures plans by running them.
pub struct ModelJudge<'a> {
    /// Runs drafts.
    pub engine: &'a dyn Engine,
    /// The draft that plans are applied to.
    pub draft: Draft<'a>,
    /// Whether that computes otherwise than the baseline before anything is encoded.
    pub is_changed: bool,
    /// For [`Depth::Quick`].
    pub quick: Yardstick,
    /// For [`Depth::Full`].
    pub full: Yardstick,
}

impl Judge for ModelJudge<'_> {
    fn judge(&mut self, plan: &[(WeightId, EncodingRef)], depth: Depth) -> Result<Loss> {
        let draft = self.draft.planned(plan, "a trial")?;
        let mut candidate = self.engine.load(draft.graph(), &draft)?;
        let yardstick = match depth {
            Depth::Quick => &mut self.quick,
            Depth::Full => &mut self.full,
        };
        yardstick.read(&mut *candidate)?.loss()
    }

    fn base(&mut self, depth: Depth) -> Result<Loss> {
        if self.is_changed { self.judge(&[], depth) } else { Ok(Loss::NONE) }
    }

    fn judge_draft(&mut self, draft: &Draft<'_>, kv: Option<&str>) -> Result<Loss> {
        let other = kv.map(|kv| self.engine.with_kv(kv)).transpose()?;
        let engine = other.as_deref().unwrap_or(self.engine);
        let mut candidate = engine.load(draft.graph(), draft)?;
        self.full.read(&mut *candidate)?.loss()
    }
}
