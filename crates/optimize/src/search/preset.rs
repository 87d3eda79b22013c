//! Where a search starts from, by how large the model is and what it is for: the strategy table of
//! system 001 (S-9). It is a starting point only: the plan is measured like every other, and kept
//! where nothing measures better.

use super::{Group, Trial, groups};
use sterna_formats::EncodingRef;
use sterna_formats::encodings::by_name;
use sterna_model::Graph;

/// What the model is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UseCase {
    /// Nothing in particular: the size decides.
    #[default]
    General,
    /// Answers at once.
    Realtime,
    /// Answers as good as can be.
    Accuracy,
}

/// A line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// What it is called there.
    pub name: &'static str,
    /// Encodings that are meant, the first that may be used counts.
    encodings: &'static [&'static str],
    /// Percent of channels to prune.
    pub pruned_percent: u32,
    /// The temperature to distil at, where that is advised.
    pub temperature: Option<u32>,
}

const INT8: Preset =
    Preset { name: "int8", encodings: &["Q8_0"], pruned_percent: 30, temperature: None };
const MIXED: Preset = Preset {
    name: "mixed, about 6 bits",
    encodings: &["Q6_K", "Q5_K", "Q5_1", "Q5_0"],
    pruned_percent: 50,
    temperature: Some(4),
};
const INT4: Preset = Preset {
    name: "int4",
    encodings: &["Q4_K", "Q4_1", "Q4_0", "IQ4_NL"],
    pruned_percent: 70,
    temperature: Some(5),
};

/// What the labels of its plans begin with.
const LABEL: &str = "table: ";

/// The line for a source of so many bytes.
pub fn preset(source_bytes: u64, use_case: UseCase) -> Preset {
    const MB: u64 = 1_000_000;
    match use_case {
        UseCase::Realtime => Preset { temperature: None, ..INT4 },
        UseCase::Accuracy => INT8,
        UseCase::General if source_bytes < 50 * MB => INT8,
        UseCase::General if source_bytes <= 200 * MB => MIXED,
        UseCase::General => INT4,
    }
}

impl Preset {
    /// The encoding that it starts from; `None` where none of them may be used.
    pub fn encoding(&self, allow: &[EncodingRef]) -> Option<EncodingRef> {
        let named = self.encodings.iter().filter_map(|name| by_name(name));
        named.into_iter().find(|encoding| allow.contains(encoding))
    }

    /// Its plan, as label and choices.
    pub fn start(
        &self,
        allow: &[EncodingRef],
        groups: &[Group],
        graph: &Graph,
    ) -> Option<(String, Vec<usize>)> {
        let encoding = self.encoding(allow)?;
        let label = format!("{LABEL}{} ({})", self.name, encoding.name());
        let choices = groups::uniform(groups, encoding, graph);
        choices.iter().any(|choice| *choice != 0).then_some((label, choices))
    }

    /// What the table says of such a model, and whether it was measured, for the report.
    pub fn note(&self, source_bytes: u64, trials: &[Trial]) -> String {
        let distilled = self.temperature.map_or(String::new(), |temperature| {
            format!(" and distillation at temperature {temperature}")
        });
        let is_own = |trial: &&Trial| trial.label.starts_with(LABEL);
        let measured = match trials.iter().find(is_own) {
            Some(trial) => format!("measured like every other plan: KL {:.5}", trial.loss.kl),
            None => {
                "not measured: it is not allowed, breaks a cap, or was seen to be beaten".into()
            }
        };
        format!(
            "start: for {:.1} MB the strategy table names {}, {measured}. It names \
             pruning of {}%{distilled} too, which `sterna prune` does and measures",
            source_bytes as f64 / 1e6,
            self.name,
            self.pruned_percent
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves S-9
    #[test]
    fn the_table_has_its_boundaries_at_50_and_200_megabytes() {
        let name = |bytes| preset(bytes, UseCase::General).name;
        assert_eq!([name(0), name(49_999_999)], ["int8"; 2]);
        assert_eq!([name(50_000_000), name(200_000_000)], ["mixed, about 6 bits"; 2]);
        assert_eq!(name(200_000_001), "int4");
        let general = |bytes| preset(bytes, UseCase::General);
        assert_eq!([0, 60_000_000, u64::MAX].map(|b| general(b).pruned_percent), [30, 50, 70]);
        assert_eq!(general(60_000_000).temperature, Some(4));
        for bytes in [0, 100_000_000, u64::MAX] {
            let realtime = preset(bytes, UseCase::Realtime);
            assert_eq!((realtime.name, realtime.pruned_percent), ("int4", 70));
            let accuracy = preset(bytes, UseCase::Accuracy);
            assert_eq!((accuracy.name, accuracy.pruned_percent), ("int8", 30));
        }
    }

    #[test]
    fn it_starts_from_what_may_be_used() {
        let allow = |names: &[&str]| names.iter().filter_map(|n| by_name(n)).collect::<Vec<_>>();
        let found = INT4.encoding(&allow(&["Q4_0", "Q8_0"])).unwrap();
        assert_eq!((found.name(), INT8.encoding(&allow(&["Q4_0"])).is_none()), ("Q4_0", true));
    }
}
