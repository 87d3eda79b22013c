//! The report of an optimization: every number with where it came from, as JSON, HTML and text.
//!
//! In: a run in `measure`'s schema, and [`Details`] of the search. Out: `report.json` (that schema,
//! with the details under `optimize`), `report.html` (self-contained), a page of text, and the
//! evidence that rides in the artifact: the same JSON without the bulky lists.

pub mod damage;
mod details;
mod html;
pub mod page;
mod plots;
mod text;
pub mod views;
mod waterfall;

use crate::error::{OptimizeError, Result};
use crate::pipeline::write_file;
use serde_json::Value;
use std::path::{Path, PathBuf};
use sterna_measure::RunReport;

pub use details::{
    ARTIFACT_HASH, Ablation, Details, ModelFacts, PLAN_HASH, Point, Race, ReliabilityBins,
    Sensitivity, Series, TensorRow,
};
pub use text::{target as target_line, verdict};

/// A run and what is peculiar to optimizing.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Metrics, targets, machine, workload.
    pub run: RunReport,
    /// Search, tensors, distributions.
    pub details: Details,
}

/// The key of the details in the JSON.
const DETAILS_KEY: &str = "optimize";

impl Report {
    /// The report as JSON text.
    ///
    /// # Errors
    /// When two metrics share a name.
    pub fn to_json(&self) -> Result<String> {
        let value = self.to_value()?;
        Ok(serde_json::to_string_pretty(&value).expect("plain data") + "\n")
    }

    pub(crate) fn to_value(&self) -> Result<Value> {
        let mut value: Value = serde_json::from_str(&self.run.to_json()?).expect("own JSON");
        let details = serde_json::to_value(&self.details).expect("plain data");
        value.as_object_mut().expect("a struct").insert(DETAILS_KEY.into(), details);
        Ok(value)
    }

    /// Reads a report or an artifact's evidence; every figure is checked again.
    ///
    /// # Errors
    /// When it is neither, or claims what does not follow from its numbers.
    pub fn from_value(value: &Value) -> Result<Self> {
        let bad = |why: String| OptimizeError::Input(format!("the report: {why}"));
        let mut run = value.clone();
        let details = run.as_object_mut().and_then(|fields| fields.shift_remove(DETAILS_KEY));
        let details = details.ok_or_else(|| bad("it is not of an optimization".into()))?;
        let details = serde_json::from_value(details).map_err(|e| bad(e.to_string()))?;
        Ok(Self { run: RunReport::from_json(&run.to_string())?, details })
    }

    /// Writes `report.json` and `report.html` into a folder.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(PathBuf, PathBuf)> {
        let (json, html) = (folder.join("report.json"), folder.join("report.html"));
        write_file(&json, self.to_json()?.as_bytes())?;
        write_file(&html, html::render(self)?.as_bytes())?;
        Ok((json, html))
    }

    /// The report without its bulky lists, in exactly `max_bytes`: metrics that are not about the
    /// budget go before it would be longer, and spaces fill what is left.
    pub fn evidence(&self, max_bytes: usize) -> String {
        let mut short = self.clone();
        short.details = short.details.without_lists();
        loop {
            let text = short.to_value().expect("names were unique before").to_string();
            let targets = short.run.targets.iter().map(|target| target.name());
            let wanted: Vec<String> = targets.chain(damage::METRICS).map(str::to_owned).collect();
            let is_wanted = |name: &str| wanted.iter().any(|wanted| wanted == name);
            let is_flips = |name: &str| name.ends_with(damage::FLIPS);
            let last = |is_spare: &dyn Fn(&str) -> bool| {
                short.run.metrics.iter().rposition(|metric| is_spare(metric.name()))
            };
            // What tasks show stays as long as there is room for it.
            let spare = last(&|name| !is_wanted(name) && !is_flips(name));
            let spare = spare.or_else(|| last(&|name| !is_wanted(name)));
            match spare {
                Some(index) if text.len() > max_bytes => {
                    short.run.metrics.remove(index);
                }
                _ => return padded(&text, max_bytes),
            }
        }
    }
}

/// JSON with spaces after it, so that a file is as long with its evidence as it was foretold.
pub(crate) fn padded(json: &str, n_bytes: usize) -> String {
    format!("{json:<n_bytes$}")
}

/// `report.html` of a report or an artifact's evidence.
///
/// # Errors
/// When it is neither.
pub fn html(evidence: &Value) -> Result<String> {
    html::render(&Report::from_value(evidence)?)
}

/// A page of text of a report or an artifact's evidence.
///
/// # Errors
/// When it is neither.
pub fn text(evidence: &Value) -> Result<String> {
    Ok(text::render(&Report::from_value(evidence)?))
}

#[cfg(test)]
pub(crate) mod tests;
