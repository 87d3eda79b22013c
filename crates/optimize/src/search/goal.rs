//! What is wanted of a plan: caps, and what is to be least within them.
//!
//! In: a budget's caps as they concern grouped tensors. Out: whether a measured plan keeps them,
//! which of two is better, and along which [`Axis`] combinations are laid out for the knapsack.

use super::{Candidate, Trial};

/// What is to be least among the plans that keep the caps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Least {
    /// The divergence.
    Divergence,
    /// The bytes of grouped tensors.
    Bytes,
    /// The time of a generated token.
    Time,
}

impl Least {
    /// For people: `then the ...`.
    pub fn words(self) -> &'static str {
        match self {
            Least::Divergence => "least divergence",
            Least::Bytes => "fewest bytes",
            Least::Time => "least time per token",
        }
    }
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Goal {
    /// Bytes of grouped tensors at most.
    pub max_bytes: Option<u64>,
    /// Nanoseconds that grouped tensors may take of a generated token, by measured costs.
    pub max_nanos: Option<f64>,
    /// Upper end of the drop's interval at most, percent.
    pub max_drop_percent: Option<f64>,
    /// Among these.
    pub least: Least,
}

impl Goal {
    /// Whether the caps that follow from the choice alone are kept.
    pub fn has_room(&self, bytes: u64, nanos: f64) -> bool {
        self.max_bytes.is_none_or(|max| bytes <= max)
            && self.max_nanos.is_none_or(|max| nanos <= max)
    }

    /// Whether a measured plan keeps all caps.
    pub fn is_met(&self, trial: &Trial) -> bool {
        let drop = trial.loss.drop_percent_high;
        self.has_room(trial.bytes, trial.nanos)
            && self.max_drop_percent.is_none_or(|max| drop <= max)
    }

    /// Less is better, among plans that keep the caps.
    pub fn price(&self, trial: &Trial) -> f64 {
        match self.least {
            Least::Divergence => trial.loss.kl,
            Least::Bytes => trial.bytes as f64,
            Least::Time => trial.nanos,
        }
    }

    /// By how much a plan misses the caps, in sum of shares.
    pub fn excess(&self, trial: &Trial) -> f64 {
        let over =
            |value: f64, max: Option<f64>| max.map_or(0.0, |max| (value / max - 1.0).max(0.0));
        over(trial.bytes as f64, self.max_bytes.map(|max| max as f64))
            + over(trial.nanos, self.max_nanos)
            + over(trial.loss.drop_percent_high, self.max_drop_percent)
    }

    /// The drop that ends the way along an axis, where quality is a cap and not the aim.
    pub fn drop_limit(&self) -> Option<f64> {
        self.max_drop_percent.filter(|_| self.least != Least::Divergence)
    }

    /// The axes along which to look for plans, where the unchanged one takes so many bytes and
    /// nanoseconds: one, unless bytes and time both matter. Then it is five mixtures of the two
    /// (the surrogate relaxation of a knapsack with two limits, Glover 1968).
    pub fn axes(&self, bytes: u64, nanos: f64) -> Vec<Axis> {
        let is_timed = self.max_nanos.is_some() || self.least == Least::Time;
        let is_sized = self.max_bytes.is_some() || self.least == Least::Bytes;
        if !is_timed {
            return vec![Axis { per_byte: 1.0, per_nano: 0.0 }];
        }
        if !is_sized {
            return vec![Axis { per_byte: 0.0, per_nano: 1.0 }];
        }
        let of_bytes = PARTS / self.max_bytes.unwrap_or(bytes).max(1) as f64;
        let of_nanos = PARTS / self.max_nanos.unwrap_or(nanos).max(1.0);
        let mixture =
            |share: f64| Axis { per_byte: of_bytes * share, per_nano: of_nanos * (1.0 - share) };
        [0.0, 0.25, 0.5, 0.75, 1.0].map(mixture).to_vec()
    }
}

/// Parts of a cap that mixtures of bytes and time are counted in.
const PARTS: f64 = 1e9;

/// What combinations are laid out along: bytes, nanoseconds, or a mixture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    per_byte: f64,
    per_nano: f64,
}

impl Axis {
    /// How much of it a candidate takes.
    pub fn size(&self, candidate: &Candidate) -> u64 {
        let size = candidate.bytes as f64 * self.per_byte + candidate.nanos * self.per_nano;
        size.round() as u64
    }

    /// What it is counted in.
    pub fn unit(&self) -> &'static str {
        match (self.per_byte, self.per_nano) {
            (_, 0.0) if self.per_byte == 1.0 => "bytes",
            (0.0, _) if self.per_nano == 1.0 => "nanoseconds",
            _ => "billionths of the caps",
        }
    }

    /// The goal's cap on it, where it is that of one cap alone.
    pub fn limit(&self, goal: &Goal) -> Option<u64> {
        match self.unit() {
            "bytes" => goal.max_bytes.filter(|_| goal.max_nanos.is_none()),
            "nanoseconds" => goal.max_nanos.map(|max| max as u64),
            _ => None,
        }
    }
}
