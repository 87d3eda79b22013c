//! How results look: tables, JSON, sizes, exit codes.

use comfy_table::{Table, presets};
use std::process::ExitCode;
use sterna_formats::FormatError;
use sterna_measure::MeasureError;
use sterna_measure::RunReport;
use sterna_measure::report::Status;
use sterna_optimize::OptimizeError;
use sterna_runtime::RuntimeError;
use sterna_train::TrainError;

/// An error whose cause is the user's input; the program ends with code 2.
#[derive(Debug)]
pub struct BadInput(pub String);

impl std::fmt::Display for BadInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

/// A [`BadInput`] as an error.
pub fn bad_input(message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(BadInput(message.into()))
}

/// Says what could not be as asked: in the log of a server, or on standard error.
pub fn warn(text: &str) {
    match tracing::dispatcher::has_been_set() {
        true => tracing::warn!("{text}"),
        false => eprintln!("warning: {text}"),
    }
}

/// The same for what is as asked and could be better.
pub fn note(text: &str) {
    match tracing::dispatcher::has_been_set() {
        true => tracing::info!("{text}"),
        false => eprintln!("note: {text}"),
    }
}

/// 2 where the input is wrong, else 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.chain().any(is_input) { 2 } else { 1 }
}

fn is_input(error: &(dyn std::error::Error + 'static)) -> bool {
    let optimize = error.downcast_ref::<OptimizeError>();
    let measure = error.downcast_ref::<MeasureError>();
    let train = error.downcast_ref::<TrainError>();
    let io = error.downcast_ref::<std::io::Error>();
    error.is::<BadInput>()
        || error.is::<FormatError>()
        || matches!(
            optimize,
            Some(
                OptimizeError::Input(_)
                    | OptimizeError::Format(_)
                    | OptimizeError::Measure(MeasureError::Data(_))
            )
        )
        || matches!(
            train,
            Some(TrainError::Input(_) | TrainError::Format(_) | TrainError::Teacher(_))
        )
        || matches!(measure, Some(MeasureError::Data(_)))
        || error.downcast_ref().is_some_and(RuntimeError::is_input)
        || io.is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}

/// How a command ends that had a budget to keep: 1 where a cap is not kept or could not be judged.
pub fn graded(run: &RunReport) -> ExitCode {
    match run.grade() {
        None | Some(Status::Met) => ExitCode::SUCCESS,
        Some(Status::Missed | Status::NotEvaluated) => ExitCode::from(1),
    }
}

/// An empty table with these headings.
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(headings);
    table
}

/// A text as one paragraph of short lines, those after the first indented by so many spaces.
pub fn paragraph(text: &str, indent: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("never empty");
        if !line.is_empty() && line.chars().count() + word.chars().count() >= 80 {
            lines.push(word.to_owned());
        } else {
            let gap = if line.is_empty() { "" } else { " " };
            *line += &format!("{gap}{word}");
        }
    }
    lines.join(&format!("\n{:indent$}", ""))
}

/// Bytes in the unit people read: `1.2 MB` (powers of ten).
pub fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}

/// Prints a value as JSON.
///
/// # Errors
/// When it has none.
pub fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
