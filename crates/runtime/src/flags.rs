//! Optimization levels, and the six flags that they switch: each a real switch of the runtime.
//!
//! In: a level, and flags that the user set. Out: [`Settings`].

use crate::Settings;
use crate::tuning::{self, Tuning};

/// What to optimize for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OptLevel {
    /// Every optimization that is known to help, as this machine was found.
    #[default]
    Default,
    /// The least memory beside weights and KV cache: fewer rows at once.
    Memory,
    /// What `sterna tune` measured to be fastest on this machine, and weights in huge pages of each
    /// process instead of a mapping that processes share.
    Aggressive,
}

/// The levels by name.
pub const LEVELS: &[(&str, OptLevel)] = &[
    ("default", OptLevel::Default),
    ("memory", OptLevel::Memory),
    ("aggressive", OptLevel::Aggressive),
];

/// Rows at once at the level `memory`: the arena grows with them, and below this linear layers
/// slow down.
const MEMORY_ROWS: usize = 64;

/// The relative error of a matrix that adaptive precision allows.
pub const PRECISION_BUDGET: f32 = 0.01;

/// Which optimizations are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Flags {
    pub ultra_fusion: bool,
    pub dynamic_batching: bool,
    pub adaptive_precision: bool,
    pub memory_pooling: bool,
    pub compute_overlap: bool,
    pub kernel_optimization: bool,
}

/// One optimization.
pub struct Flag {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Whether logits differ when it is switched.
    pub changes_numbers: bool,
    /// Whether it is on.
    pub get: fn(&Flags) -> bool,
    /// Switches it.
    pub set: fn(&mut Flags, bool),
}

/// Every flag.
pub const FLAGS: &[Flag] = &[
    Flag {
        name: "ultra_fusion",
        about: "norms, gates, residuals and rotations happen inside linear layers and attention",
        changes_numbers: false,
        get: |flags| flags.ultra_fusion,
        set: |flags, on| flags.ultra_fusion = on,
    },
    Flag {
        name: "dynamic_batching",
        about: "several sequences are computed in one batch",
        changes_numbers: false,
        get: |flags| flags.dynamic_batching,
        set: |flags, on| flags.dynamic_batching = on,
    },
    Flag {
        name: "adaptive_precision",
        about: "float matrices that lose at most 1% are packed in 8 bits",
        changes_numbers: true,
        get: |flags| flags.adaptive_precision,
        set: |flags, on| flags.adaptive_precision = on,
    },
    Flag {
        name: "memory_pooling",
        about: "values share memory by their lives",
        changes_numbers: false,
        get: |flags| flags.memory_pooling,
        set: |flags, on| flags.memory_pooling = on,
    },
    Flag {
        name: "compute_overlap",
        about: "the next weights are read from disk while a step computes",
        changes_numbers: false,
        get: |flags| flags.compute_overlap,
        set: |flags, on| flags.compute_overlap = on,
    },
    Flag {
        name: "kernel_optimization",
        about: "the work is cut as `sterna tune` measured it to be fastest",
        changes_numbers: false,
        get: |flags| flags.kernel_optimization,
        set: |flags, on| flags.kernel_optimization = on,
    },
];

impl OptLevel {
    /// The flags that it switches on.
    pub fn flags(self) -> Flags {
        Flags {
            ultra_fusion: true,
            dynamic_batching: true,
            adaptive_precision: false,
            memory_pooling: true,
            compute_overlap: true,
            kernel_optimization: self == Self::Aggressive,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        LEVELS.iter().find(|(_, level)| *level == self).expect("every level is listed").0
    }
}

impl Flags {
    /// The flags as settings have them.
    pub fn of(settings: &Settings) -> Self {
        Self {
            ultra_fusion: settings.fuse,
            dynamic_batching: settings.batch,
            adaptive_precision: settings.precision_budget.is_some(),
            memory_pooling: settings.pool,
            compute_overlap: settings.overlap,
            kernel_optimization: settings.tuning != Tuning::default(),
        }
    }

    /// Settings with the named flags off. What was tuned stays: it is in knobs that may have been
    /// set otherwise, too.
    ///
    /// # Errors
    /// The name that is no flag's, or `kernel_optimization`.
    pub fn without<'n>(
        settings: &Settings,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<Settings, String> {
        let mut flags = Self::of(settings);
        for name in names {
            let flag = FLAGS.iter().find(|flag| flag.name == name);
            let flag = flag.ok_or_else(|| format!("there is no optimization {name:?}"))?;
            if flag.name == "kernel_optimization" {
                return Err("what was tuned cannot be told from what was asked for".into());
            }
            (flag.set)(&mut flags, false);
        }
        Ok(flags.switched(settings.clone()))
    }

    fn switched(&self, base: Settings) -> Settings {
        let budget = base.precision_budget.unwrap_or(PRECISION_BUDGET);
        Settings {
            fuse: self.ultra_fusion,
            batch: self.dynamic_batching,
            pool: self.memory_pooling,
            overlap: self.compute_overlap,
            precision_budget: self.adaptive_precision.then_some(budget),
            ..base
        }
    }

    /// Settings with these flags; `tuned` are the knobs that were measured on this machine.
    #[must_use]
    pub fn settings<'n>(
        &self,
        level: OptLevel,
        base: Settings,
        tuned: impl IntoIterator<Item = (&'n str, usize)>,
    ) -> Settings {
        let mut settings = self.switched(base);
        if self.kernel_optimization {
            tuning::apply(&mut settings, tuned);
        }
        settings.own_weights = level == OptLevel::Aggressive;
        if level == OptLevel::Memory {
            settings.max_batch_rows = settings.max_batch_rows.min(MEMORY_ROWS);
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves T-9
    #[test]
    fn every_flag_switches_something_of_its_own() {
        let flags = OptLevel::Default.flags();
        let of =
            |flags: Flags| flags.settings(OptLevel::Default, Settings::default(), [("claims", 5)]);
        for flag in FLAGS {
            let mut other = flags;
            (flag.set)(&mut other, !(flag.get)(&flags));
            assert_ne!(of(other), of(flags), "{}", flag.name);
            let moved = FLAGS.iter().filter(|f| (f.get)(&other) != (f.get)(&flags)).count();
            assert_eq!(moved, 1, "{}", flag.name);
            (flag.set)(&mut other, true);
            let (on, off) = (of(other), Flags::without(&of(other), [flag.name]));
            if flag.name == "kernel_optimization" {
                assert!(off.is_err());
                continue;
            }
            let off = off.unwrap();
            assert_ne!(on, off, "{}", flag.name);
            assert!((flag.get)(&Flags::of(&on)) && !(flag.get)(&Flags::of(&off)), "{}", flag.name);
        }
        assert!(Flags::without(&Settings::default(), ["fusion"]).is_err());
    }

    // proves T-12
    #[test]
    fn levels_are_what_they_say() {
        let tuned = [("claims", 5), ("max_batch_rows", 1024)];
        let of = |level: OptLevel| level.flags().settings(level, Settings::default(), tuned);
        assert_eq!(of(OptLevel::Default), Settings::default());
        assert_eq!(of(OptLevel::Memory).max_batch_rows, MEMORY_ROWS);
        let aggressive = of(OptLevel::Aggressive);
        assert_eq!((aggressive.tuning.claims, aggressive.max_batch_rows), (5, 1024));
        assert!(LEVELS.iter().all(|(name, level)| level.name() == *name));
    }
}
