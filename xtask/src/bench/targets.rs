//! `cargo xtask bench --targets`: every target of `workloads/targets.toml` beside what was
//! measured.
//!
//! In: the rows, and the commands of `sterna` that measure ([`tools`]). Out: one Markdown table and
//! the same as JSON. What cannot be measured has a reason in its place; a missed target has the
//! profile's longest ops beside it.

mod rows;
mod table;
mod tools;

use super::Setup;
use super::workload::{Test, Workload};
use crate::root;
use anyhow::{Context, Result, bail, ensure};
use rows::{Figure, Row};
use std::collections::BTreeMap;
use tools::{Case, Tools};

/// One measurement of a row.
pub struct Cell<'r> {
    row: &'r Row,
    shape: &'r str,
    encoding: &'r str,
    tests: &'r [Test],
    /// What was measured, or why it was not.
    measured: Result<f64, String>,
    /// Where the time went, when the target was missed.
    why: Option<String>,
}

/// Measures the rows, or those named in `only`, and writes the table after each of them.
///
/// # Errors
/// When the rows cannot be read, or a result not be written.
pub fn run(setup: &Setup, only: &[String], rounds: Option<usize>) -> Result<bool> {
    let path = root::root().join("workloads/targets.toml");
    let text = std::fs::read_to_string(&path).context("cannot read workloads/targets.toml")?;
    let rows = rows::parse(&text).context("workloads/targets.toml")?;
    for name in only {
        if rows.iter().all(|row| row.name != *name) {
            let known: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
            bail!("--only {name}: there is no such row; there are {}", known.join(", "));
        }
    }
    let wanted = |row: &&Row| only.is_empty() || only.contains(&row.name);
    let rows: Vec<&Row> = rows.iter().filter(wanted).collect();
    let tools = Tools::new(setup);
    let facts = table::Facts::of(setup)?;
    let [markdown, json] = ["md", "json"].map(|e| setup.folder.join(format!("targets.{e}")));
    let mut cells: Vec<Cell> = Vec::new();
    let mut workloads = BTreeMap::new();
    for row in rows {
        for shape in &row.shapes {
            if !workloads.contains_key(shape) {
                let mut workload = Workload::read(&root::root(), shape)?;
                workload.rounds = rounds.unwrap_or(workload.rounds);
                workloads.insert(shape.clone(), workload);
            }
            let workload = &workloads[shape];
            for encoding in &row.encodings {
                for tests in row.cases() {
                    let case = Case { row, shape, encoding, tests };
                    let cell = measure(setup, &tools, workload, case);
                    println!("{}", table::line(&cell));
                    cells.push(cell);
                }
            }
        }
        super::write(&markdown, &table::markdown(&facts, &cells))?;
        super::write(&json, &serde_json::to_string_pretty(&table::json(&facts, &cells))?)?;
    }
    ensure!(!cells.is_empty(), "workloads/targets.toml has no rows");
    println!("\n{}", table::markdown(&facts, &cells));
    println!("this table is in {} and {}", markdown.display(), json.display());
    Ok(true)
}

fn measure<'r>(setup: &Setup, tools: &Tools, workload: &Workload, case: Case<'r>) -> Cell<'r> {
    let Case { row, shape, encoding, tests } = case;
    // Kernels need no file.
    let file = match row.figure {
        Figure::KernelShare => Ok(Default::default()),
        _ => setup.model(shape, workload, encoding).map_err(|error| format!("{error:#}")),
    };
    let measured = file.clone().and_then(|file| tools.measure(&case, &file, workload.rounds));
    let is_missed = measured.as_ref().is_ok_and(|value| !row.is_met(*value));
    let why = is_missed.then(|| file.and_then(|file| tools.why(&case, &file)));
    let why = why.map(|why| why.unwrap_or_else(|reason| format!("no profile: {reason}")));
    Cell { row, shape, encoding, tests, measured, why }
}
