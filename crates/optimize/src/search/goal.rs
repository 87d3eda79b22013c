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
    /// Nanoseconds that they may take of a prompt.
    pub max_prompt_nanos: Option<f64>,
    /// Bytes of memory that they may take.
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
            && self.max_prompt_nanos.is_none_or(|max| takes.prompt_nanos <= max)
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
            + over(trial.takes.prompt_nanos, self.max_prompt_nanos)
            + over(trial.takes.resident as f64, self.max_resident.map(|max| max as f64))
            + over(trial.loss.drop_percent_high, self.max_drop_percent)
    }

    /// The drop that ends the way along an axis, where quality is a cap and not the aim.
    pub fn drop_limit(&self) -> Option<f64> {
        self.max_drop_percent.filter(|_| self.least != Least::Divergence)
    }

    /// The axes along which to look for plans, where the unchanged one takes so much: one, unless
    /// several of bytes, times and memory matter. Then it is mixtures of each two, and of all (the
    /// surrogate relaxation of a knapsack with several limits, Glover 1968).
    pub fn axes(&self, unchanged: Load) -> Vec<Axis> {
        let cap = |max: Option<u64>, matters: bool, all: u64| {
            (max.is_some() || matters).then(|| max.unwrap_or(all).max(1) as f64)
        };
        let time = |max: Option<f64>, matters: bool, all: f64| {
            (max.is_some() || matters).then(|| max.unwrap_or(all).max(1.0))
        };
        let caps = [
            cap(self.max_bytes, self.least == Least::Bytes, unchanged.bytes),
            time(self.max_nanos, self.least == Least::Time, unchanged.nanos),
            time(self.max_prompt_nanos, false, unchanged.prompt_nanos),
            cap(self.max_resident, false, unchanged.resident),
        ];
        let binding: Vec<usize> = (0..caps.len()).filter(|&r| caps[r].is_some()).collect();
        let mixture = |shares: &[(usize, f64)]| {
            let mut per = [0.0; 4];
            for &(resource, share) in shares {
                per[resource] = share * PARTS / caps[resource].expect("it binds");
            }
            Axis { per, alone: None }
        };
        let alone = |resource: usize| {
            let mut per = [0.0; 4];
            per[resource] = 1.0;
            Axis { per, alone: Some(resource) }
        };
        let between = |a: usize, b: usize, share: f64| mixture(&[(a, share), (b, 1.0 - share)]);
        match binding[..] {
            [] => vec![alone(BYTES)],
            [one] => vec![alone(one)],
            [a, b] => [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| between(a, b, share)).to_vec(),
            _ => {
                let ends = binding.iter().map(|&one| mixture(&[(one, 1.0)]));
                let each: Vec<(usize, f64)> = binding.iter().map(|&one| (one, 0.5)).collect();
                let pairs = binding.iter().enumerate().flat_map(|(index, &a)| {
                    binding[index + 1..].iter().map(move |&b| between(a, b, 0.5))
                });
                // The middle one is all of them: reports compare strategies along it.
                let mut axes: Vec<Axis> = ends.chain(pairs).collect();
                axes.insert(axes.len() / 2, mixture(&each));
                axes
            }
        }
    }
}

/// Parts of a cap that mixtures are counted in.
const PARTS: f64 = 1e9;
/// The place of bytes among what plans take.
const BYTES: usize = 0;

/// What combinations are laid out along: bytes, a time, memory, or a mixture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    /// Of a byte, a nanosecond of a token, one of a prompt, a byte of memory.
    per: [f64; 4],
    /// Which of them, where it is one.
    alone: Option<usize>,
}

impl Axis {
    /// How much of it a candidate takes.
    pub fn size(&self, candidate: &Candidate) -> u64 {
        let Load { bytes, nanos, prompt_nanos, resident } = candidate.takes;
        let takes = [bytes as f64, nanos, prompt_nanos, resident as f64];
        takes.iter().zip(&self.per).map(|(takes, per)| takes * per).sum::<f64>().round() as u64
    }

    /// What it is counted in.
    pub fn unit(&self) -> &'static str {
        const UNITS: [&str; 4] =
            ["bytes", "nanoseconds", "nanoseconds of a prompt", "bytes of memory"];
        self.alone.map_or("billionths of the caps", |alone| UNITS[alone])
    }

    /// The goal's cap on it, where it is that of one cap alone.
    pub fn limit(&self, goal: &Goal) -> Option<u64> {
        let time = |max: Option<f64>| max.map(|max| max as u64);
        let caps =
            [goal.max_bytes, time(goal.max_nanos), time(goal.max_prompt_nanos), goal.max_resident];
        caps[self.alone?]
    }
}
