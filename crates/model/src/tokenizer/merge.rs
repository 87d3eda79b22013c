//! Greedy merging, the heart of both kinds of BPE: of all adjacent pairs that make a token, the one
//! of the lowest rank is merged, the leftmost of equals first, until none is left. A heap of
//! candidates makes it O(n log n), whatever the text.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A run of bytes that is one token so far.
#[derive(Clone, Copy)]
pub(super) struct Symbol {
    /// Where it starts in its text.
    pub start: usize,
    /// Its bytes; none once it was merged into its left neighbour.
    pub len: usize,
    /// Its token, or [`NO_TOKEN`].
    pub id: u32,
    prev: usize,
    next: usize,
}

/// The id of a symbol that is no token.
pub(super) const NO_TOKEN: u32 = u32::MAX;

/// No symbol: what is before the first and behind the last.
const NO_SYMBOL: usize = usize::MAX;

/// Two neighbours that may be merged into `id`; out of date once their bytes are not `len`. The
/// order of the fields is the order in which candidates are taken.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: usize,
    right: usize,
    len: usize,
    id: u32,
}

/// Merges texts one after the other, in the same memory.
#[derive(Default)]
pub(super) struct Merger {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<Candidate>>,
}

impl Merger {
    /// Merges a text of `parts`, each a number of bytes and a token. `join` gives the rank and the
    /// token of two neighbours, if they make one.
    pub fn merge(
        &mut self,
        parts: impl Iterator<Item = (usize, u32)>,
        join: impl Fn(&Symbol, &Symbol) -> Option<(u32, u32)>,
    ) -> impl Iterator<Item = &Symbol> {
        let Self { symbols, queue } = self;
        symbols.clear();
        let mut start = 0;
        for (i, (len, id)) in parts.enumerate() {
            symbols.push(Symbol { start, len, id, prev: i.wrapping_sub(1), next: i + 1 });
            start += len;
        }
        if let Some(last) = symbols.last_mut() {
            last.next = NO_SYMBOL;
        }
        let candidate = |symbols: &[Symbol], left: usize, right: usize| {
            let (l, r) = (symbols.get(left)?, symbols.get(right)?);
            let (rank, id) = join(l, r)?;
            Some(Reverse(Candidate { rank, left, right, len: l.len + r.len, id }))
        };
        queue.extend((1..symbols.len()).filter_map(|right| candidate(symbols, right - 1, right)));
        while let Some(Reverse(Candidate { left, right, len, id, .. })) = queue.pop() {
            let (l, r) = (symbols[left], symbols[right]);
            if l.len == 0 || r.len == 0 || l.len + r.len != len {
                continue;
            }
            symbols[left] = Symbol { len, id, next: r.next, ..l };
            symbols[right].len = 0;
            if r.next != NO_SYMBOL {
                symbols[r.next].prev = left;
            }
            queue.extend(candidate(symbols, l.prev, left));
            queue.extend(candidate(symbols, left, r.next));
        }
        symbols.iter().filter(|s| s.len > 0)
    }
}
