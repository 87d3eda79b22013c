//! `rtn`: every matrix directly into the encoding a recipe names, without looking at any text.
//!
//! Rows that do not divide into the encoding's blocks take the documented fallback
//! ([`fit::or_fallback`]); each such tensor is noted, since nothing here is silent.

use super::{Context, Pass};
use crate::draft::{Draft, Edit};
use crate::error::Result;
use crate::fit;
use crate::recipe::Recipe;
use sterna_formats::EncodingRef;
use sterna_model::{WeightId, WeightSource};

/// Round to nearest.
pub struct Rtn;

impl Pass for Rtn {
    fn name(&self) -> &'static str {
        "rtn"
    }

    fn about(&self) -> &'static str {
        "encodes every matrix directly, by a recipe of encodings per role and layer"
    }

    fn apply(&self, draft: &mut Draft<'_>, context: &mut Context<'_>) -> Result<()> {
        context.recipe.map_or(Ok(()), |recipe| encode_all(draft, recipe))
    }
}

/// Gives every matrix the encoding its recipe names, or the fallback.
///
/// # Errors
/// When an override of the recipe matches no tensor.
pub fn encode_all(draft: &mut Draft<'_>, recipe: &Recipe) -> Result<()> {
    if let Some(importance) = recipe.importance() {
        draft.weigh(importance);
    }
    let resolved = recipe.resolve(draft.graph())?;
    resolved.into_iter().try_for_each(|(id, wanted)| encode(draft, id, wanted))
}

fn encode(draft: &mut Draft<'_>, id: WeightId, wanted: EncodingRef) -> Result<()> {
    let decl = draft.graph().decl(id);
    let (encoding, reason) = fit::or_fallback(wanted, fit::cols_of(decl));
    let name = decl.name.clone();
    let source = draft.encoding(id);
    if encoding == source {
        return Ok(());
    }
    if encoding.grid().is_some() && source.bits() < encoding.bits() {
        let (to, from) = (encoding.name(), source.name());
        draft.note(format!("rtn: {name} stays {from}: {to} would be larger and no better"));
        return Ok(());
    }
    let provenance = reason.as_ref().map_or_else(|| "rtn".to_owned(), |why| format!("rtn: {why}"));
    if let Some(reason) = reason {
        draft.note(format!("rtn: {name} is {reason}"));
    }
    draft.encode(id, Edit { encoding, bytes: None, provenance })
}
