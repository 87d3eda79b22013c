//! `--opt-level` and `--flags`: which of the runtime's optimizations are on.

use crate::show::bad_input;
use sterna_model::plan::nearest;
use sterna_runtime::flags::{FLAGS, Flag, Flags, LEVELS, OptLevel};

/// Which optimizations are on.
#[derive(clap::Args, Clone, Debug)]
pub struct OptArgs {
    /// What to optimize for: default; memory (the smallest arena); aggressive (as `sterna tune`
    /// measured to be fastest on this machine, and weights in huge pages of its own: faster to
    /// read, not shared between processes).
    #[arg(long, default_value = "default", value_name = "LEVEL")]
    opt_level: String,
    /// Optimizations to switch, by commas: NAME=on|off|auto, or auto for all that change no number.
    /// auto measures each at the start and switches off what costs. Names: ultra_fusion,
    /// dynamic_batching, adaptive_precision, memory_pooling, compute_overlap, kernel_optimization.
    #[arg(long, value_delimiter = ',', value_name = "NAME=STATE")]
    flags: Vec<String>,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Optimizations {
    /// The level.
    pub level: OptLevel,
    /// The flags; those in `auto` are on until measured.
    pub flags: Flags,
    /// The names of the flags to measure.
    pub auto: Vec<&'static str>,
    /// The names of the flags that the user spoke of.
    pub named: Vec<&'static str>,
}

impl OptArgs {
    /// What they say.
    ///
    /// # Errors
    /// When a level, a flag or a state is unknown.
    pub fn read(&self) -> anyhow::Result<Optimizations> {
        let level = self.level()?;
        let mut read =
            Optimizations { level, flags: level.flags(), auto: Vec::new(), named: Vec::new() };
        for text in &self.flags {
            read.switch(text)?;
        }
        Ok(read)
    }

    fn level(&self) -> anyhow::Result<OptLevel> {
        let found = LEVELS.iter().find(|(name, _)| *name == self.opt_level);
        found.map(|(_, level)| *level).ok_or_else(|| {
            let hint = hint(&self.opt_level, LEVELS.iter().map(|(name, _)| *name));
            bad_input(format!("--opt-level {} is unknown; {hint}", self.opt_level))
        })
    }

    /// The same choices as flags, for a process that this one starts.
    pub fn as_flags(&self) -> Vec<String> {
        let mut flags = vec!["--opt-level".to_owned(), self.opt_level.clone()];
        if !self.flags.is_empty() {
            flags.extend(["--flags".to_owned(), self.flags.join(",")]);
        }
        flags
    }

    /// The same at another level.
    #[must_use]
    pub fn at(&self, level: OptLevel) -> Self {
        Self { opt_level: level.name().into(), ..self.clone() }
    }

    /// The same with one more flag switched.
    #[must_use]
    pub fn with(&self, flag: &Flag, on: bool) -> Self {
        let mut other = self.clone();
        other.flags.push(format!("{}={}", flag.name, if on { "on" } else { "off" }));
        other
    }
}

impl Optimizations {
    fn switch(&mut self, text: &str) -> anyhow::Result<()> {
        if text == "auto" {
            let all = FLAGS.iter().filter(|flag| !flag.changes_numbers);
            return all.map(|flag| flag.name).try_for_each(|name| self.set(name, "auto"));
        }
        let (name, state) = text.split_once('=').unwrap_or((text, "on"));
        self.set(name, state)
    }

    fn set(&mut self, name: &str, state: &str) -> anyhow::Result<()> {
        let canonical = name.trim().replace('-', "_");
        let Some(flag) = FLAGS.iter().find(|flag| flag.name == canonical) else {
            let hint = hint(&canonical, FLAGS.iter().map(|flag| flag.name));
            return Err(bad_input(format!("--flags: there is no optimization {name:?}; {hint}")));
        };
        self.auto.retain(|&auto| auto != flag.name);
        self.named.push(flag.name);
        match state.trim() {
            "on" | "true" => (flag.set)(&mut self.flags, true),
            "off" | "false" => (flag.set)(&mut self.flags, false),
            "auto" if flag.changes_numbers => {
                return Err(bad_input(format!(
                    "--flags: {name} changes numbers, so it is on or off, never auto"
                )));
            }
            "auto" => {
                (flag.set)(&mut self.flags, true);
                self.auto.push(flag.name);
            }
            other => {
                return Err(bad_input(format!(
                    "--flags: {name}={other} is no state; give on, off or auto"
                )));
            }
        }
        Ok(())
    }
}

fn hint<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("known are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(level: &str, flags: &[&str]) -> Result<Optimizations, String> {
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        let args = OptArgs { opt_level: level.into(), flags };
        args.read().map_err(|error| error.to_string())
    }

    // proves T-9, T-19 (flags)
    #[test]
    fn flags_are_switched_over_the_level() {
        let read_flags = read("aggressive", &["ultra-fusion=off", "adaptive_precision"]).unwrap();
        assert!(!read_flags.flags.ultra_fusion && read_flags.flags.adaptive_precision);
        assert!(read_flags.flags.kernel_optimization && read_flags.auto.is_empty());
        let auto = read("default", &["auto", "memory_pooling=off"]).unwrap();
        assert_eq!(auto.auto.len(), FLAGS.len() - 2, "not the one that changes numbers");
        assert!(!auto.flags.memory_pooling && auto.flags.kernel_optimization);
    }

    #[test]
    fn mistakes_get_a_hint() {
        let said = |level, flags: &[&str]| read(level, flags).unwrap_err();
        assert!(said("agressive", &[]).contains("aggressive"));
        assert!(said("default", &["ultra_fuson=off"]).contains("ultra_fusion"));
        assert!(said("default", &["zzz=off"]).contains("known are ultra_fusion"));
        assert!(said("default", &["ultra_fusion=maybe"]).contains("on, off or auto"));
        assert!(said("default", &["adaptive_precision=auto"]).contains("changes numbers"));
    }
}
