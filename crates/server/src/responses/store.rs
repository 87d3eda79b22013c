//! The responses that are kept, each for the key that asked for it: in memory, so many and so many
//! bytes. What was not used for longest makes room.
//!
//! A response knows the one that it continues, not the texts before its own, so that a conversation
//! takes as many bytes as were said in it. Using one uses all that it continues.

use crate::errors::ApiError;
use crate::keys::Owner;
use crate::running::Canceller;
use axum::http::StatusCode;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A response that is kept.
pub struct Kept {
    /// Whose it is.
    pub owner: Owner,
    /// As clients see it.
    pub shown: Value,
    /// What it adds to the conversation.
    pub messages: Vec<Value>,
    /// The response that it continues.
    pub previous: Option<String>,
    /// Ends it, while it is being made.
    pub canceller: Option<Canceller>,
}

impl Kept {
    fn n_bytes(&self) -> usize {
        let messages = self.messages.iter().map(|message| message.to_string().len());
        self.shown.to_string().len() + messages.sum::<usize>()
    }
}

/// All that are kept.
pub struct Store {
    most: usize,
    most_bytes: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// With the time of its last use and its bytes.
    kept: HashMap<String, (Kept, u64, usize)>,
    /// By the time of last use.
    order: BTreeMap<u64, String>,
    clock: u64,
    n_bytes: usize,
}

impl Store {
    /// An empty one with room for so many.
    pub fn new(most: usize, most_bytes: usize) -> Self {
        Self { most, most_bytes, inner: Mutex::default() }
    }

    /// Keeps a response, in place of the one of this id; `false` where it is larger than all the
    /// room there is.
    pub fn put(&self, id: &str, kept: Kept) -> bool {
        self.put_into(&mut self.lock(), id, kept)
    }

    fn put_into(&self, inner: &mut Inner, id: &str, kept: Kept) -> bool {
        let n_bytes = kept.n_bytes();
        inner.remove(id);
        if n_bytes > self.most_bytes || self.most == 0 {
            return false;
        }
        while inner.kept.len() >= self.most || inner.n_bytes + n_bytes > self.most_bytes {
            let Some(oldest) = inner.order.values().next().cloned() else { break };
            inner.remove(&oldest);
        }
        inner.clock += 1;
        let now = inner.clock;
        inner.n_bytes += n_bytes;
        inner.order.insert(now, id.to_owned());
        inner.kept.insert(id.to_owned(), (kept, now, n_bytes));
        true
    }

    /// The same for a response that was kept before; `false` where it is no more.
    pub fn replace(&self, id: &str, kept: Kept) -> bool {
        let mut inner = self.lock();
        inner.kept.contains_key(id) && self.put_into(&mut inner, id, kept)
    }

    /// A response as clients see it.
    ///
    /// # Errors
    /// When there is none of this id for this owner.
    pub fn get(&self, owner: Owner, id: &str) -> Result<Value, ApiError> {
        let mut inner = self.lock();
        inner.used(owner, id).map(|kept| kept.shown.clone()).ok_or_else(|| missing(id))
    }

    /// Forgets a response.
    ///
    /// # Errors
    /// When there is none of this id for this owner.
    pub fn delete(&self, owner: Owner, id: &str) -> Result<(), ApiError> {
        let mut inner = self.lock();
        inner.used(owner, id).ok_or_else(|| missing(id))?;
        inner.remove(id);
        Ok(())
    }

    /// Ends a response that is being made.
    ///
    /// # Errors
    /// When there is none of this id for this owner, or it has ended.
    pub fn cancel(&self, owner: Owner, id: &str) -> Result<Value, ApiError> {
        let mut inner = self.lock();
        let kept = inner.used(owner, id).ok_or_else(|| missing(id))?;
        let Some(canceller) = kept.canceller.take() else {
            let message = format!("response `{id}` has ended, it is {}", kept.shown["status"]);
            let status = StatusCode::BAD_REQUEST;
            return Err(ApiError::new(status, "response_ended", message).about("response_id"));
        };
        canceller.cancel();
        kept.shown["status"] = "cancelled".into();
        Ok(kept.shown.clone())
    }

