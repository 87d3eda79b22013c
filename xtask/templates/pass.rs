//! `{{snake}}`: what it changes, and what for.

use super::{Context, Pass};
use crate::draft::Draft;
use crate::error::Result;

/// What it is called in full.
pub struct {{Camel}};

impl Pass for {{Camel}} {
    fn name(&self) -> &'static str {
        "{{snake}}"
    }

    fn about(&self) -> &'static str {
        "does nothing yet"
    }

    fn apply(&self, _draft: &mut Draft<'_>, _context: &mut Context<'_>) -> Result<()> {
        Ok(())
    }
}
