//! The core with speculation: what a draft model is asked, and what it guessed.

use super::Core;
use crate::schedule::Schedule;
use crate::speculation::{Drafted, Speculate, Speculation, Wanted};

impl Core {
    /// The same, with speculation.
    #[must_use]
    pub fn with_speculation(mut self, how: Speculate) -> Self {
        self.schedule.speculation = Speculation::new(how);
        self
    }

    /// The sequences that a draft model, where there is one, should go on with before the next
    /// batch is planned; none while requests wait to be admitted.
    pub fn wanted_drafts(&self) -> Vec<Wanted<'_>> {
        let Schedule { queue, running, speculation, .. } = &self.schedule;
        if queue.is_empty() { speculation.wanted(running) } else { Vec::new() }
    }

    /// Takes what a draft model guessed.
    pub fn propose(&mut self, mut drafted: Drafted) {
        self.drafting += drafted.reading + drafted.took;
        let Schedule { running, speculation, limits, .. } = &mut self.schedule;
        for (_, tokens) in &mut drafted.guesses {
            // Its head may be padded further than the model's.
            let is_strange = |&token: &u32| token as usize >= limits.vocabulary;
            let known = tokens.iter().position(is_strange).unwrap_or(tokens.len());
            tokens.truncate(known);
        }
        speculation.propose(running, drafted);
    }

    /// Asks the draft model no more.
    pub fn forget_drafter(&mut self, why: String) {
        self.schedule.speculation.forget_model();
        self.counters.draft_failure = Some(why);
    }
}
