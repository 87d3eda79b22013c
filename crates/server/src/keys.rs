//! Who may ask: keys, compared by hash and in constant time, so that neither their length nor how
//! much of one was guessed shows in the time of an answer.

use crate::errors::ApiError;
use crate::pages;
use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use subtle::{Choice, ConstantTimeEq};

/// A key's hash; `None` is everybody.
pub type Owner = Option<[u8; 32]>;

/// The keys that may ask, as hashes. Clones are the same keys.
#[derive(Clone, Default)]
pub struct Keys {
    hashes: Arc<RwLock<Vec<[u8; 32]>>>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.len())
    }
}

impl Keys {
    /// These keys; none means that anybody may ask.
    pub fn new<K: AsRef<str>>(keys: impl IntoIterator<Item = K>) -> Self {
        let known = Self::default();
        known.replace(keys);
        known
    }

    /// From now on these keys and no others, for everybody who holds a clone.
    pub fn replace<K: AsRef<str>>(&self, keys: impl IntoIterator<Item = K>) {
        let hashes = keys.into_iter().map(|key| hash(key.as_ref())).collect();
        *self.hashes.write().unwrap_or_else(PoisonError::into_inner) = hashes;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.hashes.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether anybody may ask.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks the key of a request, from `Authorization: Bearer KEY` or `X-Api-Key: KEY`. What only
    /// says that the process lives or what it can be asked needs none, nor do the pages, which ask
    /// with the reader's key.
    ///
    /// # Errors
    /// When a key is needed and missing or wrong.
    pub(crate) fn check(&self, path: &str, headers: &HeaderMap) -> Result<(), ApiError> {
        let is_open = matches!(path, "/ping" | "/version" | "/health" | "/openapi.json")
            || pages::PATHS.contains(&path)
            || path.strip_prefix("/health").is_some_and(|rest| rest.starts_with('/'));
        if is_open || self.is_empty() {
            return Ok(());
        }
        let Some(key) = given(headers) else {
            let fix = "this server needs a key: send it as `Authorization: Bearer KEY`";
            return Err(ApiError::new(StatusCode::UNAUTHORIZED, "missing_api_key", fix));
        };
        if self.have(key) {
            return Ok(());
        }
        let fix = "the key is not one of this server's; check the client's settings";
        Err(ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", fix))
    }

    /// Compares with every key, whichever fits.
    fn have(&self, key: &str) -> bool {
        let given = hash(key);
        let mut found = Choice::from(0);
        for known in self.hashes.read().unwrap_or_else(PoisonError::into_inner).iter() {
            found |= known[..].ct_eq(&given[..]);
        }
        found.into()
    }
}

/// What tells the holders of different keys apart, and says nothing of the key; empty without one.
pub fn scope(headers: &HeaderMap) -> String {
    let short = |key| hash(key)[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    given(headers).map_or_else(String::new, short)
}

/// The key that a request has.
pub fn given(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| headers.get("x-api-key")?.to_str().ok())
}

/// What is kept of a key.
pub fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn asked(keys: &[&str], path: &str, name: &'static str, value: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        Keys::new(keys).check(path, &headers).is_ok()
    }

    #[test]
    fn the_right_key_opens_and_others_do_not() {
        let keys = ["one", "two"];
        assert!(asked(&keys, "/v1/models", "authorization", "Bearer two"));
        assert!(asked(&keys, "/v1/models", "authorization", "bearer one"));
        assert!(asked(&keys, "/v1/models", "x-api-key", "one"));
        for wrong in ["Bearer on", "Bearer onee", "Bearer ", "one", "Basic one"] {
            assert!(!asked(&keys, "/v1/models", "authorization", wrong), "{wrong}");
        }
        assert!(!asked(&keys, "/metrics", "x-none", "one"));
        assert!(asked(&[], "/metrics", "x-none", "one"));
    }

    #[test]
    fn new_keys_replace_the_old_ones_for_everybody() {
        let keys = Keys::new(["one-secret"]);
        let clone = keys.clone();
        clone.replace(["two-secret", "three"]);
        assert!(!keys.have("one-secret") && keys.have("two-secret"));
        assert_eq!(format!("{keys:?}"), "2 keys");
    }

    #[test]
    fn life_signs_need_no_key() {
        for path in ["/health", "/health/live", "/health/ready", "/ping", "/version"] {
            assert!(asked(&["one"], path, "x-none", ""), "{path}");
        }
        assert!(!asked(&["one"], "/healthy", "x-none", ""));
    }
}