    /// The messages of a response and of all that it continues, the first ones first.
    ///
    /// # Errors
    /// When one of them is not there any more, or is still being made.
    pub fn turns(&self, owner: Owner, id: &str) -> Result<Vec<Value>, ApiError> {
        let mut inner = self.lock();
        let (mut turns, mut next) = (Vec::new(), Some(id.to_owned()));
        while let Some(at) = next {
            let kept = inner
                .used(owner, &at)
                .ok_or_else(|| if at == id { missing(id) } else { broken(id, &at) });
            let kept = kept.map_err(|error| error.about("previous_response_id"))?;
            if kept.canceller.is_some() {
                let message = format!("response `{at}` has not ended; wait for it, or cancel it");
                return Err(ApiError::invalid("previous_response_id", message));
            }
            turns.push(kept.messages.clone());
            next = kept.previous.clone();
        }
        turns.reverse();
        Ok(turns.concat())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// A response of this owner, which is noted as used.
    fn used(&mut self, owner: Owner, id: &str) -> Option<&mut Kept> {
        let (kept, at, _) = self.kept.get_mut(id).filter(|(kept, ..)| kept.owner == owner)?;
        self.clock += 1;
        self.order.remove(at);
        self.order.insert(self.clock, id.to_owned());
        *at = self.clock;
        Some(kept)
    }

    fn remove(&mut self, id: &str) {
        if let Some((_, at, n_bytes)) = self.kept.remove(id) {
            self.order.remove(&at);
            self.n_bytes -= n_bytes;
        }
    }
}

fn missing(id: &str) -> ApiError {
    let message = format!(
        "there is no response `{id}` here; this server keeps those of `store: true` in memory, for \
         the key that asked, until newer ones need their room"
    );
    ApiError::new(StatusCode::NOT_FOUND, "response_not_found", message).about("response_id")
}

fn broken(id: &str, at: &str) -> ApiError {
    let message = format!(
        "response `{id}` continues `{at}`, which is not here any more; send the conversation as \
         `input`"
    );
    ApiError::new(StatusCode::NOT_FOUND, "response_not_found", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ME: Owner = Some([1; 32]);

    fn kept(text: &str, previous: Option<&str>) -> Kept {
        let previous = previous.map(str::to_owned);
        let (shown, messages) = (json!({ "status": "completed" }), vec![json!(text)]);
        Kept { owner: ME, shown, messages, previous, canceller: None }
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let store = Store::new(3, 1 << 20);
        assert!(store.put("a", kept("a", None)));
        assert!(store.put("b", kept("b", Some("a"))));
        assert!(store.put("x", kept("x", None)));
        assert_eq!(store.turns(ME, "b").unwrap(), [json!("a"), json!("b")]);
        assert!(store.put("c", kept("c", Some("b"))));
        assert!(store.get(ME, "x").is_err(), "a and b were used later");
        assert_eq!(store.turns(ME, "c").unwrap(), [json!("a"), json!("b"), json!("c")]);
        store.delete(ME, "a").unwrap();
        let error = store.turns(ME, "c").unwrap_err();
        assert!(error.message().contains("continues `a`"), "{error:?}");
        assert_eq!(error.param(), Some("previous_response_id"));
    }

    #[test]
    fn bytes_are_bounded_and_come_back() {
        let one = kept("a", None).n_bytes();
        let store = Store::new(100, 2 * one);
        for id in ["a", "b", "c"] {
            assert!(store.put(id, kept("a", None)));
        }
        assert_eq!(store.lock().n_bytes, 2 * one);
        assert!(store.get(ME, "a").is_err() && store.get(ME, "c").is_ok());
        assert!(!store.put("d", kept(&"d".repeat(2 * one), None)), "it never fits");
        assert!(store.get(ME, "c").is_ok(), "and takes nothing with it");
        assert!(store.replace("b", kept("b", None)) && !store.replace("z", kept("z", None)));
        for id in ["b", "c"] {
            store.delete(ME, id).unwrap();
        }
        assert_eq!(store.lock().n_bytes, 0);
        assert!(store.lock().order.is_empty());
    }

    #[test]
    fn a_response_is_there_for_its_key_only() {
        let store = Store::new(9, 1 << 20);
        store.put("a", kept("a", None));
        for other in [None, Some([2; 32])] {
            assert!(store.get(other, "a").is_err());
            assert!(store.turns(other, "a").is_err());
            assert!(store.cancel(other, "a").is_err());
            assert!(store.delete(other, "a").is_err());
        }
        assert!(store.get(ME, "a").is_ok());
    }
}
