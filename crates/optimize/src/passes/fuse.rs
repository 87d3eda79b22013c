//! `fuse`: nodes that share their input become one, so that it is prepared once.
//!
//! The weights stay separate tensors: the rewrites are recorded in the Plan and made again when
//! the artifact is lowered, so the file stays as standard as it was.

use super::{Context, Pass};
use crate::draft::Draft;
use crate::error::{OptimizeError, Result};
use sterna_model::rewrites;

/// Query, key and value; gate and up.
pub struct Fuse;

impl Pass for Fuse {
    fn name(&self) -> &'static str {
        "fuse"
    }

    fn about(&self) -> &'static str {
        "records graph rewrites that merge layers with the same input"
    }

    fn apply(&self, draft: &mut Draft<'_>, context: &mut Context<'_>) -> Result<()> {
        for name in context.rewrites {
            let rewrite = rewrites::rewrite(name).map_err(OptimizeError::Input)?;
            let patch = rewrite.patch(draft.graph());
            let n = patch.replacements.len();
            if n == 0 {
                continue;
            }
            let graph = patch.apply(draft.graph()).map_err(OptimizeError::Input)?;
            draft.set_graph(graph);
            draft.note(format!("fuse: {name} in {n} places"));
        }
        Ok(())
    }
}
