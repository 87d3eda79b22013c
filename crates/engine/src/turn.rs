//! Whose turn it is: the order in which sequences are served and give way.

use crate::fairness::rank;
use crate::request::Class;
use crate::sequence::Sequence;
use std::cmp::Ordering;
use std::time::Duration;

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// As many are in work as may be.
    Places,
    /// As many generate as steps are in time with.
    Pace,
    /// There are no pages for the next tokens.
    Pages,
}

/// Where a sequence stands in line, the first first: its rank after waiting, and the order of
/// arrival. Who has waited long enough is as good as who is urgent, and gives way to nobody.
pub type Place = (usize, u64);

/// When a sequence is served.
pub struct Turn {
    /// Its urgency after waiting, 0 first.
    pub rank: usize,
    /// Whether its next rows are a prompt's.
    pub is_prompt: bool,
    /// What its agent was served.
    pub rows: f64,
    /// Its urgency as it was asked for.
    pub class: Class,
    /// Its order of arrival.
    pub key: u64,
}

impl Turn {
    /// Whether it is more urgent than another, so that the other gives way.
    pub fn is_before(&self, (rank, _): Place) -> bool {
        self.rank < rank
    }
}

/// Who of two is served first.
pub fn earlier(a: &Turn, b: &Turn) -> Ordering {
    let first = (a.rank, a.is_prompt).cmp(&(b.rank, b.is_prompt));
    let last = (a.class, a.key).cmp(&(b.class, b.key));
    first.then(a.rows.total_cmp(&b.rows)).then(last)
}

/// Where a sequence stands now.
pub fn place(sequence: &Sequence, now: Duration) -> Place {
    let waited = now.saturating_sub(sequence.arrived());
    (rank(sequence.class(), waited), sequence.key)
}

/// Whether a sequence may stand back for somebody interactive: it has not waited long.
pub fn is_patient(sequence: &Sequence, now: Duration) -> bool {
    sequence.class() == Class::Batch && place(sequence, now).0 > 0
}
