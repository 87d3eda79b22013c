//! Whose pages are whose: with a salt, a sequence's pages are found by sequences of the same salt
//! only; those of its first tokens may still be everybody's.
//!
//! So a system prompt that all tenants have is computed once for all of them, while how fast an
//! answer comes tells nobody what another tenant has sent.

use sterna_runtime::settings::PAGE_LEN;

/// Words of a salt's hash.
const N_HASH: usize = 8;

/// Whose the pages of a sequence are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt {
    /// 1 and the salt's BLAKE3 hash, so that clients choose neither the length nor the order of
    /// keys.
    private: Option<[u32; 1 + N_HASH]>,
    /// Whole pages at the beginning that are everybody's.
    n_public: usize,
}

impl Salt {
    /// Of a sequence whose first `public_tokens` are no secret; without a salt nothing is one.
    pub fn new(salt: Option<&str>, public_tokens: usize) -> Self {
        let private = salt.map(|salt| {
            let hash = blake3::hash(salt.as_bytes());
            let mut words = [1; 1 + N_HASH];
            for (word, bytes) in words[1..].iter_mut().zip(hash.as_bytes().chunks_exact(4)) {
                *word = u32::from_le_bytes(bytes.try_into().expect("chunks have four bytes"));
            }
            words
        });
        let n_public = if private.is_some() { public_tokens / PAGE_LEN } else { 0 };
        Self { private, n_public }
    }

    /// What the prefix tree's key of a sequence's page begins with. Heads of different owners
    /// differ in their first words, so none is the beginning of another.
    pub fn head(&self, page: usize) -> &[u32] {
        match &self.private {
            Some(private) if page >= self.n_public => private,
            _ => &[0],
        }
    }

    /// Pages at the beginning that are everybody's.
    pub fn n_public(&self) -> usize {
        if self.private.is_some() { self.n_public } else { usize::MAX }
    }

    /// How many of the first tokens that two sequences have in common are in pages that both find.
    pub fn shared(&self, other: &Self, n_common: usize) -> usize {
        if self == other {
            return n_common;
        }
        let public = |salt: &Self| salt.n_public().saturating_mul(PAGE_LEN);
        n_common.min(public(self)).min(public(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_private_from_the_first_that_is_not_all_public() {
        let salt = Salt::new(Some("a"), 2 * PAGE_LEN + 3);
        let open = Salt::new(None, 0);
        assert_eq!((salt.head(0), salt.head(1)), (open.head(0), open.head(9)));
        assert_eq!(salt.head(2), Salt::new(Some("a"), 0).head(0));
        assert_ne!(salt.head(2), Salt::new(Some("b"), 0).head(2));
        assert_eq!(salt.shared(&open, 100), 2 * PAGE_LEN);
        assert_eq!(salt.shared(&salt, 100), 100);
        assert_eq!(open.shared(&open, 100), 100);
        assert_eq!(salt.shared(&Salt::new(Some("b"), 64), 100), 2 * PAGE_LEN);
        assert_eq!(salt.shared(&Salt::new(Some("a"), 0), 100), 0);
    }
}
