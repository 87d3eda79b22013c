//! `weigh`: rounding errors count as much as the inputs they are multiplied by (imatrix style).
//!
//! A matrix is rounded to keep `sum (w - q)^2` small; what a layer returns is off by
//! `sum (w - q) x`, so the error of a column whose inputs are large matters more. Encodings search
//! their scales under these weights. It changes no size and no kernel.

use super::{Context, Pass};
use crate::draft::Draft;
use crate::error::Result;

/// Importance-weighted rounding.
pub struct Weigh;

impl Pass for Weigh {
    fn name(&self) -> &'static str {
        "weigh"
    }

    fn about(&self) -> &'static str {
        "keeps rounding errors small where a matrix's inputs are large on calibration text"
    }

    fn apply(&self, draft: &mut Draft<'_>, context: &mut Context<'_>) -> Result<()> {
        if let Some(importance) = &context.importance {
            draft.weigh(importance.clone());
        }
        Ok(())
    }
}
