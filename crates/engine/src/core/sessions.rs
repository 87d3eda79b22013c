//! The core with sessions: how they fork and end, and how an answer that was kept makes one.

use super::Core;
use crate::request::{Output, Request};
use crate::salt::Salt;
use crate::schedule::Schedule;
use crate::sessions::SessionError;
use std::slice;

impl Core {
    /// Another name for a session's pages; how many tokens they hold.
    ///
    /// # Errors
    /// When there is no such session, or one of the new name.
    pub fn fork(&mut self, session: &str, child: &str) -> Result<usize, SessionError> {
        self.schedule.sessions.fork(session, child)
    }

    /// Lets a session go; whether there was one.
    pub fn end_session(&mut self, session: &str) -> bool {
        let Schedule { sessions, pool, .. } = &mut self.schedule;
        sessions.end(pool, session)
    }

    /// Whether the tree has the pages of a request's prompt, but for its last token.
    pub(super) fn has_pages(&mut self, request: &Request) -> bool {
        let n = request.prompt.len() - 1;
        let found = self.schedule.tree.find(&salt(request), &request.prompt[..n]);
        found.n_tokens() == n
    }

    /// Keeps for a request's session what the tree has of its prompt and its answer.
    pub(super) fn keep_session(&mut self, request: &Request, said: &[Output]) {
        let Some(session) = &request.session else { return };
        let answer = said.iter().filter_map(|output| match output {
            Output::Token { id, .. } => Some(*id),
            _ => None,
        });
        let tokens: Vec<u32> = request.prompt.iter().copied().chain(answer).collect();
        let Schedule { tree, pool, sessions, .. } = &mut self.schedule;
        let found = tree.find(&salt(request), &tokens);
        let partial = found.partial.map(|(page, _)| page);
        let pages: Vec<u32> = found.pages.iter().copied().chain(partial).collect();
        sessions.keep(pool, slice::from_ref(session), &pages, found.n_tokens());
    }
}

fn salt(request: &Request) -> Salt {
    Salt::new(request.cache_salt.as_deref(), request.public_tokens)
}
