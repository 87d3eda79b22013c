//! Sessions: conversations whose pages stay until others need the room, by names that clients give.
//!
//! A session holds the pages of the last request that named it. A fork is another name for the same
//! pages, so that many ways to go on cost nothing before they part. Pages are found through the
//! prefix tree as always; a session only keeps them from being let go.

use crate::pages::PagePool;
use std::collections::BTreeMap;
use thiserror::Error;

/// A session that cannot be forked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SessionError {
    /// There is none of that name.
    #[error(
        "there is no session `{0}`: a request with that session_id makes one, and it ends when \
         its memory is needed for others"
    )]
    Unknown(String),
    /// There is one of the new name already.
    #[error("there is a session `{0}` already; give the fork another name, or delete that one")]
    Exists(String),
    /// There are as many as there may be.
    #[error("there are {0} sessions, as many as there may be; delete some")]
    TooMany(usize),
}

/// Sessions at most: each is a name and a list of pages.
pub const MOST: usize = 100_000;

#[derive(Clone, Debug)]
struct Session {
    pages: Vec<u32>,
    n_tokens: usize,
    used: u64,
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    sessions: BTreeMap<String, Session>,
    uses: u64,
}

impl Sessions {
    /// Holds the pages of a sequence that the session named `name` has computed, instead of those
    /// that it held.
    pub fn keep(&mut self, pool: &mut PagePool, name: &str, pages: &[u32], n_tokens: usize) {
        if self.sessions.len() >= MOST && !self.sessions.contains_key(name) {
            self.drop_oldest(pool);
        }
        pages.iter().for_each(|&page| pool.share(page));
        self.uses += 1;
        let session = Session { pages: pages.to_vec(), n_tokens, used: self.uses };
        let before = self.sessions.insert(name.to_owned(), session);
        release(pool, before.map_or(Vec::new(), |session| session.pages));
    }

    /// Another name for a session's pages; how many tokens they hold.
    ///
    /// # Errors
    /// When there is no such session, the new name is taken, or there are too many.
    pub fn fork(
        &mut self,
        pool: &mut PagePool,
        name: &str,
        child: &str,
    ) -> Result<usize, SessionError> {
        if self.sessions.contains_key(child) {
            return Err(SessionError::Exists(child.to_owned()));
        }
        if self.sessions.len() >= MOST {
            return Err(SessionError::TooMany(MOST));
        }
        self.uses += 1;
        let uses = self.uses;
        let parent = self.sessions.get_mut(name);
        let parent = parent.ok_or_else(|| SessionError::Unknown(name.to_owned()))?;
        parent.used = uses;
        let forked = parent.clone();
        forked.pages.iter().for_each(|&page| pool.share(page));
        let n_tokens = forked.n_tokens;
        self.sessions.insert(child.to_owned(), forked);
        Ok(n_tokens)
    }

    /// Lets a session go; whether there was one.
    pub fn end(&mut self, pool: &mut PagePool, name: &str) -> bool {
        let session = self.sessions.remove(name);
        let was_there = session.is_some();
        release(pool, session.map_or(Vec::new(), |session| session.pages));
        was_there
    }

    /// Lets the least recently used go; whether there was one.
    pub fn drop_oldest(&mut self, pool: &mut PagePool) -> bool {
        let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used);
        let name = oldest.map(|(name, _)| name.clone());
        name.is_some_and(|name| self.end(pool, &name))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Pages, once for each session that holds them.
    pub fn pages(&self) -> impl Iterator<Item = u32> {
        self.sessions.values().flat_map(|session| session.pages.iter().copied())
    }
}

fn release(pool: &mut PagePool, pages: Vec<u32>) {
    // The last first, so that the first ones are the first to be taken again.
    pages.into_iter().rev().for_each(|page| pool.release(page));
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves B32
    #[test]
    fn forks_hold_the_same_pages_until_the_last_of_them_ends() {
        let (mut pool, mut sessions) = (PagePool::new(8), Sessions::default());
        let pages: Vec<u32> = (0..3).map(|_| pool.take().unwrap()).collect();
        sessions.keep(&mut pool, "a", &pages, 40);
        pages.iter().for_each(|&page| pool.release(page));
        for child in 0..8 {
            assert_eq!(sessions.fork(&mut pool, "a", &format!("a-{child}")), Ok(40));
        }
        assert_eq!((pool.n_free(), sessions.len()), (5, 9));
        let exists = sessions.fork(&mut pool, "a", "a-1");
        assert_eq!(exists, Err(SessionError::Exists("a-1".into())));
        let unknown = sessions.fork(&mut pool, "b", "c").unwrap_err();
        assert!(unknown.to_string().contains("no session `b`"));
        assert!(sessions.end(&mut pool, "a") && !sessions.end(&mut pool, "a"));
        for _ in 0..8 {
            assert_eq!(pool.n_free(), 5);
            assert!(sessions.drop_oldest(&mut pool));
        }
        assert_eq!((pool.n_free(), sessions.is_empty()), (8, true));
        assert!(!sessions.drop_oldest(&mut pool));
    }

    #[test]
    fn a_session_that_goes_on_holds_its_newest_pages() {
        let (mut pool, mut sessions) = (PagePool::new(4), Sessions::default());
        let first = pool.take().unwrap();
        sessions.keep(&mut pool, "a", &[first], 10);
        let second = pool.take().unwrap();
        sessions.keep(&mut pool, "a", &[first, second], 20);
        [first, second].into_iter().for_each(|page| pool.release(page));
        assert_eq!((pool.n_free(), sessions.pages().count()), (2, 2));
    }
}
