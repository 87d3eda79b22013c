//! Targets beside what was measured, as Markdown and JSON.

use super::super::Setup;
use super::Cell;
use crate::root;
use anyhow::Result;
use serde_json::{Value, json};
use std::process::Command;
use sterna_measure::clock::timestamp_utc;
use sterna_measure::machine::Machine;

/// Where and when.
pub struct Facts {
    pub cpu: String,
    pub n_cpus: usize,
    pub n_threads: usize,
    pub date: String,
    pub sterna: String,
}

impl Facts {
    /// Asks the machine and the binary.
    ///
    /// # Errors
    /// When the binary does not start.
    pub fn of(setup: &Setup) -> Result<Self> {
        let machine = Machine::detect();
        let n_cpus = machine.usable_cpus();
        let sterna = root::output_of(Command::new(&setup.sterna).arg("--version"))?;
        Ok(Self {
            cpu: machine.cpu,
            n_cpus,
            n_threads: setup.threads.unwrap_or(n_cpus),
            date: timestamp_utc(),
            sterna: sterna.trim().to_owned(),
        })
    }
}

/// `met`, `missed` or `unavailable`.
fn verdict(cell: &Cell) -> &'static str {
    match &cell.measured {
        Ok(value) if cell.row.is_met(*value) => "met",
        Ok(_) => "missed",
        Err(_) => "unavailable",
    }
}

fn tests(cell: &Cell) -> String {
    match cell.tests {
        [] => "start".into(),
        [one] => one.to_string(),
        [first, .., last] => format!("{first} to {last}"),
    }
}

/// A cell in one line, for while it goes on.
pub fn line(cell: &Cell) -> String {
    let measured = match &cell.measured {
        Ok(value) => cell.row.shown(*value),
        Err(reason) => format!("unavailable: {reason}"),
    };
    format!(
        "{}, {} {} {}: {measured}, wanted {}",
        cell.row.name,
        cell.shape,
        cell.encoding,
        tests(cell),
        cell.row.wanted()
    )
}

/// The table, under the facts it holds for.
pub fn markdown(facts: &Facts, cells: &[Cell]) -> String {
    let Facts { cpu, n_cpus, n_threads, date, sterna } = facts;
    let count = |word: &str| cells.iter().filter(|cell| verdict(cell) == word).count();
    let mut text = format!(
        "{cpu}, {n_cpus} CPUs, {n_threads} threads, {date}, {sterna}: {} met, {} missed, {} \
         unavailable.\n\n| target | shape | encoding | test | wanted | measured | | where the time \
         goes, or why there is no number |\n|---|---|---|---|---|---|---|---|\n",
        count("met"),
        count("missed"),
        count("unavailable")
    );
    for cell in cells {
        let (measured, note) = match &cell.measured {
            Ok(value) => (cell.row.shown(*value), cell.why.clone().unwrap_or_default()),
            Err(reason) => ("-".into(), format!("unavailable: {reason}")),
        };
        let cells = [
            &cell.row.what,
            cell.shape,
            cell.encoding,
            &tests(cell),
            &cell.row.wanted(),
            &measured,
            verdict(cell),
            &note.replace('|', "/"),
        ];
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text
}

/// The same for programs.
pub fn json(facts: &Facts, cells: &[Cell]) -> Value {
    let rows = cells.iter().map(|cell| {
        json!({
            "row": cell.row.name,
            "what": cell.row.what,
            "shape": cell.shape,
            "encoding": cell.encoding,
            "tests": cell.tests.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "at_least": cell.row.at_least,
            "at_most": cell.row.at_most,
            "measured": cell.measured.as_ref().ok(),
            "verdict": verdict(cell),
            "unavailable": cell.measured.as_ref().err(),
            "why": cell.why,
        })
    });
    json!({
        "cpu": facts.cpu,
        "n_cpus": facts.n_cpus,
        "n_threads": facts.n_threads,
        "date": facts.date,
        "sterna": facts.sterna,
        "rows": rows.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::rows::parse;
    use super::*;

    #[test]
    fn met_missed_and_unavailable_stand_in_one_table() {
        let rows = parse(
            "[[row]]\nname = \"prefill\"\nwhat = \"prompt\"\nfigure = \"share\"\nat_least = 0.72\n\
             shapes = [\"smoke\"]\nencodings = [\"Q8_0\"]\ntests = [\"pp16\"]\n",
        )
        .unwrap();
        let cell = |measured, why: Option<&str>| Cell {
            row: &rows[0],
            shape: "smoke",
            encoding: "Q8_0",
            tests: &rows[0].tests,
            measured,
            why: why.map(Into::into),
        };
        let cells = [
            cell(Ok(0.75), None),
            cell(Ok(0.30), Some("attention 60% of time")),
            cell(Err("no | such flag".into()), None),
        ];
        let facts = Facts {
            cpu: "a CPU".into(),
            n_cpus: 4,
            n_threads: 2,
            date: "2026-11-21T12:00:00Z".into(),
            sterna: "sterna 0.1.0".into(),
        };
        let text = markdown(&facts, &cells);
        for wanted in [
            "1 met, 1 missed, 1 unavailable",
            "| prompt | smoke | Q8_0 | pp16 | at least 72% | 75% | met |  |",
            "| at least 72% | 30% | missed | attention 60% of time |",
            "| - | unavailable | unavailable: no / such flag |",
        ] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
        let json = json(&facts, &cells);
        assert_eq!(json["rows"][1]["verdict"], "missed");
        assert_eq!(json["rows"][2]["measured"], Value::Null);
        assert!(line(&cells[0]).contains("75%, wanted at least 72%"));
    }
}
