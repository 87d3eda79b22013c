//! `mixed`: an encoding per tensor group, chosen by measurement under a budget.

use super::{Context, Pass};
use crate::draft::{Draft, Edit};
use crate::error::Result;

/// Measured mixed precision (S-4).
pub struct Mixed;

impl Pass for Mixed {
    fn name(&self) -> &'static str {
        "mixed"
    }

    fn about(&self) -> &'static str {
        "chooses each tensor's encoding by its measured effect on calibration text"
    }

    fn apply(&self, draft: &mut Draft<'_>, context: &mut Context<'_>) -> Result<()> {
        let Some(chooser) = &mut context.chooser else { return Ok(()) };
        let found = chooser.choose(draft)?;
        found.notes.iter().for_each(|note| draft.note(format!("mixed: {note}")));
        let best = found.best().choices.clone();
        for (index, (group, &choice)) in found.groups.iter().zip(&best).enumerate() {
            // Candidate 0 is what the group has.
            if choice == 0 {
                continue;
            }
            let encoding = group.candidates[choice].encoding;
            let alone = found.sensitivities[index][choice];
            let alone = match alone {
                Some(loss) => format!(", KL {:.1e} alone", loss.kl),
                None => ", alone estimated".to_owned(),
            };
            let provenance = format!("mixed: {}{alone}", found.best().label);
            for &id in &group.weights {
                let provenance = provenance.clone();
                draft.encode(id, Edit { encoding, bytes: None, provenance })?;
            }
        }
        context.found = Some(found);
        Ok(())
    }
}
