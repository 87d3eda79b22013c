//! Knobs: numbers that change how fast a program runs and never what it computes.
//!
//! In: a machine. Out: the candidates of each knob, which `sterna tune` measures. To add a knob: a
//! field of [`Tuning`] (or of [`Settings`]), read where the work is cut, and a line in [`KNOBS`].

use crate::Settings;
use sterna_kernels::dot::FEW_ROWS;

/// How the work of a step is cut for the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Parts of a linear layer per worker: enough that one who was held up does not hold up the
    /// others, few enough that taking them costs nothing.
    pub claims: usize,
    /// Rows up to which block-encoded weights are used as packed; beyond, they are unpacked once
    /// for all rows.
    pub few_rows: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { claims: 8, few_rows: FEW_ROWS }
    }
}

/// One number to tune.
pub struct Knob {
    /// Its name in the machine profile.
    pub name: &'static str,
    /// What it decides.
    pub about: &'static str,
    /// Values worth measuring on so many CPUs, the default among them or not.
    pub candidates: fn(n_cpus: usize) -> Vec<usize>,
    /// Its value.
    pub get: fn(&Settings) -> usize,
    /// Sets it.
    pub set: fn(&mut Settings, usize),
}

/// Every knob, in the order in which they are tuned: each with those before it at their best.
pub const KNOBS: &[Knob] = &[
    Knob {
        name: "threads",
        about: "workers of the team",
        candidates: |n_cpus| {
            let halves = std::iter::successors(Some(n_cpus), |n| (*n > 1).then_some(n / 2));
            halves.collect()
        },
        get: Settings::n_workers,
        set: |settings, n| settings.threads = Some(n),
    },
    Knob {
        name: "claims",
        about: "parts of a linear layer per worker",
        candidates: |_| vec![2, 4, 16, 32],
        get: |settings| settings.tuning.claims,
        set: |settings, n| settings.tuning.claims = n,
    },
    Knob {
        name: "few_rows",
        about: "rows up to which weights are used as packed",
        candidates: |_| vec![2, 4, 6, 11],
        get: |settings| settings.tuning.few_rows,
        set: |settings, n| settings.tuning.few_rows = n,
    },
    Knob {
        name: "max_batch_rows",
        about: "tokens of a prompt computed at once",
        candidates: |_| vec![128, 256, 1024],
        get: |settings| settings.max_batch_rows,
        set: |settings, n| settings.max_batch_rows = n,
    },
];

/// Sets the named knobs; the names that no knob has any more.
pub fn apply<'n>(
    settings: &mut Settings,
    values: impl IntoIterator<Item = (&'n str, usize)>,
) -> Vec<&'n str> {
    let mut unknown = Vec::new();
    for (name, value) in values {
        match KNOBS.iter().find(|knob| knob.name == name) {
            Some(knob) => (knob.set)(settings, value),
            None => unknown.push(name),
        }
    }
    unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_knob_gives_back_what_it_was_set_to() {
        for (i, knob) in KNOBS.iter().enumerate() {
            let mut settings = Settings::default();
            (knob.set)(&mut settings, 3 + i);
            assert_eq!((knob.get)(&settings), 3 + i, "{}", knob.name);
            for (other, value) in KNOBS.iter().zip(KNOBS.iter().map(|k| (k.get)(&settings))) {
                let before = (other.get)(&Settings::default());
                assert!(other.name == knob.name || value == before, "{} moved", other.name);
            }
            assert!((knob.candidates)(4).iter().all(|&n| n > 0));
        }
    }

    #[test]
    fn unknown_names_are_given_back() {
        let mut settings = Settings::default();
        assert_eq!(apply(&mut settings, [("claims", 5), ("tiles", 3)]), ["tiles"]);
        assert_eq!(settings.tuning.claims, 5);
    }
}
