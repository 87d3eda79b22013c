//! The gate: an artifact whose own evidence misses what was asked of it is not served (A4).
//!
//! In: an opened model. Out: where it stands. What carries no evidence claims nothing and passes.

use crate::report::{self, Report};
use sterna_measure::report::Status;
use sterna_model::Model;
use sterna_model::artifact::{EVIDENCE_KEY, PLAN_KEY};

/// Where a model stands by its own evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is no artifact: nothing is claimed.
    NoEvidence,
    /// Every cap was kept, by measurement.
    Met,
    /// A cap was missed or could not be measured, or the evidence cannot be read: in words.
    NotMet(String),
}

impl Standing {
    /// Its name in lists and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Standing::NoEvidence => "none",
            Standing::Met => "met",
            Standing::NotMet(_) => "not_met",
        }
    }
}

/// Reads a model's evidence.
pub fn standing(model: &Model) -> Standing {
    let Some(evidence) = model.metadata.str(EVIDENCE_KEY) else {
        // An artifact that lost its evidence is not one that never claimed anything.
        return match model.metadata.str(PLAN_KEY) {
            Some(_) => Standing::NotMet("it has a plan and no evidence".into()),
            None => Standing::NoEvidence,
        };
    };
    let report = serde_json::from_str(evidence).map_err(|error| error.to_string());
    let report = report.and_then(|value| Report::from_value(&value).map_err(|e| e.to_string()));
    match report {
        Ok(report) => of_report(&report),
        Err(error) => Standing::NotMet(format!("its evidence cannot be read: {error}")),
    }
}

fn of_report(report: &Report) -> Standing {
    let unmet = report.run.targets.iter().filter(|target| target.status() != Status::Met);
    let unmet: Vec<String> = unmet.map(report::target_line).collect();
    match unmet.is_empty() {
        true => Standing::Met,
        false => Standing::NotMet(unmet.join("; ")),
    }
}
