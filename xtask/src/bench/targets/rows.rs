//! The rows of `workloads/targets.toml`.

use super::super::workload::Test;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// What is read of a measurement; each comes from one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// The least share of its ceiling of any matrix of an encoding.
    KernelShare,
    /// The share of the ceiling end to end.
    Share,
    /// Tokens/s over llama.cpp's.
    Ratio,
    /// The least factor in tokens/s between tests that follow each other.
    Rise,
    /// The share of time outside linear layers and attention.
    Overhead,
    /// The share of the roofline that attention reaches.
    AttentionShare,
    /// Milliseconds to the first token beyond its prefill.
    WarmStartMs,
    /// Cold start over reading the file and packing at memory speed.
    ColdStartRatio,
    /// PSS that a second process adds, in percent of weight bytes.
    SecondProcessPercent,
}

/// One target, for some shapes, encodings and tests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// For `--only`.
    pub name: String,
    /// For people.
    pub what: String,
    pub figure: Figure,
    /// The target: one of the two.
    pub at_least: Option<f64>,
    pub at_most: Option<f64>,
    /// Names of workloads.
    pub shapes: Vec<String>,
    pub encodings: Vec<String>,
    #[serde(default)]
    pub tests: Vec<Test>,
    /// More flags for `sterna`.
    #[serde(default)]
    pub flags: Vec<String>,
    /// The peers' folder, below that of `cargo xtask peers`.
    pub peers: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    row: Vec<Row>,
}

/// Reads the rows.
///
/// # Errors
/// When one has no target or two, or tests that its figure cannot have.
pub fn parse(text: &str) -> Result<Vec<Row>> {
    let file: File = toml::from_str(text)?;
    for row in &file.row {
        row.check().with_context(|| format!("row \"{}\"", row.name))?;
    }
    Ok(file.row)
}

impl Row {
    fn check(&self) -> Result<()> {
        ensure!(
            self.at_least.is_some() != self.at_most.is_some(),
            "give one of at_least and at_most"
        );
        ensure!(!self.shapes.is_empty() && !self.encodings.is_empty(), "give shapes and encodings");
        let n_tests = self.tests.len();
        match self.figure {
            Figure::WarmStartMs | Figure::ColdStartRatio | Figure::SecondProcessPercent => {
                ensure!(n_tests == 0, "starting has no tests")
            }
            Figure::Rise => ensure!(n_tests > 1, "a rise needs two tests at least"),
            _ => ensure!(n_tests > 0, "give tests, such as pp512"),
        }
        Ok(())
    }

    /// The tests of each measurement: one, for a rise all together, for starting none.
    pub fn cases(&self) -> Vec<&[Test]> {
        match self.figure {
            Figure::Rise => vec![&self.tests],
            _ if self.tests.is_empty() => vec![&[]],
            _ => self.tests.chunks(1).collect(),
        }
    }

    /// Whether a value is what is wanted.
    pub fn is_met(&self, value: f64) -> bool {
        self.at_least.is_none_or(|least| value >= least)
            && self.at_most.is_none_or(|most| value <= most)
    }

    /// The target in words: `at least 72%`.
    pub fn wanted(&self) -> String {
        match (self.at_least, self.at_most) {
            (Some(least), _) => format!("at least {}", self.shown(least)),
            (_, most) => format!("at most {}", self.shown(most.unwrap_or(f64::NAN))),
        }
    }

    /// A value of this row in words.
    pub fn shown(&self, value: f64) -> String {
        match self.figure {
            Figure::KernelShare | Figure::Share | Figure::Overhead | Figure::AttentionShare => {
                format!("{:.0}%", 100.0 * value)
            }
            Figure::Ratio | Figure::Rise | Figure::ColdStartRatio => format!("{value:.2}x"),
            Figure::WarmStartMs => format!("{value:.1} ms"),
            Figure::SecondProcessPercent => format!("{value:.1}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::workload::Workload;
    use crate::root;
    use std::collections::BTreeSet;

    #[test]
    fn the_targets_can_be_read_and_name_known_shapes() {
        let text = std::fs::read_to_string(root::root().join("workloads/targets.toml")).unwrap();
        let rows = parse(&text).unwrap();
        let names: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names.len(), rows.len(), "names are unique");
        for shape in rows.iter().flat_map(|row| &row.shapes) {
            Workload::read(&root::root(), shape).unwrap();
        }
    }

    #[test]
    fn targets_are_met_or_missed_and_mistakes_are_found() {
        let row = "[[row]]\nname = \"a\"\nwhat = \"b\"\nfigure = \"share\"\nat_least = 0.72\n\
                   shapes = [\"smoke\"]\nencodings = [\"Q8_0\"]\ntests = [\"pp16\", \"tg8\"]\n";
        let rows = parse(row).unwrap();
        assert!(rows[0].is_met(0.72) && !rows[0].is_met(0.71));
        assert_eq!((rows[0].wanted().as_str(), rows[0].cases().len()), ("at least 72%", 2));
        let error = |text: String| format!("{:#}", parse(&text).unwrap_err());
        assert!(error(format!("{row}at_most = 1\n")).contains("one of at_least and at_most"));
        assert!(error(row.replace("\"share\"", "\"warm_start_ms\"")).contains("no tests"));
        assert!(error(row.replace("\"share\"", "\"shares\"")).contains("shares"));
        let rise = row.replace("\"share\"", "\"rise\"");
        assert_eq!(parse(&rise).unwrap()[0].cases().len(), 1);
        assert!(error(rise.replace(", \"tg8\"", "")).contains("two tests"));
    }
}
