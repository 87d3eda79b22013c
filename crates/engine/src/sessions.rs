//! Sessions: conversations whose pages stay until others need the room, by names that clients give.
//!
//! A session holds the pages of the last request that named it. A fork is another name for the same
//! pages, so that many ways to go on cost nothing before they part. Pages are found through the
//! prefix tree as always; a session only keeps them from being let go.

use crate::pages::PagePool;
use std::collections::BTreeMap;
use std::sync::Arc;
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

/// Sessions at most: each is a name, and perhaps a list of pages.
pub const MOST: usize = 4096;

/// Pages that one or more sessions hold.
type Pages = Arc<[u32]>;

#[derive(Clone, Debug)]
struct Session {
    pages: Pages,
    n_tokens: usize,
    used: u64,
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    sessions: BTreeMap<String, Session>,
    /// The least recently used first.
    order: BTreeMap<u64, String>,
    /// Lists that hold each page. A fork has its parent's list, which holds its pages once.
    held: BTreeMap<u32, u32>,
    uses: u64,
}

impl Sessions {
    /// Holds the pages of a sequence that the sessions of these names have computed, instead of
    /// those that they held.
    pub fn keep(&mut self, pool: &mut PagePool, names: &[String], pages: &[u32], n_tokens: usize) {
        if names.is_empty() {
            return;
        }
        for &page in pages {
            pool.share(page);
            *self.held.entry(page).or_default() += 1;
        }
        let pages = Pages::from(pages);
        for name in names {
            self.end(pool, name);
            if self.sessions.len() >= MOST {
                self.drop_oldest(pool);
            }
            self.add(name, pages.clone(), n_tokens);
        }
        // Where there are more names than sessions may be, some of them are gone again.
        self.release(pool, pages);
    }

    /// Another name for a session's pages; how many tokens they hold.
    ///
    /// # Errors
    /// When there is no such session, the new name is taken, or there are too many.
    pub fn fork(&mut self, name: &str, child: &str) -> Result<usize, SessionError> {
        if self.sessions.contains_key(child) {
            return Err(SessionError::Exists(child.to_owned()));
        }
        if self.sessions.len() >= MOST {
            return Err(SessionError::TooMany(MOST));
        }
        let parent = self.sessions.remove(name);
        let parent = parent.ok_or_else(|| SessionError::Unknown(name.to_owned()))?;
        self.order.remove(&parent.used);
        for name in [name, child] {
            self.add(name, parent.pages.clone(), parent.n_tokens);
        }
        Ok(parent.n_tokens)
    }

    fn add(&mut self, name: &str, pages: Pages, n_tokens: usize) {
        self.uses += 1;
        let session = Session { pages, n_tokens, used: self.uses };
        self.order.insert(session.used, name.to_owned());
        self.sessions.insert(name.to_owned(), session);
    }

    /// Lets a session go; whether there was one.
    pub fn end(&mut self, pool: &mut PagePool, name: &str) -> bool {
        let Some(session) = self.sessions.remove(name) else { return false };
        self.order.remove(&session.used);
        self.release(pool, session.pages);
        true
    }

    /// Lets the least recently used go; whether there was one.
    pub fn drop_oldest(&mut self, pool: &mut PagePool) -> bool {
        let oldest = self.order.first_key_value().map(|(_, name)| name.clone());
        oldest.is_some_and(|name| self.end(pool, &name))
    }

    /// Pages that nobody but sessions and the tree holds, without those of `kept`: so many are free
    /// or cached once all sessions are gone.
    pub fn n_droppable(&self, pool: &PagePool, kept: &[u32]) -> usize {
        let is_ours = |&(&page, &n): &(&u32, &u32)| pool.holders_beside_tree(page) == n;
        let n_ours = self.held.iter().filter(is_ours).count();
        let kept = kept.iter().filter_map(|page| self.held.get_key_value(page));
        n_ours - kept.filter(is_ours).count()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Pages, and how many times each is held.
    pub fn pages(&self) -> impl Iterator<Item = (u32, u32)> {
        self.held.iter().map(|(&page, &n)| (page, n))
    }

    /// Lets a list of pages go with the last session that has it.
    fn release(&mut self, pool: &mut PagePool, pages: Pages) {
        if Arc::strong_count(&pages) > 1 {
            return;
        }
        // The last first, so that the first ones are the first to be taken again.
        for &page in pages.iter().rev() {
            pool.release(page);
            let n = self.held.get_mut(&page).expect("each list was counted");
            *n -= 1;
            if *n == 0 {
                self.held.remove(&page);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves B32
    #[test]
    fn forks_hold_the_same_pages_until_the_last_of_them_ends() {
        let (mut pool, mut sessions) = (PagePool::new(8), Sessions::default());
        let pages: Vec<u32> = (0..3).map(|_| pool.take().unwrap()).collect();
        sessions.keep(&mut pool, &["a".into()], &pages, 40);
        pages.iter().for_each(|&page| pool.release(page));
        for child in 0..8 {
            assert_eq!(sessions.fork("a", &format!("a-{child}")), Ok(40));
        }
        assert_eq!((pool.n_free(), sessions.len()), (5, 9));
        let exists = sessions.fork("a", "a-1");
        assert_eq!(exists, Err(SessionError::Exists("a-1".into())));
        let unknown = sessions.fork("b", "c").unwrap_err();
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
        sessions.keep(&mut pool, &["a".into()], &[first], 10);
        let second = pool.take().unwrap();
        sessions.keep(&mut pool, &["a".into()], &[first, second], 20);
        [first, second].into_iter().for_each(|page| pool.release(page));
        assert_eq!((pool.n_free(), sessions.pages().count()), (2, 2));
    }
}
