//! What is wanted of a plan: caps, and what is to be least within them.
//!
//! In: a budget's caps as they concern grouped tensors. Out: whether a measured plan keeps them,
//! which of two is better, and along which [`Axis`] combinations are laid out for the knapsack.

use super::{Candidate, Load, Trial};

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
    /// Bytes of memory that grouped tensors may take.
    pub max_resident: Option<u64>,
    /// Upper end of the drop's interval at most, percent.
    pub max_drop_percent: Option<f64>,
    /// Among these.
    pub least: Least,
}

impl Goal {
    /// Whether the caps that follow from the choice alone are kept.
    pub fn has_room(&self, takes: Load) -> bool {
        self.max_bytes.is_none_or(|max| takes.bytes <= max)
            && self.max_nanos.is_none_or(|max| takes.nanos <= max)
            && self.max_resident.is_none_or(|max| takes.resident <= max)
    }

    /// Whether a measured plan keeps all caps.
    pub fn is_met(&self, trial: &Trial) -> bool {
        let drop = trial.loss.drop_percent_high;
        self.has_room(trial.takes) && self.max_drop_percent.is_none_or(|max| drop <= max)
    }

    /// Less is better, among plans that keep the caps.
    pub fn price(&self, trial: &Trial) -> f64 {
        match self.least {
            Least::Divergence => trial.loss.kl,
            Least::Bytes => trial.takes.bytes as f64,
            Least::Time => trial.takes.nanos,
        }
    }

    /// By how much a plan misses the caps, in sum of shares.
    pub fn excess(&self, trial: &Trial) -> f64 {
        let over =
            |value: f64, max: Option<f64>| max.map_or(0.0, |max| (value / max - 1.0).max(0.0));
        over(trial.takes.bytes as f64, self.max_bytes.map(|max| max as f64))
            + over(trial.takes.nanos, self.max_nanos)
            + over(trial.takes.resident as f64, self.max_resident.map(|max| max as f64))
            + over(trial.loss.drop_percent_high, self.max_drop_percent)
    }

    /// The drop that ends the way along an axis, where quality is a cap and not the aim.
    pub fn drop_limit(&self) -> Option<f64> {
        self.max_drop_percent.filter(|_| self.least != Least::Divergence)
    }

    /// The axes along which to look for plans, where the unchanged one takes so much: one, unless
    /// several of bytes, time and memory matter. Then it is mixtures of each two and of all (the
    /// surrogate relaxation of a knapsack with several limits, Glover 1968).
    pub fn axes(&self, unchanged: Load) -> Vec<Axis> {
        let is_timed = self.max_nanos.is_some() || self.least == Least::Time;
        let is_resident = self.max_resident.is_some();
        let is_sized = self.max_bytes.is_some() || self.least == Least::Bytes;
        let Load { bytes, nanos, resident } = unchanged;
        let of_bytes = PARTS / self.max_bytes.unwrap_or(bytes).max(1) as f64;
        let of_nanos = PARTS / self.max_nanos.unwrap_or(nanos).max(1.0);
        let of_resident = PARTS / self.max_resident.unwrap_or(resident).max(1) as f64;
        let alone = Axis { per_byte: 0.0, per_nano: 0.0, per_resident: 0.0 };
        let mixture = |[bytes, nanos, resident]: [f64; 3]| Axis {
            per_byte: of_bytes * bytes,
            per_nano: of_nanos * nanos,
            per_resident: of_resident * resident,
        };
        // In steps of which both ends are one of the two alone.
        let two = |mix: fn(f64) -> [f64; 3]| [0.0, 0.25, 0.5, 0.75, 1.0].map(mix).map(mixture);
        match (is_sized, is_timed, is_resident) {
            (_, false, false) => vec![Axis { per_byte: 1.0, ..alone }],
            (false, true, false) => vec![Axis { per_nano: 1.0, ..alone }],
            (false, false, true) => vec![Axis { per_resident: 1.0, ..alone }],
            (true, true, false) => two(|share| [share, 1.0 - share, 0.0]).to_vec(),
            (true, false, true) => two(|share| [share, 0.0, 1.0 - share]).to_vec(),
            (false, true, true) => two(|share| [0.0, share, 1.0 - share]).to_vec(),
            (true, true, true) => THREE.map(mixture).to_vec(),
        }
    }
}

/// Mixtures of three: each alone, each two, and all in the middle.
const THREE: [[f64; 3]; 7] = [
    [1.0, 0.0, 0.0],
    [0.0, 1.0, 0.0],
    [0.5, 0.5, 0.0],
    [0.33, 0.33, 0.34],
    [0.5, 0.0, 0.5],
    [0.0, 0.5, 0.5],
    [0.0, 0.0, 1.0],
];

/// Parts of a cap that mixtures of bytes and time are counted in.
const PARTS: f64 = 1e9;

/// What combinations are laid out along: bytes, nanoseconds, or a mixture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    per_byte: f64,
    per_nano: f64,
    per_resident: f64,
}

impl Axis {
    /// How much of it a candidate takes.
    pub fn size(&self, candidate: &Candidate) -> u64 {
        let Load { bytes, nanos, resident } = candidate.takes;
        let size = bytes as f64 * self.per_byte + nanos * self.per_nano;
        (size + resident as f64 * self.per_resident).round() as u64
    }

    /// What it is counted in.
    pub fn unit(&self) -> &'static str {
        match (self.per_byte, self.per_nano, self.per_resident) {
            (1.0, 0.0, 0.0) => "bytes",
            (0.0, 1.0, 0.0) => "nanoseconds",
            (0.0, 0.0, 1.0) => "bytes of memory",
            _ => "billionths of the caps",
        }
    }

    /// The goal's cap on it, where it is that of one cap alone.
    pub fn limit(&self, goal: &Goal) -> Option<u64> {
        match self.unit() {
            "bytes" => goal.max_bytes,
            "nanoseconds" => goal.max_nanos.map(|max| max as u64),
            "bytes of memory" => goal.max_resident,
            _ => None,
        }
    }
}
