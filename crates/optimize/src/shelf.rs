//! The shelf: encoded weights kept within a run, so that a search encodes each tensor once per
//! encoding however many plans it is part of.
//!
//! In: what a draft encoded. Out: the same bytes again. It holds so many bytes at most; what does
//! not fit is encoded anew each time, as without a shelf.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use sterna_formats::EncodingRef;
use sterna_model::WeightId;

/// A weight in an encoding. Rows, importance and factors need no place here: a shelf is of one
/// graph, rounded in one way.
type Key = (WeightId, &'static str);

/// Encoded weights of one source under one graph.
#[derive(Debug)]
pub struct Shelf {
    kept: Mutex<Kept>,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Kept {
    weights: HashMap<Key, Arc<[u8]>>,
    n_bytes: usize,
}

impl Shelf {
    /// An empty shelf that takes `max_bytes` at most.
    pub fn new(max_bytes: usize) -> Self {
        Self { kept: Mutex::default(), max_bytes }
    }

    /// The weight's bytes in that encoding: kept ones, else those that `encode` makes.
    pub fn get(
        &self,
        id: WeightId,
        encoding: EncodingRef,
        encode: impl FnOnce() -> Vec<u8>,
    ) -> Vec<u8> {
        let key = (id, encoding.name());
        let lock = || self.kept.lock().expect("no holder panics");
        let found = lock().weights.get(&key).cloned();
        if let Some(bytes) = found {
            return bytes.to_vec();
        }
        // Encoded outside of the lock, which takes long.
        let bytes = encode();
        let mut kept = lock();
        if kept.n_bytes + bytes.len() <= self.max_bytes
            && kept.weights.insert(key, bytes.as_slice().into()).is_none()
        {
            kept.n_bytes += bytes.len();
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use sterna_formats::encodings::by_name;

    #[test]
    fn what_fits_is_encoded_once_and_the_rest_each_time() {
        let shelf = Shelf::new(10);
        let (q8, q4) = (by_name("Q8_0").unwrap(), by_name("Q4_0").unwrap());
        let n_encoded = Cell::new(0);
        let get = |id, encoding, bytes: &[u8]| {
            let encode = || {
                n_encoded.set(n_encoded.get() + 1);
                bytes.to_vec()
            };
            assert_eq!(shelf.get(WeightId(id), encoding, encode), bytes);
        };
        for _ in 0..3 {
            get(0, q8, b"eight 8");
            get(0, q4, b"iv!");
            get(1, q8, b"no room");
        }
        assert_eq!(n_encoded.get(), 1 + 1 + 3);
    }
}
